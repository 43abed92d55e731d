"""Puts LoRA adapters into their base model: a whole checkpoint that every engine takes as it is.

egost train merge runs/st_r1_7b_cot_sft/final runs/st_cot
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from egost.model_adapters.checkpoints import Checkpoint, checkpoint_identity
from egost.tasks.cache import whole_folder
from egost.training import TrainingError
from egost.training.runs.checkpoint_manifest import CheckpointManifest, read_manifest

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def merge(adapter: Path, target: Path, base: str | None = None) -> Checkpoint:
    """Write the merged model with tokenizer, processor, chat template, generation config and manifest.

    adapter: a folder that PEFT wrote. target: the new folder, which appears whole or not at all; what is there is not
    overwritten. base: folder or hub id of the unquantised model, by default the one that the adapters name. The
    weights keep the base's dtype; the processor is the adapters' own where they have one, else the base's.
    Raises TrainingError, and AdapterError for a base that is not on this disk.
    """
    config, record = _adapter_config(adapter), read_manifest(adapter)
    if target.exists():
        raise TrainingError(f"{target} is there already. Give another folder, or delete it.")
    name = base or config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise TrainingError(f"{adapter / 'adapter_config.json'} names no base model. Give --base.")
    origin = checkpoint_identity(name)
    _check_base(record, origin, adapter)
    with whole_folder(target) as folder:
        _write(adapter, origin.folder, folder)
        if record:
            record.write(folder)
    return checkpoint_identity(target)


def _write(adapter: Path, base: Path, folder: Path) -> None:
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
    merged.save_pretrained(folder)
    own = any((adapter / file).is_file() for file in _PROCESSOR_FILES)
    AutoProcessor.from_pretrained(adapter if own else base, local_files_only=True).save_pretrained(folder)


def _adapter_config(adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
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
