"""What a judge has done so far: calls, tokens, faults and price."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from egost.tasks.chat.prices import PRICES_OF, USD_PER_MILLION, price_usd
from egost.tasks.judging.reading import Completion


@dataclass(frozen=True)
class JudgeUsage:
    """A judge's account of one process.

    judge: its name; asked: the model that was asked for; snapshots: the models that the server says have judged,
        those of judgements from the cache included.
    prompt, prompt_sha256: version and hash of the instructions.
    left_out: parameters that the server refused and that were therefore not sent, for example
        `response_format` (the reply is then read by the strict parser alone).
    calls: HTTP requests that were sent; cached: judgements that were found on disk; judged: those made by calls.
    retries: calls beyond the first for a judgement; faults: replies that were of no use, by kind.
    failures: judgements given up, by reason; these are unscored.
    tokens_in, tokens_out: as the server counted them. usd: their price, None where one of the snapshots is not
        in the table, or, before the first reply, the model that was asked for; prices_of: the table's date.
    wall_s: seconds in which at least one judgement was under way.
    """

    judge: str
    asked: str
    snapshots: tuple[str, ...]
    prompt: str
    prompt_sha256: str
    left_out: tuple[str, ...]
    calls: int
    judged: int
    cached: int
    retries: int
    faults: dict[str, int]
    failures: dict[str, int]
    tokens_in: int
    tokens_out: int
    usd: float | None
    prices_of: str
    wall_s: float


class Tally:
    """Counts for one judge; safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[int, int]] = {}
        self._seen: set[str] = set()
        self._left_out: list[str] = []
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._under_way = 0
        self._since = 0.0
        self._wall_s = 0.0

    def begin(self) -> None:
        """A judgement is under way."""
        with self._lock:
            if self._under_way == 0:
                self._since = time.monotonic()
            self._under_way += 1

    def end(self) -> None:
        """A judgement is made, given up or stopped."""
        with self._lock:
            self._under_way -= 1
            if self._under_way == 0:
                self._wall_s += time.monotonic() - self._since

    def called(self, again: bool) -> None:
        """A request goes out; again: it is not the first for its judgement."""
        with self._lock:
            self._counts["calls"] += 1
            self._counts["retries"] += again

    def replied(self, completion: Completion) -> None:
        """A completion came back, readable or not."""
        with self._lock:
            tokens_in, tokens_out = self._tokens.get(completion.snapshot, (0, 0))
            self._tokens[completion.snapshot] = (
                tokens_in + completion.tokens_in,
                tokens_out + completion.tokens_out,
            )

    def fault(self, kind: str) -> None:
        """A call brought nothing of use."""
        with self._lock:
            self._faults[kind] += 1

    def failed(self, reason: str) -> None:
        """A judgement was given up."""
        with self._lock:
            self._failures[reason] += 1

    def scored(self, snapshot: str, cached: bool) -> None:
        """A judgement is there."""
        with self._lock:
            self._counts["cached" if cached else "judged"] += 1
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

    def usage(self, judge: str, asked: str, prompt: str, prompt_sha256: str) -> JudgeUsage:
        """The account as it stands."""
        with self._lock:
            prices = [price_usd(snapshot, *tokens) for snapshot, tokens in self._tokens.items()]
            known = [price for price in prices if price is not None]
            priced = len(known) == len(prices) if prices else asked in USD_PER_MILLION
            running = time.monotonic() - self._since if self._under_way else 0.0
            return JudgeUsage(
                judge=judge,
                asked=asked,
                snapshots=tuple(sorted(self._seen)),
                prompt=prompt,
                prompt_sha256=prompt_sha256,
                left_out=tuple(self._left_out),
                calls=self._counts["calls"],
                judged=self._counts["judged"],
                cached=self._counts["cached"],
                retries=self._counts["retries"],
                faults=dict(self._faults),
                failures=dict(self._failures),
                tokens_in=sum(tokens[0] for tokens in self._tokens.values()),
                tokens_out=sum(tokens[1] for tokens in self._tokens.values()),
                usd=sum(known, 0.0) if priced else None,
                prices_of=PRICES_OF,
                wall_s=self._wall_s + running,
            )
