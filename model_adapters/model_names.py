"""Names of models: every command that takes a model resolves its name here.

A name is a short name of `egost models`, a hub id, a checkpoint's folder, or one of the checkpoints that come with
the package: `mini-base`, `mini-st-r1` (how each was made, its `README.md` says) and `tiny` (untrained).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.families import FAMILIES
from egost.model_adapters.known_models import KnownModel, known_model, known_models, unknown_model
from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.clips.protocols import LEAST_PATCHES, PATCH, parse_protocol
from egost.tasks.errors import ReleaseError, SettingError
from egost.tasks.keys import SERVER_KEY, check_url, may_hold_secret
from egost.tasks.prompts import SHIPPED
from egost.tasks.release.trained_on import MANIFEST, TrainedRows, read_manifest

_CHECKPOINTS = Path(__file__).parent / "checkpoints"

MINI_BASE = _CHECKPOINTS / "mini_base"
"""A Qwen2-VL that sees the mini world; what ST-R1 is trained from there."""

MINI_ST_R1 = _CHECKPOINTS / "mini_st_r1"
"""What `make train-demo` of egost 0.2.0 made of it: fine-tuned on reverse thinking, then GRPO."""

TINY = "tiny"

EMBEDDED: Mapping[str, Path | None] = {"mini-base": MINI_BASE, "mini-st-r1": MINI_ST_R1, TINY: None}
"""Short names of the package's own checkpoints; `tiny` is made at first use. Only the mini world is theirs."""


def weights_named(name: str) -> tuple[str, str | None]:
    """The folder or hub id of a name, and the revision that the table pins it to, if any.

    Raises AdapterError for a name that is neither known, a folder nor written as a hub id (it names the closest
    known names), and for an API's model, which has no weights.
    """
    if name in EMBEDDED:
        return str(EMBEDDED[name] or tiny_checkpoint()), None
    if model := known_model(name):
        if model.parameters is None:
            raise AdapterError(
                f"{model.name} has no weights to load: it is a model of {model.family}'s API ({model.availability}). "
                f"{model.note}".rstrip()
            )
        return model.model, model.revision
    is_folder = Path(name).expanduser().is_dir()
    if not is_folder and may_hold_secret(name):
        check_url(name, "the name of the model", SERVER_KEY, AdapterError)
    if is_folder or "/" in name:
        return name, None
    raise unknown_model(name)


def model_named(name: str, revision: str | None = None) -> KnownModel:
    """The known model of a name; else what a checkpoint's own config says: a folder, or a hub id on this disk.

    revision: of a hub id. A checkpoint that was trained here is asked with the prompt, frames and pixels that it was
    trained with.

    Raises AdapterError where it is neither, or the checkpoint cannot be read or is of an unknown family.
    """
    if known := known_model(name):
        return known.model_copy(update={"revision": revision}) if revision else known
    source, _ = weights_named(name)
    checkpoint = checkpoint_identity(source, revision)
    family = known_models().families.get(checkpoint.model_type)
    if family is None:
        raise AdapterError(
            f"{name} is a '{checkpoint.model_type}', and how to ask that is not known here; expected one of "
            f"{', '.join(known_models().families)}. Run lmms-eval with an adapter of its own for it."
        )
    patch = FAMILIES[checkpoint.model_type].patch or PATCH
    own = {**family.model_dump(mode="python"), **_as_trained(checkpoint.folder, patch)}
    if name in EMBEDDED:
        own = {"tasks": "egost_mini", **own, "protocol": "uniform8"}
    short = name if name in EMBEDDED else Path(name).name
    found = KnownModel(name=short, model=source, family=checkpoint.model_type, **own)
    return found.model_copy(update={"revision": revision}) if revision else found


def _as_trained(folder: Path, patch: int) -> dict[str, Any]:
    """The prompt that a checkpoint of this project was trained with, where it is one of those that ship, the protocol
    whose frames are those that training showed, and the tasks that its rows are of. patch: of the
    checkpoint's family, pixels.
    """
    try:
        manifest = read_manifest(folder / MANIFEST)
        settings = manifest.content["settings"]
        prompt, frames = settings["prompt"], parse_protocol(settings["protocol"])
        least, most = int(settings["smallest_pixels"]), int(settings["largest_pixels"])
        known_prompt = prompt in SHIPPED
    except (ReleaseError, SettingError, KeyError, TypeError, ValueError, OverflowError):
        return {}  # Not trained here; a broken manifest is refused when the tasks are read.
    if frames.size is None:
        least = max(least, frames.min_pixels or 0)
        frames = replace(
            frames,
            max_pixels=min(most, frames.max_pixels or most),
            min_pixels=None if least <= LEAST_PATCHES * patch**2 else least,
            patch=patch,
        )
    return {
        "protocol": frames.name,
        "as_trained": True,
        "tasks": _taught(manifest),
        **({"prompt": prompt} if known_prompt else {}),
        **({"as_published": "st-r1"} if prompt == "think" else {}),
    }


def _taught(manifest: TrainedRows) -> str:
    """The group with the kinds of questions that a checkpoint was taught, on the world that it was taught on."""
    kinds = {row.sample.partition("/")[2].split("_")[0] for row in manifest.rows}
    group = "_mcq" if kinds and "route" not in kinds else "_route" if kinds == {"route"} else ""
    return f"{'egost_mini' if manifest.content.get('world') == 'mini' else 'egost'}{group}"
