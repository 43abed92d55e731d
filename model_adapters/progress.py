"""Progress of a run: shown while it asks a model, and summed up at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from egost.model_adapters.engine import Failure, Reply
from egost.tasks.progress import Pace


class AskingProgress:
    """Counts replies and shows them on stderr: a bar on a terminal, elsewhere a line a minute and one at the end.

    label: put before each line, for example the rank. clips: of all samples. tokens_out: of the replies that are new.
    clock: see `Pace`, whose rates these are: they begin with the first reply, since an engine may need minutes.
    """

    def __init__(
        self, total: int, label: str, clips: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self._total, self._label, self._clips, self._clock = total, label, clips, clock
        self._ready = self._done = self._journaled = self._failed = self._tokens_in = self.tokens_out = 0
        self._pace, self._start, self._cpu = Pace(clock), clock(), time.process_time()
        # The stream itself: an adapter of lmms-eval is asked while `sys.stderr` is another.
        self._console = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(f"{label}samples", total=total, state="")

    def __enter__(self) -> AskingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        cpu = time.process_time() - self._cpu
        goes_on = ". What is answered is journaled: the same command goes on" if error else ""
        self._say(
            f"{self._state(self._pace.rate('samples'))}; {self.seconds:.1f} s, {cpu:.1f} s of CPU in this "
            f"process{goes_on}"
        )

    @property
    def seconds(self) -> float:
        """Since the asking began."""
        return self._clock() - self._start

    def decoded(self, clips: int) -> None:
        """Say how many clips are ready to be asked about, or that this is still the number."""
        self._ready = clips
        self._show()

    def journaled(self, n: int) -> None:
        """Count samples whose replies are in the journal."""
        self._done += n
        self._journaled += n
        self._show()

    def answered(self, n: int, outcome: Reply | Failure) -> None:
        """Count samples that one reply or failure is for."""
        self._done += n
        self._pace.did(n)
        if isinstance(outcome, Failure):
            self._failed += n
        else:
            self._tokens_in += outcome.prompt_tokens or 0
            self.tokens_out += outcome.completion_tokens or 0
        self._show()

    def _state(self, pace: str) -> str:
        of = f" of {self._clips}" if self._ready < self._clips else ""
        state = [
            f"{self._ready}{of} clips",
            f"{self._journaled} from the journal",
            f"{self._failed} failed",
            pace,
        ]
        if pace and (self._tokens_in or self.tokens_out):
            a_token = self._pace.per_second / (self._done - self._journaled)
            state.append(f"tokens {self._tokens_in * a_token:.0f} in/s {self.tokens_out * a_token:.0f} out/s")
        return ", ".join(filter(None, state))

    def _show(self) -> None:
        if self._console.is_terminal or self._pace.line_due():
            state = self._state(self._pace.outlook(self._total - self._done, "samples"))
            self._bar.update(self._task, completed=self._done, state=state)
            if not self._console.is_terminal:
                self._say(state)

    def _say(self, text: str) -> None:
        self._console.print(f"egost: {self._label}{self._done} of {self._total} samples; {text}")
