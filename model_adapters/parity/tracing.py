"""The three engines that parity looks at while they answer: transformers, vLLM, and lmms-eval's own adapter."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from egost.model_adapters.checkpoints import checkpoint_identity, read_config
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity
from egost.model_adapters.families import frame_tokens
from egost.model_adapters.known_models import known_models
from egost.model_adapters.parity.parity import TOP, Step, Trace
from egost.model_adapters.transformers_engine import TransformersEngine
from egost.model_adapters.vllm_engine import VllmEngine
from egost.tasks.clips.lossless import Frames, pixels_sha256


class TracingTransformers:
    """Our own loop over transformers, asked one question after another."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine

    @property
    def identity(self) -> EngineIdentity:
        return self.engine.identity

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """See `TracingEngine`. Raises AdapterError where prompt and response do not fit into the model."""
        for ask in asks:
            frames = ask.clip.frames() if ask.clip else None
            inputs = self.engine.inputs(ask.prompt, frames)
            needed = inputs["input_ids"].shape[1] + ask.arguments.max_new_tokens
            if needed > self.engine.context:
                raise AdapterError(
                    f"{ask.sample}: prompt and response need {needed} tokens, and the model takes "
                    f"{self.engine.context}. No parity can be shown for it."
                )
            output = self.engine.generate(inputs, ask.arguments)
            renderer = self.engine.renderer
            yield _trace_of(ask.sample, frames, inputs, output, renderer.processor, renderer.config)

    def close(self) -> None:
        self.engine.close()


