"""The steps of a demo: commands that need each other's results, two at once, each done once.

A step that ended well leaves a record. A second start skips the steps with a record; a step that was cut off runs
again, and resumes by itself where its command can.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from egost.tasks.cache import write_whole
from egost.tasks.end_with_parent import start_script
from egost.tasks.json_text import read_json
from egost.tasks.progress import usable_cores
from egost.training import TrainingError

_LOOK_S = 0.2
_LAST_LINES = 15
_ENVIRONMENT_KEPT = ("EGOST_CACHE",)


@dataclass(frozen=True)
class Command:
    """A script of Python and its arguments, and settings that its environment gets on top of this process's own."""

    words: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """One command of a demo.

    needs: names of the steps before it. made: pattern, below its folder `where`, of a file that exists when it ended
    well. command: composed when the step begins, since it may depend on what earlier steps made. expected: seconds that
    it takes on two quiet cores, with another one beside it.
    """

    name: str
    needs: tuple[str, ...]
    where: Path
    made: str
    command: Callable[[], Command]
    expected: float = 1.0

    @property
    def is_made(self) -> bool:
        """Whether its result is there."""
        return any(self.where.glob(self.made))


def run_steps(steps: Sequence[Step], folder: Path, *, at_once: int, console: Console) -> dict[str, float]:
    """Run the steps that have no record yet, `at_once` at a time, and return the seconds that each step took.

    folder: gets `steps/NAME.json` for each step that ended well, and `logs/NAME.log` with its output.
    Raises TrainingError where a step fails (the others are stopped), or was done with another command.
    """
    took: dict[str, float] = {}
    running: dict[str, _Running] = {}
    waiting = list(steps)
    threads = max(1, usable_cores() // at_once)
    on_sigterm = signal.signal(signal.SIGTERM, _exit)
    try:
        while waiting or running:
            ready = [step for step in waiting if all(need in took for need in step.needs)]
            for step in ready[: at_once - len(running)]:
                waiting.remove(step)
                command = step.command()
                seconds = _seconds_of_done(step, command, folder)
                if seconds is None:
                    running[step.name] = _Running(step, command, folder, threads, console)
                else:
                    took[step.name] = seconds
                    console.print(f"{step.name}: done before, in {seconds:.0f} s", highlight=False)
            for name, process in list(running.items()):
                if process.ended():
                    took[name] = process.seconds()
                    del running[name]
                    progress = f"{len(took)} of {len(steps)} steps done, {_end(steps, took, at_once)}"
                    console.print(f"{name}: {took[name]:.0f} s; {progress}", highlight=False)
            if running:
                time.sleep(_LOOK_S)
    finally:
        for process in running.values():
            process.stop()
        signal.signal(signal.SIGTERM, on_sigterm)
    return took


def _end(steps: Sequence[Step], took: Mapping[str, float], at_once: int) -> str:
    """When all is done, if the rest goes as what was done went."""
    expected = {step.name: step.expected for step in steps}
    pace = sum(took.values()) / sum(expected[name] for name in took)
    left = sum(seconds for name, seconds in expected.items() if name not in took) * pace / at_once
    return f"all by about {datetime.now() + timedelta(seconds=left):%Y-%m-%d %H:%M}"


class _Running:
    """A step's process; it writes the step's record."""

    def __init__(self, step: Step, command: Command, folder: Path, threads: int, console: Console) -> None:
        self._step, self._command, self._folder = step, command, folder
        self._log = folder / "logs" / f"{step.name}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # A step of a killed demo may run a moment longer. It holds this lock: two must not write into one folder.
        self._lock = (folder / "logs" / f"{step.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(
                f"{step.name}: still running since an earlier start of the demo; waiting for its end"
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        console.print(f"{step.name}: started; its output: {self._log}", highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("EGOST_") or name in _ENVIRONMENT_KEPT
        }
        with self._log.open("wb") as log:
            self._process = start_script(
                command.words,
                {**inherited, "OMP_NUM_THREADS": str(threads), **command.settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock.fileno(),),
            )

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def ended(self) -> bool:
        """Whether it ended well; then its record is written. Raises TrainingError where it failed."""
        if (code := self._process.poll()) is None:
            return False
        self._lock.close()
        name, made = self._step.name, self._step.is_made
        # lmms-eval exits with 0 when a run has failed.
        if code != 0 or not made:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
            raise TrainingError(
                f"the step {name} ended with exit code {code}"
                + ("" if made else f", and there is no {self._step.made} in {self._step.where}")
                + f". The last lines of {self._log}:\n"
                + "".join(f"  {line}\n" for line in lines)
                + "Fix what they say, and start the demo again: steps that are done are not run again."
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


def _seconds_of_done(step: Step, command: Command, folder: Path) -> float | None:
    """How long a step took that is done; None where it is not. Raises TrainingError for another step's record."""
    path = _record(folder, step.name)
    if not path.is_file() or not step.is_made:
        return None
    try:
        done = read_json(path)
        same = (tuple(done["words"]), done["settings"]) == (command.words, dict(command.settings))
        seconds = float(done["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is no record of a step ({error!r}). Delete {folder}.") from error
    if not same:
        raise TrainingError(
            f"{folder} holds a demo of other settings: its step {step.name} ran `{' '.join(done['words'])}`, now it "
            f"would run `{' '.join(command.words)}`. Give another folder, or delete this one."
        )
    return seconds


def _record(folder: Path, name: str) -> Path:
    return folder / "steps" / f"{name}.json"


def _exit(number: int, _frame: object) -> NoReturn:
    """Handles SIGTERM: the exception reaches the `finally` that stops the running steps."""
    raise SystemExit(128 + number)
