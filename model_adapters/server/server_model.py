"""Which model a server serves, as far as it can be known from outside."""

from __future__ import annotations

from pathlib import Path

from loguru import logger

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, EngineIdentity
from egost.model_adapters.families import FAMILIES, Family
from egost.model_adapters.server.served_settings import ROLLOUTS
from egost.model_adapters.server.server_api import ServedModel


def identity_of(served: ServedModel) -> EngineIdentity:
    """What the replies of a server depend on.

    The revision and the settings are those that `egost serve` told. A server that somebody else started tells
    none: where it serves a folder of this disk the folder is looked at, else the revision is None, and the record
    says `told: False`, and by `root` where the weights are said to lie. Raises AdapterError where that folder is no
    whole checkpoint, or where the server samples for a training, which changes its weights.
    """
    if ROLLOUTS in (served.told or {}):
        raise AdapterError(
            f"the server of {served.name} was started for the rollouts of a training, so that nobody knows which "
            "weights it holds. Serve the trained checkpoint: egost serve FOLDER."
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
            f"egost: nobody knows which revision of {name} is served; the record says so, and what {served.root} "
            "has replied before counts as its reply. Add fresh=True to --model_args if its weights have changed. A "
            "server that `egost serve MODEL` starts tells its revision."
        )
    return EngineIdentity(
        engine=f"server vllm {served.version}" if served.version else "server",
        model=name,
        revision=revision,
        settings=settings,
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
