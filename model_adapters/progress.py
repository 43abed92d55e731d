"""Progress of a run: shown while it asks a model, and summed up at the end."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from egost.model_adapters.engine import Failure, Reply

_LINE_EVERY_S = 60.0
_SOON_S = 5.0
_FEW_MINUTES_S = 180.0


class AskingProgress:
    """Counts replies and shows them on stderr: a bar on a terminal; elsewhere a line each five seconds, after
    three minutes one each minute.

    label: put before each line, for example the rank.
    """

    def __init__(self, total: int, label: str) -> None:
        self._total, self._label = total, label
        self._clips = self._done = self._journaled = self._failed = self._tokens_in = self._tokens_out = 0
        self._start = self._last_line = time.monotonic()
        self._cpu = time.process_time()
        self._first_reply = 0.0
        # The stream itself: an adapter of lmms-eval is asked while `sys.stderr` is another.
        self._console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(f"{label}samples", total=total, rates="")

    def __enter__(self) -> AskingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        cpu = time.process_time() - self._cpu
        goes_on = ". What is answered is journaled: the same command goes on" if error else ""
        self._say(f"{self._rates}; {self._seconds:.1f} s, {cpu:.1f} s of CPU in this process{goes_on}")

    def decoded(self, clips: int) -> None:
        """Say how many clips are ready to be asked about, or that this is still the number."""
        self._clips = clips
        self._show()

    def journaled(self, n: int) -> None:
        """Count samples whose replies are in the journal."""
        self._done += n
        self._journaled += n
        self._show()

    def answered(self, n: int, outcome: Reply | Failure) -> None:
        """Count samples that one reply or failure is for."""
        self._done += n
        self._first_reply = self._first_reply or time.monotonic()
        if isinstance(outcome, Failure):
            self._failed += n
        else:
            self._tokens_in += outcome.prompt_tokens or 0
            self._tokens_out += outcome.completion_tokens or 0
        self._show()

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)

    @property
    def _asked(self) -> int:
        return self._done - self._journaled

    @property
    def _rates(self) -> str:
        rates = [
            f"{self._asked / self._seconds:.2f} samples/s",
            f"{self._clips} clips",
            f"{self._journaled} from the journal",
            f"{self._failed} failed",
        ]
        if self._tokens_in or self._tokens_out:
            tokens_in, tokens_out = self._tokens_in / self._seconds, self._tokens_out / self._seconds
            rates.append(f"tokens {tokens_in:.0f} in/s {tokens_out:.0f} out/s")
        return ", ".join(rates)

    def _show(self) -> None:
        self._bar.update(self._task, completed=self._done, rates=self._rates)
        pause = _SOON_S if self._seconds < _FEW_MINUTES_S else _LINE_EVERY_S
        if not self._console.is_terminal and time.monotonic() - self._last_line > pause:
            self._last_line = time.monotonic()
            # An engine may take minutes to start, which it does once.
            each = (time.monotonic() - self._first_reply) / self._asked if self._asked else float("nan")
            left = (self._total - self._done) * each
            self._say(f"{self._rates}; about {left / 60:.0f} min left")

    def _say(self, text: str) -> None:
        self._console.print(
            f"egost: {self._label}{self._done} of {self._total} samples; {text}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
