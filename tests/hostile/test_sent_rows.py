"""Rows of `egost verify` that strangers send: cut, changed or made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack, drawn
from official_runs import as_official
from places import ROOT

from egost.commands.verify import checked
from egost.results.leaderboard.entries import read_entry
from egost.results.run import read_run
from egost.results.verification import verify

Row = dict[str, Any]
MODEL = ("qwen2-vl-7b", "Qwen2-VL-7B", "Qwen/Qwen2-VL-7B-Instruct", "qwen")


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sent") / "run"
    run = read_run(ROOT / "tests" / "saved" / "mini_run")
    file = as_official(run, folder, model=MODEL[2], as_published="qwen")
    return verify(read_entry(file), *MODEL).model_dump_json()


def put(value: Any, *path: str | int) -> Callable[[Row], None]:
    """Put a value in the place of a field."""

    def change(row: Row) -> None:
        inner: Any = row
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


def without(*path: str | int) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        inner: Any = row
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]

    return change


FIELDS = (
    *("form", "name", "model", "revision", "engine", "paper_row", "table", "world", "date", "limit"),
    *("as_published", "prompt", "frames", "judge", "generation", "trained_on", "release"),
    *("release_sha256", "packages", "commit", "figures", "samples"),
)
NO_ROW = "is no row of egost verify"
CHANGED = "was changed by hand"


def attacks() -> Iterator[Attack]:
    for number in range(10):
        for scoring in ("strict", "compat"):
            for name in ("ours", "low", "high", "difference"):
                yield Attack(
                    f"{number} {scoring} {name}", put(12.345, "figures", number, scoring, name), CHANGED
                )
                yield Attack(
                    f"no {number} {scoring} {name}", put(None, "figures", number, scoring, name), CHANGED
                )
                yield Attack(
                    f"text {number} {scoring} {name}", put("1", "figures", number, scoring, name), NO_ROW
                )
            yield Attack(
                f"{number} {scoring} verdict",
                put("nothing published", "figures", number, scoring, "verdict"),
                CHANGED,
            )
            yield Attack(
                f"{number} {scoring} word", put("is right", "figures", number, scoring, "verdict"), NO_ROW
            )
        yield Attack(f"{number} published", put(99.9, "figures", number, "published"), CHANGED)
        yield Attack(f"{number} n", put(1, "figures", number, "n"), CHANGED)
        yield Attack(f"{number} of", put(10_000, "figures", number, "of"), CHANGED)
        yield Attack(f"{number} gone", without("figures", number), "its samples of others")
        yield Attack(
            f"{number} renamed", put("avg_moon", "figures", number, "column"), "its samples of others"
        )
    for field in FIELDS:
        yield Attack(f"without {field}", without(field), NO_ROW)
        yield Attack(f"{field} of another type", put([[1]], field), NO_ROW)
    yield Attack("a field more", put(1, "moon"), NO_ROW)
    for task in ("route_forward", "direction_reverse", "action_forward"):
        first = ("samples", task, 0)
        yield Attack(f"{task} another score", put(33.0, *first, 2), CHANGED)
        yield Attack(f"{task} another compat", put(33.0, *first, 3), CHANGED)
        yield Attack(f"{task} a score above all", put(100.5, *first, 2), NO_ROW)
        yield Attack(f"{task} a score below all", put(-1.0, *first, 3), NO_ROW)
        yield Attack(f"{task} no number", put("nan", *first, 2), NO_ROW)
        yield Attack(f"{task} another clip", put("Part9/x.mp4", *first, 1), "stands in")
        yield Attack(f"{task} no clip", put("x.mp4", *first, 1), NO_ROW)
        yield Attack(f"{task} of another task", put("Part1/landmark_forward/1", *first, 0), "stands in")
        yield Attack(f"{task} no id", put("", *first, 0), NO_ROW)
        yield Attack(f"{task} a sample less", without(*first), CHANGED)
        yield Attack(f"{task} no samples", put([], "samples", task), "its samples of others")
        yield Attack(f"{task} gone", without("samples", task), "its samples of others")
        yield Attack(
            f"{task} twice",
            lambda row, task=task: row["samples"][task].append(row["samples"][task][0]),
            "twice",
        )
    yield Attack("another model's name", put("st-r1", "name"), "is no model of its tables")
    yield Attack("no model's name", put("seer", "name"), "is no model of its tables")
    yield Attack("another row of the paper", put("Qwen2.5-VL-7B", "paper_row"), CHANGED)
    yield Attack("no row of the paper", put("Seer", "paper_row"), "the paper has no row")
    yield Attack("of another table", put(3, "table"), "is no row of the paper")
    yield Attack("of no table", put(2, "table"), NO_ROW)
    yield Attack("of the mini world", put("mini", "world"), "is no row of the paper")
    yield Attack("by another model", put("somebody/Seer-7B", "model"), "gives no reason")
    yield Attack("by another protocol", put("llava", "as_published"), "gives no reason")
    yield Attack("a part of the samples", put(2.0, "limit"), "Evaluate without --limit")
    yield Attack("a share of the samples", put(0.5, "limit"), "Evaluate without --limit")
    yield Attack("infinite", put(float("inf"), "limit"), NO_ROW)
    # What does no harm.
    yield Attack("another date", put("2030-01-01", "date"))
    yield Attack("a long engine", put("e" * 5_000, "engine"))
    yield Attack("a table's sign", put("a | b\n| c", "judge"))
    yield Attack("a limit beyond all", put(10_000.0, "limit"))


@pytest.mark.parametrize("attack", drawn(list(attacks()), 90), ids=lambda attack: attack.name)
def test_a_row_says_what_its_samples_and_the_paper_give(
    attacked: Callable[..., None], sent: str, tmp_path: Path, attack: Attack
) -> None:
    row = json.loads(sent)
    attack.make(row)
    file = tmp_path / "row.json"
    file.write_text(json.dumps(row), encoding="utf-8")
    attacked(lambda: checked([file]), attack.message, right=lambda table: len(table.splitlines()) == 14)


BYTES = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no UTF-8": b'{"form": "\xff"}',
    "deep": b"[" * 5_000,
    "digits": b'{"limit": ' + b"7" * 5_000 + b"}",
    "half a surrogate": b'{"form": "\\ud83d"}',
}


@pytest.mark.parametrize("name", [*BYTES, "cut", "twice", "a folder"])
def test_a_file_that_is_no_row_is_refused(
    attacked: Callable[..., None], sent: str, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "row.json"
    if name == "a folder":
        file.mkdir()
    else:
        whole = sent.encode()
        file.write_bytes({**BYTES, "cut": whole[:-100], "twice": whole * 2}[name])
    attacked(lambda: checked([file]), NO_ROW)
