"""Which model a server serves, as far as it can be known from outside."""

from __future__ import annotations

from pathlib import Path

from loguru import logger

from model_adapters.asking import AdapterError, EngineIdentity
from model_adapters.checkpoints import checkpoint_identity
from model_adapters.families import FAMILIES, Family
from model_adapters.server_api import ServedModel


def identity_of(served: ServedModel) -> EngineIdentity:
    """What the replies of a server depend on.

    The revision and the settings are those that `egost serve` told. A server that somebody else started tells
    none: where it serves a folder of this disk the folder is looked at, else the revision is None, and the record
    says `told: False`. Raises AdapterError where that folder is no whole checkpoint.
    """
    told = dict(served.told or {})
    name, revision = served.name, told.pop("revision", None)
    if served.told is None and Path(served.root).is_dir():
        checkpoint = checkpoint_identity(served.root)
        name, revision = checkpoint.name, checkpoint.revision
    if revision is None:
        logger.warning(
            f"egost: nobody knows which revision of {name} is served; the record says so. A server that "
            "`egost serve MODEL` starts tells it."
        )
    return EngineIdentity(
        engine=f"server vllm {served.version}" if served.version else "server",
        model=name,
        revision=revision,
        settings={**told, "told": served.told is not None},
    )


def family_served(served: ServedModel) -> Family:
    """How the served model takes text and frames; where nobody says which family it is of, as one video."""
    model_type = (served.told or {}).get("family") or _model_type(served.root)
    family = FAMILIES.get(model_type or "")
    if family is None:
        logger.warning(
            f"egost: which family {served.name} is of is not known here; the server's chat template alone says how "
            "it is asked"
        )
        return Family("video")
    return family


def _model_type(root: str) -> str | None:
    try:
        return checkpoint_identity(root).model_type
    except AdapterError:
        return None
