"""What a judge's tokens cost, from a dated table."""

from __future__ import annotations

PRICES_OF = "2026-06"
"""The month of the prices: the maker's list prices as public pages give them, without any discount."""

USD_PER_MILLION: dict[str, tuple[float, float]] = {
    "gpt-4o-2024-05-13": (5.00, 15.00),
    "gpt-4o-2024-08-06": (2.50, 10.00),
    "gpt-4o-2024-11-20": (2.50, 10.00),
    "gpt-4o-mini-2024-07-18": (0.15, 0.60),
    "gpt-4.1-2025-04-14": (2.00, 8.00),
    "gpt-4.1-mini-2025-04-14": (0.40, 1.60),
    "gpt-4.1-nano-2025-04-14": (0.10, 0.40),
    "gpt-5-2025-08-07": (1.25, 10.00),
    "gpt-5-mini-2025-08-07": (0.25, 2.00),
}
"""US dollars for a million tokens in and a million tokens out, by the snapshot that a server reports."""


def price_usd(snapshot: str, tokens_in: int, tokens_out: int) -> float | None:
    """US dollars for so many tokens; None where the table does not know the snapshot."""
    if snapshot not in USD_PER_MILLION:
        return None
    price_in, price_out = USD_PER_MILLION[snapshot]
    return (tokens_in * price_in + tokens_out * price_out) / 1e6
