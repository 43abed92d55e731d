"""Files that people write or pass on: baselines, annotations, lists of clips, training rows, prompts, kept drafts.

Each reader meets each hostile text, and the typed ones a wrong value in each of their fields.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack, drawn
from places import ROOT

from egost.results.diagnosis.controls import read_controls_file
from egost.results.diagnosis.text_only import read_text_only
from egost.results.gate.baseline_file import read_baseline
from egost.results.run import read_run
from egost.tasks.construction.annotations import COLUMNS, read_annotations
from egost.tasks.construction.drafts import read_drafts
from egost.tasks.construction.spec import read_spec
from egost.tasks.construction.workfolder import WorkFolder, read_lines, read_object
from egost.tasks.prompts import load_prompt
from egost.training.rows.released_rows import read_rows, rows_as_samples
from egost.training.rows.training_rows import read_training_rows

GOLDEN = ROOT / "tests" / "golden" / "tiny.jsonl"
Reader = Callable[[Path], Any]

JSON_READERS: dict[str, tuple[str, Reader]] = {
    "baseline": ("b.jsonl", read_baseline),
    "annotations": ("a.json", read_annotations),
    "list of clips": ("clips.json", read_spec),
    "cut clips": ("clips.jsonl", lambda path: WorkFolder(path.parent).clips()),
    "drafts": ("questions.jsonl", read_drafts),
    "lines of construction": ("x.jsonl", read_lines),
    "object of construction": ("x.json", read_object),
    "training rows": ("rows.jsonl", read_training_rows),
    "released rows": ("rows.jsonl", read_rows),
    "rows for a guesser": ("rows.jsonl", lambda path: rows_as_samples(str(path))),
    "text-only baseline": ("text_floor.json", read_text_only),
    "controls": ("controls.json", read_controls_file),
}

HOSTILE: dict[str, bytes] = {
    "cut": b'{"line": "baseline", "clip": "a',
    "brackets": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "closed brackets": b"[" * 5_000 + b"]" * 5_000,
    "not UTF-8": b'{"clip": "\xff"}',
    "half a surrogate": b'{"clip": "\\ud83d"}',
    "digits": b'{"clip": ' + b"7" * 5_000 + b"}",
    "number": b"7",
    "text": b'"two"',
    "null": b"null",
    "list of a number": b"[7]",
    "object of nothing that is known": b'{"a": 1}',
    "a million names": b"{" + b",".join(b'"%d": 1' % k for k in range(100_000)) + b"}",
    "control characters": b'{"\\u001b[2J\\u202e": "\\u009b"}',
    "zeros": b"\0" * 100,
}
FINE = {
    ("lines of construction", text)
    for text in HOSTILE
    if text.startswith(("object of", "a million", "control"))
}
FINE |= {("object of construction", text) for _, text in FINE}

READ = [(reader, text) for reader in JSON_READERS for text in HOSTILE]


@pytest.mark.parametrize(("reader", "text"), drawn(READ, 90))
def test_json_of_anybody(tmp_path: Path, reader: str, text: str, attacked: Callable[..., None]) -> None:
    name, read = JSON_READERS[reader]
    (tmp_path / name).write_bytes(HOSTILE[text])
    attacked(lambda: read(tmp_path / name), None if (reader, text) in FINE else re.escape(str(tmp_path)))


@pytest.mark.parametrize("reader", JSON_READERS)
def test_a_folder_in_the_place_of_the_file(
    tmp_path: Path, reader: str, attacked: Callable[..., None]
) -> None:
    name, read = JSON_READERS[reader]
    (tmp_path / name).mkdir()
    attacked(lambda: read(tmp_path / name), re.escape(str(tmp_path)))


WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus": -7,
    "nan": math.nan,
    "huge": 10**300,
    "text": "two",
    "list": ["a"],
    "object": {"a": 1},
}
BASELINE = {
    "baseline": {"format": (), "models": (), "packages": ()},
    "group": {"group": ("text",), "tasks": ("list",), "figures": ()},
    "task": {"task": (), "figures": (), "settings": (), "generation": ("object",)},
    "clip": {"frames": ()},
    "sample": {
        "task": (),
        "sample": ("text",),
        "question": ("text",),
        "options": (),
        "answer": ("text",),
        "response": ("text",),
        "percent": ("null",),
        "compat": ("null", "minus", "huge"),
        "unscored": ("null", "text"),
        "choice": ("null",),
        "wording": (),
        "seen": ("true",),
    },
}
"""The values of `WRONG` that a field may hold; most others of the right type make a stored figure wrong."""

FIELDS = [
    (line, field, name)
    for line, fields in BASELINE.items()
    for field, right in fields.items()
    for name in WRONG
    if name not in right
]


@pytest.mark.parametrize(("line", "field", "name"), drawn(FIELDS, 40))
def test_a_baseline_with_a_wrong_field(
    tmp_path: Path, line: str, field: str, name: str, attacked: Callable[..., None]
) -> None:
    rows = [json.loads(text) for text in GOLDEN.read_text(encoding="utf-8").splitlines()]
    next(row for row in rows if row["line"] == line)[field] = WRONG[name]
    path = tmp_path / "golden.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    attacked(lambda: read_baseline(path), "baseline .*golden.jsonl is (damaged|of format)")


STEPS = [{"direction": "left", "landmark": "door", "action": "", "time_s": 1.0}]
ANNOTATION = {"clip": "a.mp4", "annotator": "ana", "scene": "outdoor_street", "forward": STEPS}
ROW = {
    "sample": asdict(read_run(ROOT / "tests" / "saved" / "mini_run").records[0].sample),
    "think": "Left.",
    "clip_sha256": "1" * 64,
}


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")
    return path


TYPED = [
    *[
        ("annotation", field, name)
        for field in ("clip", "annotator", "scene", "forward", "version")
        for name in WRONG
    ],
    *[("step", field, name) for field in STEPS[0] for name in WRONG],
    *[("row", field, name) for field in ROW for name in WRONG],
    *[("sample", field, name) for field in ROW["sample"] for name in WRONG],
]
ALLOWED = {
    *[("annotation", field, "text") for field in ("clip", "annotator")],
    *[("step", field, name) for field in ("landmark", "action") for name in ("text", "null")],
    ("step", "time_s", "minus"),
    *[("row", field, "text") for field in ("think", "clip_sha256")],
    *[("sample", field, "text") for field in ("id", "clip", "question")],
    ("sample", "part", "minus"),
    ("sample", "part", "huge"),
}


@pytest.mark.parametrize(("kind", "field", "name"), drawn([one for one in TYPED if one not in ALLOWED], 60))
def test_a_wrong_field(
    tmp_path: Path, kind: str, field: str, name: str, attacked: Callable[..., None]
) -> None:
    if kind in ("annotation", "step"):
        value = json.loads(json.dumps(ANNOTATION))
        (value if kind == "annotation" else value["forward"][0])[field] = WRONG[name]
        attacked(lambda: read_annotations(written(tmp_path / "a.json", value)), "a.json, annotation 1")
    else:
        value = json.loads(json.dumps(ROW))
        (value if kind == "row" else value["sample"])[field] = WRONG[name]
        attacked(lambda: read_training_rows(written(tmp_path / "r.jsonl", value)), "r.jsonl, line 1")


def test_right_files_are_read(tmp_path: Path) -> None:
    [annotation] = read_annotations(written(tmp_path / "a.json", ANNOTATION))
    [row] = read_training_rows(written(tmp_path / "r.jsonl", ROW))
    assert annotation.clip == "a.mp4" and annotation.forward[0].time_s == 1.0
    assert row.sample.id == ROW["sample"]["id"] and row.think == "Left."
    assert len(read_baseline(GOLDEN).records) > 100


def table(*rows: list[str], head: tuple[str, ...] = COLUMNS) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    return text.getvalue().encode()


LINE = ["a.mp4", "ana", "outdoor_street", "forward", "1.0", "left", "door", ""]
TABLES = [
    Attack(
        "a long field", lambda: table([*LINE[:6], "x" * 200_000, ""]), "line 2: field larger than field limit"
    ),
    Attack("not UTF-8", lambda: table(LINE) + b"\xff", "not UTF-8"),
    Attack(
        "a million columns", lambda: table(LINE, head=tuple(map(str, range(1_000_000)))), "lacks the columns"
    ),
    Attack("a column more", lambda: table([*LINE, "more"])),
    Attack("a column less", lambda: table(LINE[:3]), "line 2: the way is None"),
    Attack("no time", lambda: table([*LINE[:4], "soon", *LINE[5:]]), "line 2: time_s is 'soon'"),
    Attack("a time that is none", lambda: table([*LINE[:4], "nan", *LINE[5:]]), "annotation 1.*nan"),
    Attack("another way", lambda: table([*LINE[:3], "w" * 100_000, *LINE[4:]]), "line 2: the way is 'www"),
    Attack("control characters", lambda: table([*LINE[:3], "\x1b[2J", *LINE[4:]]), "line 2: the way is"),
    Attack("empty", lambda: b"", "holds no annotation"),
    Attack("zeros", lambda: b"\0" * 50, "a.csv"),
]


@pytest.mark.parametrize("attack", TABLES, ids=lambda attack: attack.name)
def test_tables_of_annotations(tmp_path: Path, attack: Attack, attacked: Callable[..., None]) -> None:
    (tmp_path / "a.csv").write_bytes(attack.make())
    attacked(lambda: read_annotations(tmp_path / "a.csv"), attack.message)


CLIPS = ("file", "start", "end", "source", "scene")
CLIP = ["v.mp4", "0", "2", "huji", "outdoor_street"]
LISTS = [
    Attack(
        "a million columns", lambda: table(CLIP, head=(*CLIPS, *map(str, range(300_000)))), "has the unknown"
    ),
    Attack(
        "a long field", lambda: table([*CLIP[:3], "s" * 200_000, CLIP[4]], head=CLIPS), "line 2: field larger"
    ),
    Attack("a long name", lambda: table(["v" * 5_000, *CLIP[1:]], head=CLIPS), "clip 1"),
    Attack("a name with a zero", lambda: table(["v\0.mp4", *CLIP[1:]], head=CLIPS), "clip 1|line 2"),
    Attack(
        "an endless time", lambda: table([*CLIP[:2], "9" * 400, *CLIP[3:]], head=CLIPS), "clip 1.*no video is"
    ),
    Attack(
        "no time", lambda: table([*CLIP[:1], "soon", *CLIP[2:]], head=CLIPS), "clip 1.*its start is 'soon'"
    ),
]


@pytest.mark.parametrize("attack", LISTS, ids=lambda attack: attack.name)
def test_lists_of_clips(tmp_path: Path, attack: Attack, attacked: Callable[..., None]) -> None:
    (tmp_path / "v.mp4").touch()
    (tmp_path / "clips.csv").write_bytes(attack.make())
    attacked(lambda: read_spec(tmp_path / "clips.csv"), attack.message)


PROMPT = (ROOT / "egost_tasks" / "prompts" / "direct.yaml").read_text(encoding="utf-8")
PROMPTS = [
    Attack("tags", lambda: "!!python/object/apply:os.system ['true']", "is no YAML"),
    Attack("brackets", lambda: "[" * 5_000, "is no YAML: its lists are nested too deep"),
    Attack("a list", lambda: "- a", "prompt file"),
    Attack("a number", lambda: "7", "prompt file"),
    Attack("empty", lambda: "", "prompt file"),
    Attack("half a surrogate", lambda: re.sub("(?m)^name: .*", r'name: "\\ud83d"', PROMPT), "prompt file"),
    Attack("two megabytes", lambda: "#" * (2 << 20), "more than 1,048,576 bytes"),
    Attack("a field more", lambda: f"{PROMPT}\nmore: 1\n", "more"),
    Attack("a million fields", lambda: "".join(f"k{k}: 1\n" for k in range(20_000)), "prompt file"),
    Attack("zeros", lambda: "\0" * 50, "is no YAML"),
]


@pytest.mark.parametrize("attack", PROMPTS, ids=lambda attack: attack.name)
def test_prompts(tmp_path: Path, attack: Attack, attacked: Callable[..., None]) -> None:
    (tmp_path / "p.yaml").write_text(attack.make(), encoding="utf-8")
    attacked(lambda: load_prompt(str(tmp_path / "p.yaml")), attack.message)
