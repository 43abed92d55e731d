"""Which model a server serves, as far as it can be known from outside.

vLLM lists its names at `/v1/models`, with neither the revision nor the dtype. `egost serve` therefore advertises the
server settings that affect responses as an extra model name, of the form `egost?dtype=bfloat16&revision=...`; the
adapter reads and records them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from loguru import logger

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, EngineIdentity
from egost.model_adapters.families import FAMILIES, Family

_MARK = "egost?"

ROLLOUTS = "rollouts"
"""The setting of a server that samples for a training: its weights change after it was started."""


@dataclass(frozen=True)
class ServedModel:
    """What a server says that it serves.

    name: for requests. root: hub id or folder that the server says it loaded. version: of vLLM, None where the server
    does not say. told: the settings that `egost serve` advertises, None where it did not start the server.
    parents: what an adapter (LoRA) that is served is made from, by the server's names for it; empty for a model.
    """

    name: str
    root: str
    version: str | None
    told: Mapping[str, str] | None
    parents: tuple[str, ...] = ()


def as_served_name(settings: Mapping[str, str]) -> str:
    """The extra model name that advertises the settings; the same for the same settings."""
    return _MARK + urlencode(sorted(settings.items()))


def told_settings(served_names: Iterable[str]) -> dict[str, str] | None:
    """The settings that one of the names advertises; None where `egost serve` did not start the server."""
    for name in served_names:
        if name.startswith(_MARK):
            return dict(parse_qsl(name.removeprefix(_MARK)))
    return None


def own_names(served_names: Iterable[str]) -> list[str]:
    """The names by which requests ask for the model."""
    return [name for name in served_names if not name.startswith(_MARK)]


def identity_of(served: ServedModel) -> EngineIdentity:
    """What the replies of a server depend on.

    The revision and the settings are those that `egost serve` advertises. Another server advertises none: where it
    serves a folder of this disk, that folder is read; else the revision is None, and the record says `told: False`
    and, as `root`, where the server says that its weights lie. Raises AdapterError where that folder is no
    whole checkpoint, or where the server samples for a training, which changes its weights.
    """
    if ROLLOUTS in (served.told or {}):
        raise AdapterError(
            f"the server of {served.name} was started for the rollouts of a training, so that the weights "
            "that it holds are not known. Serve the trained checkpoint: egost serve FOLDER."
        )
    settings: dict[str, str | bool | None] = {**(served.told or {}), "told": served.told is not None}
    name, revision = served.name, (served.told or {}).get("revision")
    settings.pop("revision", None)
    if served.told is None:
        # The prompt goes by the family, and that is known only where the checkpoint is on this disk.
        settings["family"] = _model_type(served.root)
        if Path(served.root).is_dir():
            checkpoint = checkpoint_identity(served.root)
            name, revision = checkpoint.name, checkpoint.revision
    if revision is None:
        settings["root"] = served.root
        logger.warning(
            f"egost: the revision of {name} that is served is not known; the record says so, and replies of "
            f"{served.root} in the journal count as its replies. Add fresh=True to --model_args if its "
            "weights have changed. A server that `egost serve MODEL` starts gives its revision."
        )
    return EngineIdentity(
        engine=f"server vllm {served.version}" if served.version else "server",
        model=name,
        revision=revision,
        settings=settings,
    )


def family_served(served: ServedModel) -> Family:
    """How the served model takes text and frames; as one video where its family is not known."""
    model_type = (served.told or {}).get("family") or _model_type(served.root)
    family = FAMILIES.get(model_type or "")
    if family is None:
        logger.warning(
            f"egost: the family of {served.name} is not known here; the server's chat template alone decides how the "
            "model is asked"
        )
        return Family("video")
    return family


def _model_type(root: str) -> str | None:
    try:
        return checkpoint_identity(root).model_type
    except AdapterError:
        return None
