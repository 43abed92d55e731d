"""Writes `egost_training.json`, what a checkpoint was made from, and merges LoRA adapters into their base.

    {"method": "sft", "base": "Qwen/Qwen2-VL-7B-Instruct", "base_revision": "895c3a49...", "world": "official",
     "release_revision": "54971f7...", "seed": 42, "settings": {...}, "packages": {"trl": "1.16.0", ...},
     "rows": [{"sample": "Part3/direction_reverse/17", "clip_sha256": "4f1c...", "world": "official", ...}]}

An evaluation reads the rows (`egost.tasks.release.trained_on`) and leaves them out or refuses to run.

    egost train merge runs/st_r1_7b_cot_sft/final runs/st_cot    # a whole checkpoint, with the same record
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from egost.model_adapters.checkpoints import Checkpoint, checkpoint_identity
from egost.tasks.cache import whole_folder, write_whole
from egost.tasks.errors import ReleaseError
from egost.tasks.json_text import read_json
from egost.tasks.release import trained_on
from egost.tasks.release.trained_on import MANIFEST, TrainedRow
from egost.tasks.sample import World
from egost.training import TrainingError
from egost.training.rows.training_rows import TrainingRow

FINAL = "final"
"""The folder of a run with its last checkpoint, which every engine takes."""

_PACKAGES = ("egost", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "deepspeed")


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
        """Write it into a checkpoint's or a run's folder. Raises CacheError."""
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
    ReleaseError for a base whose manifest cannot be read.
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
    """The manifest of a folder; None where it has none. Raises ReleaseError for one that cannot be read."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    found = trained_on.read_manifest(path)
    try:
        return CheckpointManifest(**{**found.content, "rows": found.rows})
    except TypeError as error:
        raise ReleaseError(
            f"{path} is no manifest of this version ({error}), so nobody knows what the checkpoint was trained on. Get "
            "the checkpoint again, or train it again with this version."
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


_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def merge(adapter: Path, target: Path, base: str | None = None) -> Checkpoint:
    """Write the merged model with tokenizer, processor, chat template, generation config and manifest.

    adapter: a folder that PEFT wrote. target: the new folder, which appears whole or not at all; what is there is not
    overwritten. base: folder or hub id of the unquantised model, by default the one that the adapters name. The
    weights keep the base's dtype; the processor is the adapters' own where they have one, else the base's.
    Raises TrainingError, and AdapterError for a base that is not on this disk.
    """
    from safetensors import SafetensorError

    config, record = _adapter_config(adapter), read_manifest(adapter)
    if target.exists():
        raise TrainingError(f"{target} is there already. Give another folder, or delete it.")
    name = base or config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise TrainingError(f"{adapter / 'adapter_config.json'} names no base model. Give --base.")
    origin = checkpoint_identity(name)
    _check_base(record, origin, adapter)
    merged = _merged(adapter, origin.folder)
    with whole_folder(target, SafetensorError) as folder:
        for part in merged:
            part.save_pretrained(folder)
        if record:
            record.write(folder)
    return checkpoint_identity(target)


def _merged(adapter: Path, base: Path) -> tuple[Any, Any]:
    """The merged model, and its processor."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto", local_files_only=True)
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter))
        # Adapters with NaN would make a whole checkpoint of noise.
        merged = adapted.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the adapters of {adapter} cannot be put into {base}: {error}. Give --base the model that they were "
            "trained on."
        ) from error
    own = any((adapter / file).is_file() for file in _PROCESSOR_FILES)
    return merged, AutoProcessor.from_pretrained(adapter if own else base, local_files_only=True)


def _adapter_config(adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        whole = (adapter / "config.json").is_file()
        raise TrainingError(
            f"{adapter} holds no adapters ({error}). "
            + (
                "It is a whole checkpoint, which needs no merging."
                if whole
                else "Give the folder of a LoRA run."
            )
        ) from error
    if not isinstance(config, dict):
        raise TrainingError(f"{path} holds no JSON object; it is no adapter's config.")
    return config


def _check_base(record: CheckpointManifest | None, base: Checkpoint, adapter: Path) -> None:
    if record and record.base_revision != base.revision:
        raise TrainingError(
            f"{adapter} was trained on {record.base} ({record.base_revision[:19]}), but {base.folder} is "
            f"{base.revision[:19]}. Give --base the checkpoint that it was trained on."
        )
