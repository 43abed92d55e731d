"""Steps of a demo: commands that need each other's results, run side by side, each done once.

A step leaves a record when it has ended well. The same steps again run only those without a record; one that was cut
off runs again, and goes on by itself where its command can.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from egost.tasks.cache import write_whole
from egost.tasks.errors import EgostError

_LOOK_S = 0.2
_LAST_LINES = 15
_ENVIRONMENT_KEPT = ("EGOST_CACHE",)


class DemoError(EgostError):
    """A step of a demo failed, or its folder holds another demo."""


@dataclass(frozen=True)
class Command:
    """What a step runs: the words of a command, and settings of its environment beside this process's own."""

    words: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """One command of a demo.

    needs: names of the steps before it. made: pattern, below its folder `where`, of what is there when it has ended
    well. command: composed when its turn comes, since it may depend on what the steps before it made. seconds: about
    how long it takes, for the estimate.
    """

    name: str
    needs: tuple[str, ...]
    where: Path
    made: str
    command: Callable[[], Command]
    seconds: float

    @property
    def is_made(self) -> bool:
        """Whether what it makes is there."""
        return any(self.where.glob(self.made))


def run_steps(steps: Sequence[Step], folder: Path, *, at_once: int, console: Console) -> dict[str, float]:
    """Run what is not done yet, so many steps at once, and give the seconds that each step took.

    folder: gets `steps/NAME.json` for each step that has ended well, and `logs/NAME.log` with what it printed.
    Raises DemoError where a step fails (those that run beside it are stopped), or was done with another command.
    """
    took: dict[str, float] = {}
    before: set[str] = set()
    running: dict[str, _Running] = {}
    waiting = {step.name: step for step in steps}
    threads = max(1, (os.cpu_count() or 1) // at_once)
    with _bar(steps, console) as show, _sigterm_as_exit():
        try:
            while waiting or running:
                ready = [s for s in waiting.values() if all(need in took for need in s.needs)]
                for step in ready[: at_once - len(running)]:
                    del waiting[step.name]
                    command = step.command()
                    seconds = _seconds_of_done(step, command, folder)
                    if seconds is None:
                        running[step.name] = _Running(step, command, folder, threads, console)
                    else:
                        took[step.name] = seconds
                        before.add(step.name)
                        console.print(f"{step.name}: done before, in {_told(seconds)}", highlight=False)
                for name, process in list(running.items()):
                    if process.ended():
                        took[name] = process.seconds()
                        del running[name]
                        left = show(took, before, {})
                        console.print(f"{name}: {_told(took[name])}{left and f'; {left}'}", highlight=False)
                show(took, before, {name: process.seconds() for name, process in running.items()})
                if running:
                    time.sleep(_LOOK_S)
        finally:
            for process in running.values():
                process.stop()
    return took


class _Running:
    """A step's process, and the record that it leaves."""

    def __init__(self, step: Step, command: Command, folder: Path, threads: int, console: Console) -> None:
        self._step, self._command, self._folder = step, command, folder
        self._log = folder / "logs" / f"{step.name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # Of a demo that was killed a step may run on. It holds this lock, and two must not write into one folder.
        self._lock = (folder / "logs" / f"{step.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(
                f"{step.name}: still running since an earlier start of the demo; waiting for its end"
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._began = time.monotonic()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("EGOST_") or name in _ENVIRONMENT_KEPT
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command.words,
                env={**inherited, "OMP_NUM_THREADS": str(threads), **command.settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock.fileno(),),
            )

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def ended(self) -> bool:
        """Whether it has ended well, of which it leaves the record. Raises DemoError where it has not."""
        if (code := self._process.poll()) is None:
            return False
        self._lock.close()
        name, made = self._step.name, self._step.is_made
        # lmms-eval exits with 0 when a run has failed.
        if code != 0 or not made:
            raise DemoError(
                f"the step {name} ended with exit code {code}"
                + ("" if made else f", and there is no {self._step.made} in {self._step.where}")
                + f". The last lines of {self._log}:\n{self._last_lines()}\n"
                "Mend what they say, and start the demo again: steps that are done are not run again."
            )
        record = {**asdict(self._command), "seconds": round(self.seconds(), 1)}
        write_whole(_record(self._folder, name), (json.dumps(record, indent=1) + "\n").encode())
        return True

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._lock.close()

    def _last_lines(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])


def _seconds_of_done(step: Step, command: Command, folder: Path) -> float | None:
    """How long a step took that is done; None where it is not. Raises DemoError where another was done."""
    path = _record(folder, step.name)
    if not path.is_file() or not step.is_made:
        return None
    try:
        done = json.loads(path.read_text(encoding="utf-8"))
        same = (tuple(done["words"]), done["settings"]) == (command.words, dict(command.settings))
        seconds = float(done["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        raise DemoError(f"{path} is no record of a step ({error!r}). Delete {folder}.") from error
    if not same:
        raise DemoError(
            f"{folder} holds a demo of other settings: its step {step.name} ran `{' '.join(done['words'])}`, now it "
            f"would run `{' '.join(command.words)}`. Give another folder, or delete this one."
        )
    return seconds


def _record(folder: Path, name: str) -> Path:
    return folder / "steps" / f"{name}.json"


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Let a polite end of this process reach its `finally`, which stops what runs."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _bar(steps: Sequence[Step], console: Console) -> Iterator[Callable[..., str]]:
    """A bar over the expected seconds of all steps; it is told what took how long, and tells the time left."""
    expected = {step.name: step.seconds for step in steps}
    begun = time.monotonic()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        bar: TaskID = progress.add_task("", total=sum(expected.values()))

        def show(took: Mapping[str, float], before: AbstractSet[str], running: Mapping[str, float]) -> str:
            under_way = sum(min(expected[name], seconds) for name, seconds in running.items())
            worked = under_way + sum(expected[name] for name in took if name not in before)
            left = sum(seconds for name, seconds in expected.items() if name not in took) - under_way
            elapsed = time.monotonic() - begun
            told = f"about {_told(elapsed * left / worked)} left" if worked > 0 and left > 0 else ""
            progress.update(
                bar,
                completed=sum(expected.values()) - left,
                description=", ".join([*running, *([told] if told else [])]),
            )
            return told

        yield show


def _told(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
