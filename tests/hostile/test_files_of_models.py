"""Checkpoints of strangers: their configuration, the list of their weights, and what they say that they learnt."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack, drawn

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.model_names import model_named
from egost.tasks.prompts import read_authors_prompts
from egost.tasks.release.trained_on import MANIFEST, note_model, noted_manifests

CONFIG = {
    "model_type": "qwen2_vl",
    "vision_config": {"depth": 1},
    "text_config": {"max_position_embeddings": 64},
}
INDEX = {"weight_map": {"a": "model.safetensors"}}
LEARNT: dict[str, Any] = {
    "method": "sft",
    "base": "b",
    "base_revision": "1",
    "world": "mini",
    "release_revision": "r",
    "seed": 1,
    "settings": {"prompt": "direct", "protocol": "uniform8", "smallest_pixels": 1, "largest_pixels": 9},
    "rows": [{"sample": "Part1/direction_forward/1", "clip_sha256": "1" * 64}],
}
FILES = {"config.json": CONFIG, "model.safetensors.index.json": INDEX, MANIFEST: LEARNT}

TEXTS: dict[str, bytes] = {
    "cut": b'{"model_type": "a',
    "empty": b"",
    "brackets": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "closed brackets": b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "not UTF-8": b'{"model_type": "\xff"}',
    "half a surrogate": b'{"model_type": "\\ud83d"}',
    "digits": b'{"model_type": ' + b"7" * 5_000 + b"}",
    "number": b"7",
    "list": b"[7]",
    "null": b"null",
    "zeros": b"\0" * 100,
}
WRONG: dict[str, Any] = {
    "null": None, "true": True, "minus": -7, "nan": math.nan, "huge": 10**300, "text": "two", "list": ["a"],
    "object": {"a": 1}, "control characters": "\x1b[2J\u202e",
}  # fmt: skip
FIELDS = {
    "config.json": {
        "model_type": ("text", "control characters"),
        "vision_config": ("null", "object"),
        "text_config": ("null", "object"),
        "llm_config": ("null", "object"),
        "text_config.max_position_embeddings": (),
    },
    "model.safetensors.index.json": {"weight_map": (), "weight_map.a": ()},
    MANIFEST: {
        "world": ("text", "control characters"),
        "release_revision": ("text", "control characters"),
        "rows": (),
        "base": ("text", "control characters"),
        "base_revision": ("text", "control characters"),
        "settings": ("object",),
        "rows.0.sample": ("text", "control characters"),
        "rows.0.clip_sha256": ("text", "control characters"),
        "rows.0.method": ("text", "control characters"),
    },
}
"""The values of `WRONG` that a field may hold."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    for name, content in FILES.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def read(folder: Path) -> object:
    """All that is read of a checkpoint before a model is loaded from it."""
    identity = checkpoint_identity(folder)
    note_model({"pretrained": str(folder)})
    return identity, noted_manifests(), model_named(str(folder))


def test_a_whole_one_is_read(checkpoint: Path) -> None:
    identity, [manifest], model = read(checkpoint)  # type: ignore[misc]
    assert identity.model_type == "qwen2_vl" and len(manifest.rows) == 1
    assert model.tasks == "egost_mini_mcq"


@pytest.mark.parametrize(
    ("file", "text"), drawn([(file, text) for file in FILES for text in TEXTS], 20), ids=str
)
def test_a_file_that_is_none(attacked: Callable[..., None], checkpoint: Path, file: str, text: str) -> None:
    (checkpoint / file).write_bytes(TEXTS[text])
    attacked(lambda: read(checkpoint), re.escape(str(checkpoint)))


@pytest.mark.parametrize("file", FILES)
def test_a_folder_in_the_place_of_a_file(attacked: Callable[..., None], checkpoint: Path, file: str) -> None:
    (checkpoint / file).unlink()
    (checkpoint / file).mkdir()
    if file == MANIFEST:
        attacked(lambda: read(checkpoint))
    else:
        attacked(lambda: read(checkpoint), re.escape(str(checkpoint)))


@pytest.mark.parametrize(
    ("file", "field", "name"),
    drawn(
        [
            (file, f, n)
            for file, of in FIELDS.items()
            for f, right in of.items()
            for n in WRONG
            if n not in right
        ],
        60,
    ),
)
def test_a_wrong_field(
    attacked: Callable[..., None], checkpoint: Path, file: str, field: str, name: str
) -> None:
    content = json.loads(json.dumps(FILES[file]))
    *way, last = field.split(".")
    inner: Any = content
    for part in way:
        inner = inner[int(part) if part.isdecimal() else part]
    inner[last] = WRONG[name]
    (checkpoint / file).write_text(json.dumps(content))
    attacked(lambda: read(checkpoint), re.escape(str(checkpoint)))


SETTINGS = [
    (field, name) for field in ("prompt", "protocol", "smallest_pixels", "largest_pixels") for name in WRONG
]


@pytest.mark.parametrize(("field", "name"), drawn(SETTINGS, 12))
def test_a_setting_of_a_training_that_is_none(
    attacked: Callable[..., None], checkpoint: Path, field: str, name: str
) -> None:
    """Whatever a stranger's training was set to, its checkpoint can be asked; at the tasks' own prompt and frames."""
    content = json.loads(json.dumps(LEARNT))
    content["settings"][field] = WRONG[name]
    (checkpoint / MANIFEST).write_text(json.dumps(content))
    attacked(lambda: read(checkpoint))


@pytest.mark.parametrize("sample", ["x", "/", "a/", "a/b", "a/b/c/d", "\u202e"])
def test_an_id_of_another_form(attacked: Callable[..., None], checkpoint: Path, sample: str) -> None:
    row = {**LEARNT["rows"][0], "sample": sample}
    (checkpoint / MANIFEST).write_text(json.dumps({**LEARNT, "rows": [row]}))
    attacked(lambda: read(checkpoint))


SCRIPTS = [
    Attack("brackets", lambda: b"(" * 5_000, "cannot be read"),
    Attack("a long sum", lambda: b"x = " + b"+".join([b"a"] * 20_000), "cannot be read|holds no question"),
    Attack("signs", lambda: b"x = " + b"-" * 50_000 + b"1", "cannot be read"),
    Attack("zeros", lambda: b"x = 1\n\0", "cannot be read"),
    Attack("not UTF-8", lambda: b"x = '\xff'", "cannot be read"),
    Attack(
        "half a surrogate",
        lambda: b"x = '\\ud83d' + question_text + options_str",
        "holds no question",
    ),
    Attack("no Python", lambda: b"<html>", "cannot be read"),
    Attack("digits", lambda: b"x = " + b"9" * 5_000, "cannot be read"),
    Attack("empty", lambda: b"", "holds no question"),
    Attack("code", lambda: b"import os; os._exit(7)", "holds no question"),
]


@pytest.mark.parametrize("attack", SCRIPTS, ids=lambda attack: attack.name)
def test_a_clone_that_is_none(attacked: Callable[..., None], tmp_path: Path, attack: Attack) -> None:
    script = tmp_path / "infer_code" / "ST-R1_mcq" / "mcq_infer.py"
    script.parent.mkdir(parents=True)
    script.write_bytes(attack.make())
    attacked(lambda: read_authors_prompts(tmp_path), attack.message)
