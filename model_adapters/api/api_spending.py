"""What asking an API has cost so far, and whether the next call is still within the limit."""

from __future__ import annotations

from dataclasses import dataclass

from egost.model_adapters.engine import AdapterError
from egost.tasks.chat.prices import price_usd, prices_of


@dataclass(frozen=True)
class CallBound:
    """The most that one call can take: tokens of its frames, of its text, and of its reply."""

    frame_tokens: int
    text_tokens: int
    reply_tokens: int


class Spending:
    """The account of one engine; for use within one thread.

    model: as it is asked for. max_usd: limit in US dollars, None for none. Raises AdapterError for a limit that
    cannot be kept because no price is known.
    """

    def __init__(self, model: str, max_usd: float | None) -> None:
        # Asked for in any case: the first price takes a second, which no call under way must wait for.
        has_price = price_usd(model, 0, 0) is not None
        if max_usd is not None and not has_price:
            raise AdapterError(
                f"max_usd={max_usd} cannot be kept: no price of '{model}' is known ({prices_of()}). Name one of "
                "`egost models`, for example gpt-4o-2024-08-06 or gemini-3.5-flash, or leave max_usd out."
            )
        if max_usd is not None and max_usd <= 0:
            raise AdapterError(f"max_usd={max_usd} allows no call at all; expected US dollars above 0.")
        self._model, self._max_usd = model, max_usd
        self._held: list[float] = []
        self._spent = 0.0
        self._most_in: int | None = None
        self._calls = self._again = self._tokens_in = self._tokens_out = 0
        self._unpriced: set[str] = set()

    def hold(self, bound: CallBound) -> float | None:
        """Set aside what a call can cost at most, in US dollars; None while calls under way hold too much.

        Raises AdapterError when the limit is too low for the call even if all others cost nothing more, or cannot be
        kept since a snapshot without a known price has answered.
        """
        if self._max_usd is None:
            self._held.append(0.0)
            return 0.0
        if self._unpriced:
            unpriced = ", ".join(sorted(self._unpriced))
            raise AdapterError(
                f"max_usd={self._max_usd} cannot be kept: '{self._model}' was asked, '{unpriced}' answered, and its "
                "price is not known. What was answered is kept; leave max_usd out to go on."
            )
        # A prompt is its frames, always the same number of tokens, and a text of at most a token a byte.
        frames = bound.frame_tokens if self._most_in is None else self._most_in
        most = price_usd(self._model, frames + bound.text_tokens, bound.reply_tokens) or 0.0
        if self._spent + sum(self._held) + most <= self._max_usd:
            self._held.append(most)
            return most
        if self._held:
            return None
        raise AdapterError(
            f"max_usd={self._max_usd} is reached: {self._spent:.4f} USD are spent, and the next call may cost up to "
            f"{most:.4f}. What was answered is kept; the same command with a higher max_usd asks for the rest."
        )

    def called(self, first: bool) -> None:
        """A call goes out."""
        self._calls += 1
        self._again += not first

    def charged(self, held: float, snapshot: str, tokens_in: int, tokens_out: int) -> None:
        """A call was answered by a snapshot and took so many tokens; gives back what it held."""
        self._held.remove(held)
        self._tokens_in += tokens_in
        self._tokens_out += tokens_out
        self._most_in = max(self._most_in or 0, tokens_in)
        if (cost := price_usd(snapshot, tokens_in, tokens_out)) is None:
            self._unpriced.add(snapshot)
        else:
            self._spent += cost

    def failed(self, held: float, *, billed: bool) -> None:
        """A call brought nothing. billed: the API may charge it all the same, since it may have worked on it."""
        self._held.remove(held)
        self._spent += held if billed else 0.0

    @property
    def summary(self) -> str:
        """One line: calls, tokens and US dollars so far."""
        if self._unpriced:
            cost = f"price of {', '.join(sorted(self._unpriced))} unknown"
        else:
            cost = f"{self._spent:.4f} USD at list prices ({prices_of()})"
        return (
            f"{self._model}: {self._calls} calls ({self._again} of them repeated), {self._tokens_in} tokens in, "
            f"{self._tokens_out} out, {cost}"
        )
