"""`--model egost_vllm`: vLLM in the process of lmms-eval."""

from __future__ import annotations

from pydantic import ValidationError

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.lmms_model import EngineModel
from egost.model_adapters.vllm.vllm_engine import VllmEngine, VllmSettings


class EgostVllm(EngineModel):
    """A checkpoint, asked through `vllm.LLM` with the canonical frames as one video.

    model: folder or hub id. revision: of a hub id. seed, fresh: see `EngineModel`. The settings: see `VllmSettings`.
    batch_size, max_batch_size, device: lmms-eval always gives them; vLLM chooses by itself (see `max_num_seqs`).
    Raises AdapterError where vLLM, the checkpoint or a setting cannot be used.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        dtype: str = VllmSettings.dtype,
        quantization: str | None = None,
        max_pixels: int | None = None,
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        data_parallel_size: int = 1,
        gpu_memory_utilization: float | None = None,
        enforce_eager: bool = False,
        prefix_caching: bool = True,
        trust_remote_code: bool = False,
        seed: int = 0,
        fresh: bool = False,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        try:
            settings = VllmSettings(
                dtype=dtype,
                quantization=quantization,
                max_pixels=max_pixels,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
                tensor_parallel_size=tensor_parallel_size,
                pipeline_parallel_size=pipeline_parallel_size,
                data_parallel_size=data_parallel_size,
                gpu_memory_utilization=gpu_memory_utilization,
                enforce_eager=enforce_eager,
                prefix_caching=prefix_caching,
                trust_remote_code=trust_remote_code,
            )
        except ValidationError as error:
            wrong = "; ".join(f"{e['loc'][0]}={e['input']!r}: {e['msg']}" for e in error.errors())
            raise AdapterError(f"egost_vllm cannot use {wrong}. Mend --model_args.") from error
        super().__init__(
            VllmEngine(checkpoint_identity(str(model), revision), settings), seed=seed, fresh=fresh
        )
