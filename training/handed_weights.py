"""The weights of a training, as vLLM is handed them: in this process, by a GPU's memory, over NCCL, or by a folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from transformers.utils import logging as hf_logging

from egost.training import TrainingError

if TYPE_CHECKING:
    import torch

FOLDER = "rollout_weights"
"""Folder of a run through which a server gets the weights where nothing better is there. The run's end deletes it."""

_REPLY_S = 3600.0


class TrainedWeights:
    """The weights that a trainer's model has now, adapters merged, by the names that its checkpoint's class has.

    trainer: a `VideoGRPOTrainer`. Each pass reads them anew, one at a time. Where processes share the weights (ZeRO-3,
    FSDP) a pass gathers them, so that all processes have to make it.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.folder = Path(trainer.args.output_dir).resolve() / FOLDER

    @property
    def main(self) -> bool:
        """Whether this process talks to vLLM for all."""
        return bool(self._trainer.args.should_save)

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        model = self._model
        base = model.get_base_model() if hasattr(model, "merge_adapter") else model
        for name, weight in base.named_parameters():
            if ".lora_" in name or ".original_module." in name:
                continue
            with self._trainer._dist.gather_params([weight]):
                layer, tuned, own = name.partition(".base_layer.")
                whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight.detach()
                if tuned:
                    whole = _merged(base.get_submodule(layer), weight)
                yield f"{layer}.{own}" if tuned else name.replace(".modules_to_save.default.", "."), whole

    def save(self) -> Path:
        """Write them as a checkpoint, by all processes; the folder. Raises TrainingError where it cannot be written."""
        try:
            with _no_bars():
                if not hasattr(self._model, "merge_adapter"):
                    # Where processes share the weights, these are gathered. Nothing goes to a hub.
                    self._trainer.save_model(str(self.folder), _internal_call=True)
                elif self.main:
                    self._model.get_base_model().save_pretrained(self.folder, state_dict=dict(self))
                    # vLLM takes the folder for the model from now on, and looks for its processor there.
                    self._trainer.processing_class.save_pretrained(self.folder)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"the weights for vLLM cannot be written to {self.folder} ({error}). Free some space there; then run "
                "the same command again, to go on from the last whole checkpoint."
            ) from error
        return self.folder

    def sender(self, way: str, url: str, group_port: int) -> Callable[[], None]:
        """What sends them to the server at a URL, to be called by all processes at each step.

        way: `ipc` shares the memory of the one GPU that both use, by vLLM's engine; `nccl` sends them to other GPUs, by
        TRL's client. group_port: where NCCL's processes meet. Whatever vLLM and TRL raise is left as it is.
        """
        if way == "ipc":
            from vllm.distributed.weight_transfer.clients import HTTPVLLMWeightSyncClient
            from vllm.distributed.weight_transfer.ipc_engine import (
                IPCTrainerInitInfo,
                IPCTrainerWeightTransferEngine,
            )

            shared = IPCTrainerInitInfo(rank=self._trainer.accelerator.process_index, packed=True)
            client = HTTPVLLMWeightSyncClient(url, _REPLY_S)
            engine = IPCTrainerWeightTransferEngine.trainer_init(shared, client=client, source=self)
            return lambda: engine.send_weights()
        # The server has to know what will come before the first of it does.
        coming = [(name, str(of.dtype).removeprefix("torch."), list(of.shape)) for name, of in self]
        if not self.main:
            return lambda: deque(self, maxlen=0).clear()
        from trl.generation.vllm_client import VLLMClient

        group = VLLMClient(base_url=url, group_port=group_port)
        group.init_communicator(self._trainer.accelerator.device)
        return lambda: group.update_named_params(coming, iter(self))

    @property
    def _model(self) -> Any:
        return self._trainer.accelerator.unwrap_model(self._trainer.model)


def _merged(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """A base layer's weight with its adapter in it; the layer itself is left as it was."""
    import torch

    with torch.no_grad():
        before = [(own, own.clone()) for own in layer.get_base_layer().parameters()]
        layer.merge()
        merged = weight.detach().clone()
        layer.unmerge()
        # Taking the adapter out again rounds, which would add up over the steps.
        for own, kept in before:
            own.copy_(kept)
    return merged


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers' bars out of the run's own, at every step."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()
