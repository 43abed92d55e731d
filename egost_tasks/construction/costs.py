"""What the replies of a server have cost, read from what is kept of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from egost.tasks.chat.prices import price_usd
from egost.tasks.chat.reply_store import STORE, stored_bodies


@dataclass(frozen=True, slots=True)
class Cost:
    """What the replies on disk took: their number, tokens, and US dollars (None where a price is not known)."""

    replies: int
    tokens_in: int
    tokens_out: int
    usd: float | None


def cost_of(folder: Path) -> Cost:
    """What all replies in a folder took, whichever process asked for them."""
    # Earlier versions kept each reply in a file of its own.
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    replies = {**found, **stored_bodies(folder / STORE)}.values()
    prices = [price_usd(r["snapshot"], r["tokens_in"], r["tokens_out"]) for r in replies]
    known = [price for price in prices if price is not None]
    return Cost(
        len(replies),
        sum(reply["tokens_in"] for reply in replies),
        sum(reply["tokens_out"] for reply in replies),
        sum(known) if len(known) == len(prices) else None,
    )
