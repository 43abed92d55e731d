"""Registers our adapters with lmms-eval, by its own entry-point group for models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from egost.tasks.registration import TESTED_LMMS_EVAL

CLASSES = {
    f"egost_{engine}": f"egost.model_adapters.adapter.{name}"
    for engine, name in {
        "vllm": "EgostVllm",
        "server": "EgostServer",
        "transformers": "EgostTransformers",
        "openai": "EgostOpenAI",
        "gemini": "EgostGemini",
        "journal": "EgostJournal",
    }.items()
}
"""Names for `--model`, and the classes behind them, which lmms-eval imports when one is asked for."""


def manifests() -> list[Any]:
    """Entry point of the group `lmms_eval.models`: our adapters.

    None on a version of lmms-eval that was not tested, which `egost.tasks.registration` names in a message.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    if version("lmms-eval") not in TESTED_LMMS_EVAL:
        return []
    return [ModelManifest(model_id=name, simple_class_path=path) for name, path in CLASSES.items()]
