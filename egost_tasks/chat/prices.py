"""What tokens cost: the makers' list prices, as the library genai-prices has them on this machine; no network."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

_MAKERS = ("openai", "google")
"""Whose models have a price here: a model of one's own server has none, whatever others ask for the same weights."""


@cache
def prices_of() -> str:
    """Where the prices are from: the library and its version, as results record it."""
    return f"genai-prices {version('genai-prices')}"


def price_usd(model: str, tokens_in: int, tokens_out: int) -> float | None:
    """US dollars for the tokens of one call; None where no price of the model is known.

    model: the snapshot that a server reports, or the name that is asked for. Some models cost more for long prompts:
    add up the prices of calls, not their tokens. The first call takes about a second, to load the library's data.
    """
    # Here, since the library takes most of a second to import and most runs ask no model that costs.
    from genai_prices import Usage, calc_price

    for maker in _MAKERS:
        try:
            usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out)
            return float(calc_price(usage, model, provider_id=maker).total_price)
        except LookupError:
            continue
    return None


@cache
def usd_per_million(model: str) -> tuple[float, float] | None:
    """List prices of a million tokens in and a million tokens out, for prompts of common length; None if unknown."""
    price_in, price_out = price_usd(model, 1000, 0), price_usd(model, 0, 1000)
    return None if price_in is None or price_out is None else (1000 * price_in, 1000 * price_out)
