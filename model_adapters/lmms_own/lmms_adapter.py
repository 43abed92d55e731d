"""`--model egost_journal --model_args adapter=qwen2_vl,...`: lmms-eval's own adapters with our journal.

lmms-eval allows this without patching: its public registry builds the adapter, and an adapter answers any list of
requests. An adapter that shards its model over ranks (FSDP, DeepSpeed) is refused: it needs every rank in every step,
while ranks whose replies are journaled have fewer requests.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lmms_eval.models import get_model, list_available_models

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, EngineIdentity
from egost.model_adapters.lmms_own.lmms_engine import LmmsEngine
from egost.model_adapters.registration import CLASSES

_NAMES_A_MODEL = ("pretrained", "model_version", "model_name", "model_path", "model")
_SECRET = re.compile(
    r"(.*_)?(api_?key|secret(_?key)?|access_?key|password)|((api|auth|access|bearer|hf)_)?token",
    re.IGNORECASE,
)
"""Arguments that are neither shown nor recorded. Only whole names: `max_soft_tokens` changes replies."""

_PACKAGES = ("transformers", "torch")
_SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP")


def open_lmms_adapter(adapter: str, **adapter_args: Any) -> LmmsEngine:
    """An adapter of lmms-eval whose replies are journaled one by one.

    adapter: its name (`lmms-eval models` lists them). All other arguments are the adapter's own. A chat adapter gets
    the same message as from lmms-eval. In a batch (`--batch_size`), padding may change the last bits of a reply,
    with any adapter; so may other batches after a killed run. Raises AdapterError.
    """
    batch = _batch_size(adapter_args.get("batch_size", 1))
    inner_class = _adapter_class(adapter)
    try:
        inner = inner_class(**adapter_args)
    except Exception as error:
        raise AdapterError(
            f"lmms-eval's adapter '{adapter}' could not be built with {_shown(adapter_args)} "
            f"({type(error).__name__}: {error}). Fix --model_args, or see what the adapter needs."
        ) from error
    if hasattr(inner, "accelerator") and (kind := inner.accelerator.distributed_type.name) in _SHARDED:
        raise AdapterError(
            f"lmms-eval's adapter '{adapter}' shards its model over the ranks ({kind}), which then must all be "
            "asked the same number of times; a journal cannot promise that. Use data parallel ranks."
        )
    # lmms-eval hands the batch size on as it was typed, or as a number where it was not.
    identity = _identity(adapter, inner, inner_class, {**adapter_args, "batch_size": batch})
    return LmmsEngine(inner, identity, batch)


def _adapter_class(adapter: str) -> Any:
    names = [name for name in list_available_models(include_aliases=True) if name not in CLASSES]
    if adapter not in names:
        near = ", ".join(difflib.get_close_matches(adapter, names, n=3))
        raise AdapterError(
            f"lmms-eval has no adapter '{adapter}' of its own{f' (near: {near})' if near else ''}. "
            "`lmms-eval models` lists them; ours (egost_...) have the journal already."
        )
    try:
        return get_model(adapter)
    except Exception as error:
        raise AdapterError(
            f"lmms-eval's adapter '{adapter}' cannot be imported ({type(error).__name__}: {error}). Install what "
            "it needs."
        ) from error


def _batch_size(given: Any) -> int:
    try:
        return max(1, int(given))
    except ValueError as error:
        raise AdapterError(f"the batch size '{given}' is no number. Set --batch_size to one.") from error


def _identity(adapter: str, inner: Any, inner_class: Any, given: Mapping[str, Any]) -> EngineIdentity:
    parameters = inspect.signature(inner_class).parameters
    named = next((name for name in _NAMES_A_MODEL if name in parameters or name in given), None)
    name = (
        str(given.get(named, parameters[named].default if named in parameters else None))
        if named
        else adapter
    )
    model, revision = _model(name, given.get("revision"))
    settings: dict[str, str | int | float | bool | None] = {
        "interface": "simple" if inner.is_simple else "chat",
        **{package: version(package) for package in _PACKAGES},
        **{key: _plain(value) for key, value in given.items() if key != named and not _SECRET.fullmatch(key)},
    }
    return EngineIdentity(f"lmms-eval {version('lmms-eval')} {adapter}", model, revision, settings)


def _model(name: str, revision: str | None) -> tuple[str, str | None]:
    """Name and revision; no revision where it is not a checkpoint's, but a name that an API knows."""
    try:
        checkpoint = checkpoint_identity(name, revision)
    except AdapterError:
        if Path(name).expanduser().is_dir():
            # Its content may change under the same name, and replies of another model would be taken for its own.
            raise
        return name, revision
    return checkpoint.name, checkpoint.revision


def _shown(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={'...' if _SECRET.fullmatch(key) else value}" for key, value in given.items())


def _plain(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, sort_keys=True, default=str)
