"""`egost_training.json`, and the rule that no model is evaluated on samples that it was trained on.

A checkpoint that this project trains carries `egost_training.json`, which lists its rows:

    {"world": "mini", "release_revision": "mini-1 train seed 0 clips 40",
     "rows": [{"sample": "Part1/direction_forward/3", "clip_sha256": "4f1c..."}, ...]}

A row of an earlier stage may name its own `world` and `release_revision`.

`egost.tasks.registration` passes the model's arguments to `note_model` before lmms-eval reads the tasks; the tasks ask
`without_trained_on` for the samples that may be evaluated.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from egost.tasks.cache import cache_root
from egost.tasks.errors import ClipError, ReleaseError
from egost.tasks.file_hashes import source_sha256
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample

MANIFEST = "egost_training.json"
TRAINED_ON = "EGOST_TRAINED_ON"
"""Environment variable: `refuse` (the default), `leave-out` (the paper's protocol, 630 rows of training against the
3582 others, section 5.3) or `allow`."""

Policy = Literal["refuse", "leave-out", "allow"]


@dataclass(frozen=True, slots=True)
class TrainedRow:
    """A sample that a checkpoint was trained on, in whichever stage.

    sample: its id. clip_sha256: of the clip's bytes. world, release_revision: the release that it is from.
    method: the stage that learnt from it (`sft`, `grpo`); empty where the manifest does not say.
    """

    sample: str
    clip_sha256: str
    world: str
    release_revision: str
    method: str = ""


@dataclass(frozen=True)
class TrainedRows:
    """The rows that a checkpoint was trained on, the last stage's first.

    path: its manifest. sha256: hash of the manifest's bytes. content: the whole manifest, as the training wrote it.
    """

    path: Path
    sha256: str
    rows: tuple[TrainedRow, ...]
    content: Mapping[str, Any]

    def among(self, release: Release, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that were trained on, in their order.

        A sample is the same when it has the same id in the same release (the official one at any revision, a mini
        world at its own), or when its clip has the same bytes and it asks for the same task and way: a clip has one
        such question, whatever release it is in.
        """
        ids = {
            row.sample
            for row in self.rows
            if row.world == release.world
            and (row.world == "official" or row.release_revision == release.revision)
        }
        asked = {(row.clip_sha256, _task_way(row.sample)) for row in self.rows}
        return [s for s in samples if s.id in ids or (_clip_sha256(release, s), f"{s.task}_{s.way}") in asked]


_noted: list[str] = []


def note_model(model_args: str | Mapping[str, Any]) -> None:
    """Remember the arguments of the model that the next tasks are for, in lmms-eval's form `NAME=VALUE,...`."""
    values = (
        [pair.partition("=")[2] for pair in model_args.split(",")]
        if isinstance(model_args, str)
        else list(model_args.values())
    )
    _noted[:] = [value.strip() for value in values if isinstance(value, str) and value.strip()]


def noted_manifests() -> list[TrainedRows]:
    """The manifests of the folders that the model's arguments name, whatever an adapter calls them.

    A name on the hub counts with what of it lies in the hub's cache. Raises ReleaseError for a manifest that cannot
    be read.
    """
    found = [path for value in _noted if (path := _manifest_of(value))]
    return [read_manifest(path) for path in dict.fromkeys(found)]


def read_manifest(path: Path) -> TrainedRows:
    """The rows that a manifest lists. Raises ReleaseError where it cannot be read, or is of another form."""
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
        world, revision = manifest["world"], manifest["release_revision"]
        rows = tuple(
            TrainedRow(
                str(row["sample"]),
                str(row["clip_sha256"]),
                str(row.get("world", world)),
                str(row.get("release_revision", revision)),
                str(row.get("method", "")),
            )
            for row in manifest["rows"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(
            f"{path} does not say what the checkpoint was trained on ({error!r}); expected an object with "
            "`world`, `release_revision` and `rows`, each with `sample` and `clip_sha256`. Restore the file: without "
            "it nobody can tell whether training met test."
        ) from error
    return TrainedRows(path, hashlib.sha256(content).hexdigest(), rows, manifest)


def chosen_policy() -> Policy:
    """What `EGOST_TRAINED_ON` asks for. Raises ReleaseError for another word."""
    asked = os.environ.get(TRAINED_ON) or "refuse"
    for policy in ("refuse", "leave-out", "allow"):
        if asked == policy:
            return policy
    raise ReleaseError(f"{TRAINED_ON} is {asked!r}; expected refuse, leave-out or allow.")


def without_trained_on(release: Release, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of a task that the noted model may be evaluated on.

    Raises ReleaseError for an overlap, unless `EGOST_TRAINED_ON` says what is to be done with it, and where
    leaving it out would leave no sample.
    """
    manifests = noted_manifests()
    if not manifests:
        return list(samples)
    policy = chosen_policy()
    trained = {s.id: manifest for manifest in manifests for s in manifest.among(release, samples)}
    if not trained or policy == "allow":
        return list(samples)
    task = f"{samples[0].task}_{samples[0].way}"
    if policy == "refuse":
        raise ReleaseError(
            f"the model was trained on {len(trained)} of the {len(samples)} samples of {task} in the {release.world} "
            f"release: {_first(trained)}. Its rows are listed in {next(iter(trained.values())).path}. Set "
            f"{TRAINED_ON}=leave-out to evaluate it on the others (the paper's protocol), or {TRAINED_ON}=allow to "
            "evaluate it all the same, marked in the results."
        )
    kept = [s for s in samples if s.id not in trained]
    if not kept:
        raise ReleaseError(
            f"the model was trained on all {len(samples)} samples of {task} in the {release.world} release, so that "
            f"{TRAINED_ON}=leave-out leaves none. Leave the task out, or evaluate it on another release."
        )
    return kept


def overlap_metadata(release: Release) -> dict[str, Any]:
    """The entries of a results JSON about the noted model's training rows; empty for a model without a manifest.

    `trained_on_overlap` counts the release's samples that were trained on, by task; `trained_on_parts` all rows of the
    official release by its part (`Part3`), from which a reader sees what is out of distribution.
    """
    manifests = noted_manifests()
    if not manifests:
        return {}
    trained = {s.id: s for m in manifests for s in m.among(release, release.index.samples)}
    tasks = Counter(f"{s.task}_{s.way}" for s in trained.values())
    parts = Counter(r.sample.split("/")[0] for m in manifests for r in m.rows if r.world == "official")
    return {
        "trained_on": chosen_policy(),
        "trained_on_rows": sum(len(m.rows) for m in manifests),
        "trained_on_overlap": dict(sorted(tasks.items())),
        "trained_on_parts": dict(sorted(parts.items())),
        "trained_on_sha256": [m.sha256 for m in manifests],
    }


def _manifest_of(value: str) -> Path | None:
    path = Path(value).expanduser() / MANIFEST
    try:
        if path.is_file():
            return path
    except OSError:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if value.count("/") != 1 or Path(value).exists():
        return None
    try:
        cached = try_to_load_from_cache(value, MANIFEST)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


def _clip_sha256(release: Release, sample: Sample) -> str | None:
    try:
        return source_sha256(release.clip_path(sample).absolute(), cache_root() / "clips" / "sources")
    except ClipError:
        # Without a clip there is nothing that could have been seen in training.
        return None


def _task_way(sample_id: str) -> str:
    return sample_id.split("/")[1] if sample_id.count("/") >= 2 else ""


def _first(ids: Iterable[str]) -> str:
    some = list(ids)
    return ", ".join(some[:3]) + (", ..." if len(some) > 3 else "")
