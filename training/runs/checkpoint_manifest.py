"""`egost_training.json`: what a checkpoint was made of, carried by every checkpoint that training or merging writes.

    {"method": "sft", "base": "Qwen/Qwen2-VL-7B-Instruct", "base_revision": "895c3a49...", "world": "official",
     "release_revision": "54971f7...", "seed": 42, "settings": {...}, "packages": {"trl": "1.16.0", ...},
     "rows": [{"sample": "Part3/direction_reverse/17", "clip_sha256": "4f1c...", "world": "official", ...}]}

An evaluation reads the rows, so that it does not ask what the checkpoint was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.tasks.cache import write_whole
from egost.tasks.errors import EgostError
from egost.tasks.release.trained_on import MANIFEST as MANIFEST
from egost.tasks.sample import World
from egost.training.rows.training_rows import TrainingRow

_PACKAGES = ("egost", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "deepspeed")


class ManifestError(EgostError):
    """A checkpoint's `egost_training.json` cannot be read."""


@dataclass(frozen=True, slots=True)
class TrainedRow:
    """A sample that a checkpoint has learnt from, in whichever stage.

    sample: id in the release. clip_sha256: of the clip file. world, release_revision: the release that it is of.
    method: the stage that learnt from it.
    """

    sample: str
    clip_sha256: str
    world: str
    release_revision: str
    method: str


@dataclass(frozen=True, slots=True)
class CheckpointManifest:
    """What a checkpoint was made of.

    base, base_revision: the checkpoint that its last stage began with, and its commit or hash.
    world, release_revision, seed, settings: of the last stage; settings are all that change its result.
    packages: versions that the last stage ran with.
    rows: of the last stage in their order, then those that its base had learnt from before.
    """

    method: Literal["sft", "grpo"]
    base: str
    base_revision: str
    world: World
    release_revision: str
    seed: int
    settings: Mapping[str, Any]
    packages: Mapping[str, str]
    rows: tuple[TrainedRow, ...]

    def write(self, folder: Path) -> None:
        """Write it into a checkpoint's or a run's folder. Raises OSError."""
        write_whole(folder / MANIFEST, json.dumps(asdict(self), indent=1, default=str).encode())

    def differs_from(self, other: CheckpointManifest) -> list[str]:
        """Names of what makes it another run than `other`; a run may go on under other package versions."""
        one, two = (json.loads(json.dumps(asdict(m), default=str)) for m in (self, other))
        return sorted(_differences(one | {"packages": None}, two | {"packages": None}))


def new_manifest(
    method: Literal["sft", "grpo"],
    checkpoint: str,
    revision: str | None,
    rows: Sequence[TrainingRow],
    *,
    world: World,
    release_revision: str,
    seed: int,
    settings: Mapping[str, Any],
) -> CheckpointManifest:
    """The manifest of a run that begins with a checkpoint; its base's rows are taken over.

    revision: of a hub id; a folder has none. Raises AdapterError for a checkpoint that is not on this disk,
    ManifestError for a base whose manifest cannot be read.
    """
    base = checkpoint_identity(checkpoint, None if Path(checkpoint).expanduser().is_dir() else revision)
    own = tuple(TrainedRow(row.sample.id, row.clip_sha256, world, release_revision, method) for row in rows)
    before = read_manifest(base.folder)
    return CheckpointManifest(
        method=method,
        base=base.name,
        base_revision=base.revision,
        world=world,
        release_revision=release_revision,
        seed=seed,
        settings=dict(settings),
        packages={name: found for name in _PACKAGES if (found := _version(name))},
        rows=own + (before.rows if before else ()),
    )


def read_manifest(folder: Path) -> CheckpointManifest | None:
    """The manifest of a folder; None where it has none. Raises ManifestError for one that cannot be read."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return CheckpointManifest(**{**found, "rows": tuple(TrainedRow(**row) for row in found["rows"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ManifestError(
            f"{path} cannot be read ({error!r}), so nobody knows what the checkpoint was trained on. Get the "
            "checkpoint again, or train it again with this version."
        ) from error


def _differences(found: Any, asked: Any, at: str = "") -> set[str]:
    if isinstance(found, dict) and isinstance(asked, dict):
        names = found.keys() | asked.keys()
        return set().union(*(_differences(found.get(n), asked.get(n), f"{at}.{n}".strip(".")) for n in names))
    return set() if found == asked else {at}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
