"""Runs of strangers, as hostile_runs.py makes them: what reads them says what is wrong, and every command says it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import CONTROL, Attack, drawn
from hostile_runs import CHOICE, FIELDS, FILES, ROUTE, SAVED, put, retold, rewritten
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.results.leaderboard.entries import find_entries
from egost.results.run import Run, read_run
from egost.results.run_manifest import run_manifest
from egost.tasks.errors import EgostError


def everything(run: Path) -> Run:
    """All that the commands read of a run."""
    found = read_run(run)
    assert found.header.file and found.settings and found.figures and found.records
    assert run_manifest(found).tasks and len(found.dataframe()) == len(found.records)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(SAVED, tmp_path / "run")


@pytest.mark.parametrize("attack", drawn(FIELDS, 90), ids=lambda attack: attack.name)
def test_a_field_holds_what_it_cannot(run: Path, attack: Attack, attacked: Callable[..., None]) -> None:
    attack.make(run)
    attacked(lambda: everything(run), attack.message)


def test_the_right_values_are_read(run: Path) -> None:
    """No table above refuses what lmms-eval writes: 7 is a score, a null is no token count, an unknown word a name."""
    rewritten(CHOICE, lambda row: put(row, "percent.generation.prompt_tokens", 7))(run)
    rewritten(ROUTE, lambda row: put(row, "percent.generation.model", "two"))(run)
    retold(lambda told: put(told, f"configs.{CHOICE}.metadata.commit", None))(run)
    found = everything(run)
    assert sum(r.generation.prompt_tokens or 0 for r in found.records if r.generation) == 7
    assert {"two"} < {r.generation.model for r in found.records if r.generation}


@pytest.mark.parametrize("attack", FILES, ids=lambda attack: attack.name)
def test_a_file_is_damaged(run: Path, attack: Attack, attacked: Callable[..., None]) -> None:
    attack.make(run)
    attacked(lambda: everything(run), attack.message)


COMMANDS = [
    ("summary", "{run}"),
    ("show", "{run}"),
    ("report", "{run}", "-o", "{out}"),
    ("leaderboard", "{run}", "--world", "mini", "--table", "1"),
    ("compare", "{run}", "{good}"),
    ("regress", "{run}", "--baseline", "{out}", "--update"),
    ("power", "{run}"),
    ("rescore", "{run}"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    "attack", drawn([a for a in [*FIELDS, *FILES] if a.message], 2), ids=lambda a: a.name
)
def test_every_command_says_it(
    run: Path, tmp_path: Path, attack: Attack, words: tuple[str, ...], attacked: Callable[..., None]
) -> None:
    """A command that does not read the samples may show the figures; none ends in a traceback."""
    attack.make(run)
    places = {"run": run, "good": SAVED, "out": tmp_path / "out"}
    done = CliRunner().invoke(app, [word.format(**places) for word in words])

    def says() -> bool:
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return True

    attacked(says)
    assert not CONTROL.search(done.output)
    if words[0] in ("report", "compare", "regress"):
        assert done.exit_code == 2 and done.output.count("egost: ") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "attack", drawn([a for a in [*FIELDS, *FILES] if a.message], 6), ids=lambda a: a.name
)
def test_one_bad_run_is_listed_and_the_others_are_shown(
    run: Path, tmp_path: Path, attack: Attack, attacked: Callable[..., None]
) -> None:
    attack.make(run)
    shutil.copytree(SAVED, tmp_path / "good")
    attacked(
        lambda: find_entries([run, tmp_path / "good"]),
        right=lambda found: (
            [one.file.parent.name for one in found.entries] == ["good"]
            and len(found.unreadable) == 1
            and re.search(attack.message or "", found.unreadable[0].reason, re.DOTALL) is not None
        ),
    )


MOST_MEMORY = 256 << 20
"""Bytes. A command that reads the saved run as it is takes some 105 MiB."""

MEASURED = """
import atexit
from pathlib import Path
atexit.register(lambda: print(Path("/proc/self/status").read_text()))
from egost.main import app
app()
"""


@pytest.mark.parametrize(
    "words",
    [("report", "{}", "-o", "{}/page.html"), ("judge", "{}", "--judge", "offline"), ("compare", "{}", "{}")],
)
def test_a_response_of_100_mb_costs_no_memory(
    run: Path, attacked: Callable[..., None], words: tuple[str, ...]
) -> None:
    [file] = run.glob(f"*_samples_{ROUTE}.jsonl")
    begins = b'"filtered_resps": "'
    file.write_bytes(file.read_bytes().replace(begins, begins + b"turn " * (20 << 20), 1))
    command = [sys.executable, "-c", MEASURED, *(word.format(run) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)

    def attack() -> None:
        assert done.returncode == 2 and peak and int(peak[1]) << 10 < MOST_MEMORY, done
        raise EgostError(done.stderr)

    attacked(
        attack, rf"_samples_{ROUTE}.jsonl, line 1: it has 104,\d+,\d+ bytes; egost reads 16,777,216 at most"
    )


HOSTILE_NAMES = [
    "\x1b[2Jgone",
    "a\x7fb",
    "\x9b31mred",
    "\u202egnp.exe",
    "\u2066x",
    "[red]x[/red]",
    "[/]",
    "a\nlimit: none",
    "a\rb",
]


SHOWING = ("summary", "show", "leaderboard", "compare", "power", "regress", "rescore")


@pytest.mark.parametrize(
    ("command", "name"),
    drawn([(command, name) for command in SHOWING for name in HOSTILE_NAMES], 28),
    ids=ascii,
)
def test_names_are_shown_and_not_acted_upon(run: Path, command: str, name: str) -> None:
    retold(
        lambda told: (put(told, "config.model_args", f"pretrained={name}"), put(told, "config.model", name))
    )(run)
    for row in (CHOICE, ROUTE):
        rewritten(row, lambda r: put(r, "percent.generation.model", name))(run)
    more = {
        "compare": (str(SAVED), "--force"),
        "leaderboard": ("--world", "mini"),
        "regress": ("--baseline", str(ROOT / "tests" / "golden" / "tiny.jsonl")),
    }
    done = CliRunner().invoke(app, [command, str(run), *more.get(command, ())])
    assert done.exit_code in (0, 1) or "egost: " in done.output, done.output
    assert not CONTROL.search(done.output)
    assert "\nlimit: none" not in done.output
    if name.startswith("[") and command in ("summary", "show"):
        assert name in done.output, "markup is text"
