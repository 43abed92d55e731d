"""lmms-eval's own adapter of a family, on the canonical file: what somebody without our adapters would get."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import torch

from egost.model_adapters.checkpoints import checkpoint_identity, read_config
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity
from egost.model_adapters.parity.traces import Trace
from egost.model_adapters.parity.transformers_engine import trace_of

_ADAPTERS = ("qwen2_vl", "qwen2_5_vl")
"""By the `model_type` of config.json, which is the adapter's name too."""


class StockEngine:
    """lmms-eval's adapter (of simple models), whose calls of `generate` are looked at."""

    def __init__(self, model: str, revision: str | None = None, *, dtype: str = "float32") -> None:
        """Load the adapter. Raises AdapterError for a checkpoint that is not there or of another family."""
        from lmms_eval.models import get_model

        checkpoint = checkpoint_identity(model, revision)
        if checkpoint.model_type not in _ADAPTERS:
            raise AdapterError(
                f"{model} is a '{checkpoint.model_type}'; lmms-eval's own adapters are compared for "
                f"{', '.join(_ADAPTERS)}. Leave lmms-eval out of --engines."
            )
        self._config = read_config(checkpoint.folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._adapter: Any = get_model(checkpoint.model_type, force_simple=True)(
            pretrained=str(checkpoint.folder), device=device, device_map=device, batch_size=1
        )
        self._adapter.model.to(getattr(torch, dtype))
        self.identity = EngineIdentity(
            engine=f"lmms-eval {version('lmms-eval')} {checkpoint.model_type}",
            model=checkpoint.name,
            revision=checkpoint.revision,
            settings={"dtype": dtype},
        )

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """Have the adapter answer the asks one by one, with the arguments that our tasks give it."""
        from lmms_eval.api.instance import Instance

        model = self._adapter.model
        generate = model.generate
        calls: list[tuple[dict[str, Any], Any]] = []

        def watched(**given: Any) -> Any:
            output = generate(**given, return_dict_in_generate=True, output_scores=True)
            calls.append((given, output))
            return output.sequences

        model.generate = watched
        try:
            for ask in asks:
                self._adapter.task_dict = {"parity": {"test": [ask]}}
                room = {"max_new_tokens": ask.arguments.max_new_tokens, "temperature": 0, "do_sample": False}
                self._adapter.generate_until(
                    [
                        Instance(
                            request_type="generate_until",
                            doc={},
                            arguments=(ask.prompt, {**room, "until": []}, _visual, 0, "parity", "test"),
                            idx=0,
                            metadata={"task": "parity", "doc_id": 0, "repeats": 1},
                        )
                    ]
                )
                given, output = calls.pop()
                yield trace_of(ask.sample, None, given, output, self._adapter.processor, self._config)
        finally:
            del model.generate

    def close(self) -> None:
        """Give the model's memory back, so that another engine can be loaded."""
        self._adapter = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _visual(ask: Ask) -> list[str]:
    return [str(ask.clip.path)] if ask.clip else []
