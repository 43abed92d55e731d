"""What asking a server has taken so far: calls, tokens, faults and price."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egost.tasks.chat.reading import Completion


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The account of one process.

    asked: the model that was asked for; snapshots: the models that the server says have replied, those of replies
        that were on the disk included.
    left_out: parameters that the server refused and that were therefore not sent, for example
        `response_format` (the reply is then read by the strict parser alone).
    calls: HTTP requests that were sent; cached: answers that were found on disk.
    retries: calls beyond the first for an answer; faults: replies that were of no use, by kind.
    failures: questions given up, by reason.
    tokens_in, tokens_out: as the server counted them. usd: their price, None where the price of one of the snapshots
        is not known, or, before the first reply, that of the model that was asked for.
    prices_of: where the prices are from. prices: US dollars for a million tokens in and out, by the snapshot.
    wall_s: seconds in which at least one question was under way.
    """

    asked: str
    snapshots: tuple[str, ...]
    left_out: tuple[str, ...]
    calls: int
    cached: int
    retries: int
    faults: dict[str, int]
    failures: dict[str, int]
    tokens_in: int
    tokens_out: int
    usd: float | None
    prices_of: str
    prices: dict[str, tuple[float, float]]
    wall_s: float


class Tally:
    """Counts what one user of a server does; safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unpriced: list[Completion] = []
        self._usd: dict[str, float | None] = {}
        self._seen: set[str] = set()
        self._left_out: list[str] = []
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._under_way = 0
        self._since = 0.0
        self._wall_s = 0.0

    def begin(self) -> None:
        """A question is under way."""
        with self._lock:
            if self._under_way == 0:
                self._since = time.monotonic()
            self._under_way += 1

    def end(self) -> None:
        """A question is answered, given up or stopped."""
        with self._lock:
            self._under_way -= 1
            if self._under_way == 0:
                self._wall_s += time.monotonic() - self._since

    def called(self, again: bool) -> None:
        """A request goes out; again: it is not the first for its question."""
        with self._lock:
            self._counts["calls"] += 1
            self._counts["retries"] += again

    def replied(self, completion: Completion) -> None:
        """A completion came back, readable or not."""
        with self._lock:
            self._unpriced.append(completion)
            self._counts["tokens_in"] += completion.tokens_in
            self._counts["tokens_out"] += completion.tokens_out

    def fault(self, kind: str) -> None:
        """A call brought nothing of use."""
        with self._lock:
            self._faults[kind] += 1

    def failed(self, reason: str) -> None:
        """A question was given up."""
        with self._lock:
            self._failures[reason] += 1

    def answered(self, snapshot: str, cached: bool) -> None:
        """An answer is there. cached: it was found on disk."""
        with self._lock:
            self._counts["cached" if cached else "answered"] += 1
            self._seen.add(snapshot)

    def leave_out(self, parameter: str) -> bool:
        """A parameter is not sent any more; False when that was known."""
        with self._lock:
            if parameter in self._left_out:
                return False
            self._left_out.append(parameter)
            return True

    @property
    def left_out(self) -> tuple[str, ...]:
        """Parameters that are not sent."""
        with self._lock:
            return tuple(self._left_out)

    @property
    def n_answered(self) -> int:
        """Answers that were made by calls."""
        with self._lock:
            return self._counts["answered"]

    def usage(self, asked: str) -> Usage:
        """The account as it is now. asked: the model that is asked for."""
        # Here and outside of the lock, since an event loop that counts must not wait for the library of prices.
        asked_has_price = price_usd(asked, 0, 0) is not None
        with self._lock:
            replies, self._unpriced = self._unpriced, []
        prices = [price_usd(reply.snapshot, reply.tokens_in, reply.tokens_out) for reply in replies]
        with self._lock:
            for reply, price in zip(replies, prices, strict=True):
                before = self._usd.get(reply.snapshot, 0.0)
                self._usd[reply.snapshot] = None if before is None or price is None else before + price
            known = [usd for usd in self._usd.values() if usd is not None]
            priced = len(known) == len(self._usd) if self._usd else asked_has_price
            running = time.monotonic() - self._since if self._under_way else 0.0
            return Usage(
                asked=asked,
                snapshots=tuple(sorted(self._seen)),
                left_out=tuple(self._left_out),
                calls=self._counts["calls"],
                cached=self._counts["cached"],
                retries=self._counts["retries"],
                faults=dict(self._faults),
                failures=dict(self._failures),
                tokens_in=self._counts["tokens_in"],
                tokens_out=self._counts["tokens_out"],
                usd=sum(known, 0.0) if priced else None,
                prices_of=prices_of(),
                prices={name: found for name in self._usd if (found := usd_per_million(name))},
                wall_s=self._wall_s + running,
            )


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