class TracingLmmsEval:
    """lmms-eval's own adapter (of simple models) on the canonical file, whose calls of `generate` are watched.

    It shows what users without our adapters get.
    """

    def __init__(self, model: str, revision: str | None = None, *, dtype: str = "float32") -> None:
        """Load the adapter. Raises AdapterError for a checkpoint that is not there or of another family."""
        from lmms_eval.models import get_model

        checkpoint = checkpoint_identity(model, revision)
        families = known_models().families
        family = families.get(checkpoint.model_type)
        if family is None or family.hf_adapter is None:
            proved = ", ".join(name for name, one in families.items() if one.hf_adapter)
            raise AdapterError(
                f"{model} is a '{checkpoint.model_type}'; lmms-eval's own adapters are compared for {proved}. Leave hf "
                "out of --engines."
            )
        self._config = read_config(checkpoint.folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._adapter: Any = get_model(family.hf_adapter, force_simple=True)(
            pretrained=str(checkpoint.folder), device=device, device_map=device, batch_size=1
        )
        self._adapter.model.to(getattr(torch, dtype))
        self.identity = EngineIdentity(
            engine=f"lmms-eval {version('lmms-eval')} {family.hf_adapter}",
            model=checkpoint.name,
            revision=checkpoint.revision,
            settings={"dtype": dtype},
        )

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """See `TracingEngine`; the adapter gets the arguments that our tasks give it."""
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
                greedy = {
                    "max_new_tokens": ask.arguments.max_new_tokens,
                    "temperature": 0,
                    "do_sample": False,
                    "until": [],
                }
                self._adapter.generate_until(
                    [
                        Instance(
                            request_type="generate_until",
                            doc={},
                            arguments=(ask.prompt, greedy, _visual, 0, "parity", "test"),
                            idx=0,
                            metadata={"task": "parity", "doc_id": 0, "repeats": 1},
                        )
                    ]
                )
                given, output = calls.pop()
                yield _trace_of(ask.sample, None, given, output, self._adapter.processor, self._config)
        finally:
            del model.generate

    def close(self) -> None:
        """Give the model's memory back, so that another engine can be loaded."""
        self._adapter = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class TracingVllm:
    """vLLM as it evaluates, asked one question after another."""

    def __init__(self, engine: VllmEngine) -> None:
        """Raises AdapterError for a family whose frames are no video."""
        if engine.renderer.family.frames_as != "video":
            raise AdapterError(
                f"{engine.checkpoint.name} takes its frames as images; engines are compared for families that take a "
                "video."
            )
        self.engine = engine

    @property
    def identity(self) -> EngineIdentity:
        return self.engine.identity

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """See `TracingEngine`: what vLLM's processor made of the frames, and how sure vLLM was of each token."""
        for number, ask in enumerate(asks):
            request = self.engine.request(ask)
            # The cache of processed frames would leave out those that it has.
            [rendered] = self.engine.llm.renderer.render_cmpl([request], skip_mm_cache=True)
            yield self._trace(ask, request, rendered, self._finished(f"parity-{number}", ask, rendered))

    def close(self) -> None:
        self.engine.close()

    def _finished(self, name: str, ask: Ask, rendered: Any) -> Any:
        core = self.engine.llm.llm_engine
        sampling = self.engine.sampling(ask.arguments)
        sampling.logprobs = TOP
        try:
            core.add_request(name, rendered, sampling)
            while core.has_unfinished_requests():
                for output in core.step():
                    if output.finished:
                        return output
        except ValueError as error:
            raise AdapterError(f"{ask.sample}: vLLM does not take it ({error}).") from error
        raise AdapterError(f"{ask.sample}: vLLM ended without a response to it.")

    def _trace(self, ask: Ask, request: Any, rendered: Any, output: Any) -> Trace:
        [completion] = output.outputs
        grid = video = seconds = reach = frames_sha256 = None
        if ask.clip is not None:
            [(frames, _)] = request["multi_modal_data"]["video"]
            frames_sha256 = pixels_sha256(frames)
            processed = rendered["mm_kwargs"]["video"][0].get_data()
            [pixels] = [value for name, value in processed.items() if "pixel_values" in name]
            if (per_grid := processed.get("second_per_grid_ts")) is not None:
                seconds = float(per_grid)
            if (found := processed.get("video_grid_thw")) is not None:
                time, height, width = (int(side) for side in found.flatten())
                grid = (time, height, width)
                reach = video_reach(grid, seconds, self.engine.renderer.config)
            video = video_signature(
                pixels, grid or len(frames), self.engine.renderer.processor.video_processor
            )
        return Trace(
            sample=ask.sample,
            frames_sha256=frames_sha256,
            video=video,
            grid=grid,
            seconds=seconds,
            reach=reach,
            prompt_tokens=tuple(output.prompt_token_ids),
            video_tokens=self.engine.renderer.tokens_of_frames(output.prompt_token_ids),
            steps=tuple(
                Step(token, top[token].decoded_token or "", {i: found.logprob for i, found in top.items()})
                for token, top in zip(completion.token_ids, completion.logprobs, strict=True)
            ),
            text=completion.text,
        )


def video_reach(
    grid: tuple[int, int, int], seconds: float | None, config: Mapping[str, Any]
) -> tuple[int, int, int]:
    """How many rotary positions a video takes in time, height and width.

    grid, seconds: see Trace. config: the content of the checkpoint's config.json. Where the first is the largest,
    lmms-eval's adapter cannot agree with the others: see `place_text_as_trained`.
    """
    vision = config["vision_config"]
    merge = vision.get("spatial_merge_size", 2)
    # 4 is what transformers takes for a Qwen2.5-VL that does not say.
    step = 1.0 if seconds is None else seconds * vision.get("tokens_per_second", 4)
    return int((grid[0] - 1) * step) + 1, grid[1] // merge, grid[2] // merge


def video_signature(
    pixels: torch.Tensor, shown: tuple[int, int, int] | int, video_processor: Any
) -> npt.NDArray[np.float32]:
    """What a vision encoder got, small enough to be kept: float32 [time, features], from 0 to 255.

    pixels: with a grid, patches [time x height x width, channels x ...]; normalised, or uint8 where the engine
    normalises later. Else, normalised, frames or tiles of frames [..., channels, height, width], which may lie side by
    side in one, or patches [..., channels last]; what is 0 there is padding.
    shown: the grid of the video in patches, or the number of its frames where it has none.
    video_processor: the checkpoint's, which says how it normalises.

    Another frame, order, size or colour changes the mean over space by far more than rounding does.
    """
    channels = len(video_processor.image_mean)
    values = pixels.detach().float().cpu()
    if isinstance(shown, tuple):
        values = values.reshape(shown[0], -1, channels, values.shape[-1] // channels).mean(1)
    else:
        values = _by_channel(values, shown, channels, getattr(video_processor, "patch_size", None))
        values = values.sum(-1, keepdim=True) / values.count_nonzero(-1)[..., None].clamp(min=1)
    if pixels.is_floating_point():
        spread, middle = (
            values.new_tensor(numbers)[:, None]
            for numbers in (video_processor.image_std, video_processor.image_mean)
        )
        values = (values * spread + middle) * 255
    signature: npt.NDArray[np.float32] = values.flatten(1).numpy()
    return signature


def _by_channel(values: torch.Tensor, frames: int, channels: int, patch: int | None) -> torch.Tensor:
    """Pixels without a grid as [frames, channels, pixels]."""
    height, width = values.shape[-2:]
    if patch and width == channels * patch**2 and height != patch:
        return values.reshape(frames, -1, channels).mT
    images = values.reshape(-1, channels, height, width)
    if len(images) < frames:
        images = torch.cat(images.chunk(frames // len(images), dim=-1))
    return images.unflatten(0, (frames, -1)).movedim(1, 2).flatten(2)


def _visual(ask: Ask) -> list[str]:
    if not ask.clip:
        return []
    ask.clip.check()
    return [str(ask.clip.path)]


def _trace_of(
    sample: str,
    frames: Frames | None,
    inputs: Any,
    output: Any,
    processor: Any,
    config: Mapping[str, Any],
) -> Trace:
    """The trace of one greedy call of transformers' `generate`.

    frames: uint8 RGB [N, height, width, 3]; None where the engine read the file itself, or no video was shown.
    inputs: what `generate` was given, a batch of one. output: what it returned, with `sequences` and `scores`.
    processor, config: the checkpoint's, the latter as config.json holds it.
    """
    prompt = tuple(inputs["input_ids"][0].tolist())
    tokens = output.sequences[0, len(prompt) :].tolist()
    grid = None
    if (found := inputs.get("video_grid_thw")) is not None:
        grid = (int(found[0, 0]), int(found[0, 1]), int(found[0, 2]))
    video = None
    if (shown := grid or (None if frames is None else len(frames))) is not None:
        video = video_signature(inputs["pixel_values_videos"], shown, processor.video_processor)
    per_grid = inputs.get("second_per_grid_ts")
    seconds = None if per_grid is None else float(per_grid[0])
    return Trace(
        sample=sample,
        frames_sha256=None if frames is None else pixels_sha256(frames),
        video=video,
        grid=grid,
        seconds=seconds,
        reach=None if grid is None else video_reach(grid, seconds, config),
        prompt_tokens=prompt,
        video_tokens=sum(map(prompt.count, frame_tokens(processor))),
        steps=tuple(
            Step(token, processor.tokenizer.decode([token]), _top(token, scores[0]))
            for token, scores in zip(tokens, output.scores, strict=True)
        ),
        text=processor.tokenizer.decode(tokens, skip_special_tokens=True),
    )


def _top(token: int, scores: torch.Tensor) -> dict[int, float]:
    logprobs = scores.float().log_softmax(-1)
    values, tokens = logprobs.topk(TOP)
    return {**dict(zip(tokens.tolist(), values.tolist(), strict=True)), token: float(logprobs[token])}
