"""Runs of strangers: each field of each file with each value that it cannot have, and damaged files.

What must come is worked out by hand: for each field the kind of its values, for each kind those that it has.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks import Attack
from places import ROOT

SAVED = ROOT / "tests" / "saved" / "mini_run"
STAMP = next(SAVED.glob("*_results.json")).name.removesuffix("_results.json")
CHOICE, ROUTE = "egost_mini_direction_forward", "egost_mini_route_reverse"
Change = Callable[[Path], object]

WRONG: dict[str, Any] = {
    "null": None,
    "true": True,
    "seven": 7,
    "minus": -7,
    "half": 7.5,
    "nan": math.nan,
    "infinity": math.inf,
    "huge integer": 10**300,
    "huge float": 1e300,
    "text": "two",
    "empty text": "",
    "list": [],
    "list of a text": ["a"],
    "object": {},
    "object of a number": {"a": 1},
}

RIGHT = {
    "text": {"text", "empty text"},
    "some text": {"text"},
    "percent": {"seven", "half"},
    "count": {"seven"},
    "whole": {"seven", "minus", "huge integer"},
    "number": {"seven", "half", "minus", "huge float"},
    "length": {"seven", "half", "huge float", "huge integer"},
    "flag": {"true"},
    "texts": {"list", "list of a text"},
    "counts": {"list"},
    "settings": {"object", "object of a number"},
    "object": {"object", "object of a number"},
    "named counts": {"object", "object of a number"},
    "named texts": {"object"},
    "options": {"list of a text"},
    "share": set(),
    "word": set(),
}
"""The values of `WRONG` that a field of a kind may hold; `?` behind a kind adds null."""

SAMPLE = {
    "target": "text",
    "input": "text",
    "compat": "percent?",
    "percent": "word",
    "percent.sample_id": "word",
    "percent.clip": "some text",
    "percent.clip_id": "some text",
    "percent.question": "text",
    "percent.options": "options",
    "percent.score": "percent",
    "percent.unscored": "word?",
    "percent.generation": "word?",
    "percent.generation.engine": "text",
    "percent.generation.model": "text",
    "percent.generation.revision": "text?",
    "percent.generation.settings": "settings",
    "percent.generation.finish_reason": "text?",
    "percent.generation.truncated": "flag?",
    "percent.generation.prompt_tokens": "count?",
    "percent.generation.completion_tokens": "count?",
    "percent.generation.video_tokens": "count?",
    "percent.generation.journaled": "flag",
    "percent.generation.failure": "text?",
    "percent.generation.snapshot": "text?",
    "percent.generation.replaced": "count",
    "percent.frames": "word",
    "percent.frames.source": "text",
    "percent.frames.protocol": "text",
    "percent.frames.n_frames": "count",
    "percent.frames.counted_by": "text",
    "percent.frames.expected_frames": "count?",
    "percent.frames.complete": "flag?",
    "percent.frames.indices": "counts",
    "percent.frames.timestamps": "counts",
    "percent.frames.duration": "length",
    "percent.frames.width": "count",
    "percent.frames.rotation": "whole",
    "percent.frames.pixels_sha256": "text",
    "percent.frames.mirrored": "flag",
    "percent.frames.transfer": "word",
    "invalid": "percent?",
    "spatiotemporal": "percent?",
    "n_scored": "text?",  # a text, or None, where the run is older
    "n_unscored": "text?",
}
OF_A_CHOICE = {"percent.choice": "word?", "percent.choice.letter": "word?", "percent.choice.how": "word"}
OF_A_ROUTE = {
    "percent.judgement": "word?",
    "percent.judgement.direction": "word",
    "percent.judgement.landmark": "word",
    "percent.judgement.semantic": "word",
    "percent.judgement.reasons": "text",
    "percent.judgement.judge": "text",
    "percent.judgement.empty": "flag",
    "percent.judgement.repeats": "counts",
    "judge_failed": "text?",
}
METADATA = {
    "world": "word?",
    "release_revision": "text?",
    "release_sha256": "text?",
    "excluded_entries": "named counts?",
    "sampling_protocol": "text?",
    "prompt": "text?",
    "prompt_sha256": "text?",
    "as_published": "text?",
    "judge": "text?",
    "max_unscored_share": "share",
    "packages": "named texts?",
    "machine": "object?",
    "commit": "text?",
}
RESULTS = {
    "results": "object",
    "configs": "object",
    "n-samples": "object",
    "config": "object",
    "config.model": "text?",
    "config.model_args": "text?|object",
    "config.gen_kwargs": "text?|object",
    "config.random_seed": "count?",
    "config.limit": "length?",
    "date": "text?",
    "git_hash": "text?",
    "model_name": "text?",
    "group_subtasks": "object",
    f"n-samples.{CHOICE}": "object",
    f"n-samples.{CHOICE}.effective": "count?",
    f"configs.{CHOICE}": "object",
    f"configs.{CHOICE}.metadata": "object?",
    f"configs.{CHOICE}.generation_kwargs": "object?",
    f"results.{CHOICE}": "word",
    f"results.{CHOICE}.percent,none": "percent?|nan",
    f"results.{CHOICE}.compat,none": "number?|nan",
    f"results.{CHOICE}.n_scored,none": "count?",
    f"results.{CHOICE}.chance,none": "percent?|nan",
    **{f"configs.{CHOICE}.metadata.{name}": kind for name, kind in METADATA.items()},
}


def may(kind: str, value: str) -> bool:
    """Whether a field of a kind may hold a value of `WRONG`."""
    for one in kind.split("|"):
        allowed = {"nan"} if one == "nan" else RIGHT[one.removesuffix("?")]
        if value in allowed or (one.endswith("?") and value == "null"):
            return True
    return False


def put(content: Any, field: str, value: Any) -> None:
    *parents, last = field.split(".")
    for name in parents:
        content = content[name]
    content[last] = value


def rewritten(task: str, change: Callable[[Any], object]) -> Change:
    """The run with its first sample of a task changed."""

    def make(run: Path) -> None:
        path = run / f"{STAMP}_samples_{task}.jsonl"
        first, rest = path.read_text(encoding="utf-8").split("\n", 1)
        row = json.loads(first)
        change(row)
        path.write_text(f"{json.dumps(row)}\n{rest}", encoding="utf-8")

    return make


def retold(change: Callable[[Any], object]) -> Change:
    """The run with another results file."""

    def make(run: Path) -> None:
        path = run / f"{STAMP}_results.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return make


def of_fields(fields: dict[str, str], wrap: Callable[[Callable[[Any], object]], Change]) -> Iterator[Attack]:
    for field, kind in fields.items():
        for name, value in WRONG.items():
            if not may(kind, name):
                last = re.escape(field.split(".")[-1].split(",")[0])
                yield Attack(
                    f"{field}: {name}",
                    wrap(lambda row, f=field, v=value: put(row, f, copy.deepcopy(v))),
                    rf"_(samples|results).*{last}",
                )


FIELDS = [
    *of_fields(SAMPLE | OF_A_CHOICE, lambda change: rewritten(CHOICE, change)),
    *of_fields(OF_A_ROUTE, lambda change: rewritten(ROUTE, change)),
    *of_fields(RESULTS, retold),
]


def damaged(part: str, content: Callable[[bytes], bytes]) -> Change:
    def make(run: Path) -> None:
        path = next(run.glob(f"*{part}"))
        path.write_bytes(content(path.read_bytes()))

    return make


def in_the_way(part: str) -> Change:
    def make(run: Path) -> None:
        path = next(run.glob(f"*{part}"))
        path.unlink()
        path.mkdir()

    return make


LINES = f"_samples_{CHOICE}.jsonl"
FILES = [
    Attack("results cut", damaged("_results.json", lambda c: c[: len(c) // 2]), "_results.json"),
    Attack("results empty", damaged("_results.json", lambda _: b""), "_results.json"),
    Attack("results a list", damaged("_results.json", lambda _: b"[]"), "_results.json"),
    Attack("results not UTF-8", damaged("_results.json", lambda c: c[:9] + b"\xff" + c[9:]), "not UTF-8"),
    Attack("results of brackets", damaged("_results.json", lambda _: b"[" * 100_000), "nested 100,000 deep"),
    Attack("results of objects", damaged("_results.json", lambda _: b'{"a":' * 100_000), "nested"),
    Attack("half a surrogate", damaged("_results.json", lambda c: c.replace(b"{", b'{"x": "\\ud83d",', 1))),
    Attack(
        "5,000 digits",
        damaged("_results.json", lambda c: c.replace(b"{", b'{"x": ' + b"9" * 5_000 + b",", 1)),
        "more digits",
    ),
    Attack("results a folder", in_the_way("_results.json"), "did not finish|_results.json"),
    Attack("samples cut", damaged(LINES, lambda c: c[:-40]), "line 6.*The file was cut"),
    Attack("samples empty", damaged(LINES, lambda _: b""), "holds 0 samples, the run had 6"),
    Attack("line doubled", damaged(LINES, lambda c: c + c.split(b"\n")[0] + b"\n"), "is there twice"),
    Attack("line lost", damaged(LINES, lambda c: c.split(b"\n", 1)[1]), "holds 5 samples, the run had 6"),
    Attack("line a number", damaged(LINES, lambda c: b"7\n" + c), "line 1.*found 7"),
    Attack("line blank", damaged(LINES, lambda c: b"\n" + c), "line 1"),
    Attack("line of brackets", damaged(LINES, lambda c: b"[" * 100_000 + b"\n" + c), "line 1.*nested"),
    Attack("line not UTF-8", damaged(LINES, lambda c: b'{"a": "\xff"}\n' + c), "line 1.*not UTF-8"),
    Attack(
        "line of half a surrogate",
        damaged(LINES, lambda c: b'{"a": "\\udc00"}\n' + c),
        "line 1.*target: field required",
    ),
    Attack(
        "line of digits", damaged(LINES, lambda c: b'{"a": ' + b"9" * 5_000 + b"}\n" + c), "line 1.*digits"
    ),
    Attack("samples a folder", in_the_way(LINES), "_samples_.*cannot be read"),
    Attack(
        "a response of 17 MB",
        rewritten(CHOICE, lambda row: row.update(filtered_resps="B" * (17 << 20))),
        "egost reads 16,777,216 at most",
    ),
    Attack(
        "other task",
        rewritten(CHOICE, lambda r: put(r, "percent.sample_id", "Part1/route_reverse/1")),
        "another",
    ),
    Attack(
        "score and a reason",
        rewritten(CHOICE, lambda r: put(r, "percent.unscored", "judge_failed")),
        "a score and a reason",
    ),
    Attack(
        "no score, no reason", rewritten(CHOICE, lambda r: r["percent"].pop("score")), "neither a score nor"
    ),
    *[
        Attack(
            f"without {field}",
            rewritten(CHOICE, lambda r, f=field: r["percent"].pop(f)),
            f"{field}: field req",
        )
        for field in ("sample_id", "clip", "unscored", "choice", "judgement", "generation")
    ],
    *[
        Attack(f"without {field}", rewritten(CHOICE, lambda r, f=field: r.pop(f)), f"{field}: field req")
        for field in ("target", "input", "filtered_resps", "percent", "compat")
    ],
    *[
        Attack(
            f"response {name}",
            rewritten(CHOICE, lambda r, v=value: r.update(filtered_resps=v)),
            "filtered_resps",
        )
        for name, value in {**WRONG, "list of numbers": [1]}.items()
        if name not in ("text", "empty text", "list of a text")
    ],
    Attack(
        "one option",
        rewritten(CHOICE, lambda r: put(r, "percent.options", ["left"])),
        r"line 1.*choice\.letter: '[B-D]' is none of A",
    ),
    Attack("no figures", retold(lambda told: told.update(results={"a": 1})), "has no task of Ego-ST Bench"),
    Attack("no tasks", retold(lambda told: told.update(configs={})), "has no task of Ego-ST Bench"),
    Attack(
        "a sample more", retold(lambda told: put(told, f"n-samples.{CHOICE}.effective", 7)), "the run had 7"
    ),
    *[
        Attack(
            f"another {field}",
            retold(lambda told, f=field: put(told, f"configs.{CHOICE}.metadata.{f}", "two")),
            "mixes tasks of 2 releases",
        )
        for field in ("release_revision", "release_sha256")
    ],
    Attack("without counts", retold(lambda told: told.pop("n-samples"))),
    Attack("another task's figures", retold(lambda told: told["results"].update(arc={"acc,none": "high"}))),
    Attack("another task's config", retold(lambda told: told["configs"].update(arc=["a"]))),
]
