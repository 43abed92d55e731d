"""transformers on the canonical frames: the plain way to run a checkpoint, that the fast ones are compared with."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, GenerationConfig

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity
from egost.model_adapters.families import VIDEO_METADATA, prompt_renderer
from egost.model_adapters.parity.traces import TOP, Step, Trace, video_reach, video_signature
from egost.tasks.clips.lossless import Frames, pixels_sha256


class HfEngine:
    """A checkpoint in transformers, asked greedily; the 8 frames go in as one video, without sampling."""

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        dtype: str = "auto",
        device: str | None = None,
        max_pixels: int | None = None,
    ) -> None:
        """Load the checkpoint.

        dtype: `auto` is the checkpoint's own. device: as torch names it; by default the GPU where there is one.
        max_pixels: of a frame, see `families.processor_arguments`.
        Raises AdapterError for a checkpoint that is not there or whose family takes no video.
        """
        checkpoint = checkpoint_identity(model, revision)
        self._prompts = prompt_renderer(checkpoint, max_pixels)
        if self._prompts.family.frames_as != "video":
            raise AdapterError(
                f"{model} is a '{checkpoint.model_type}', which transformers runs with the checkpoint's own code only. "
                "Ask it by vLLM: --model egost_vllm, or egost_server."
            )
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = (
            AutoModelForImageTextToText.from_pretrained(checkpoint.folder, dtype=dtype, local_files_only=True)
            .to(self._device)
            .eval()
        )
        own = self._model.generation_config
        # Of the checkpoint's own way to sample nothing is taken but what makes its model work, as with vLLM: how
        # it is to be sampled, the task says.
        self._model.generation_config = GenerationConfig(
            eos_token_id=own.eos_token_id,
            pad_token_id=own.pad_token_id,
            bos_token_id=own.bos_token_id,
            repetition_penalty=own.repetition_penalty,
        )
        self._room: int = self._model.config.get_text_config().max_position_embeddings
        self.identity = EngineIdentity(
            engine=f"transformers {transformers.__version__}",
            model=checkpoint.name,
            revision=checkpoint.revision,
            settings={
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "frames": "video",
                "max_pixels": max_pixels,
            },
        )

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """Answer the asks one by one, greedily, and show what the model got and how sure it was.

        Raises AdapterError where prompt and reply do not fit into the model.
        """
        for ask in asks:
            frames = ask.clip.frames() if ask.clip else None
            inputs = self.inputs(ask.prompt, frames)
            needed = inputs["input_ids"].shape[1] + ask.arguments.max_new_tokens
            if needed > self._room:
                raise AdapterError(
                    f"{ask.sample}: prompt and reply need {needed} tokens, the model has room for {self._room}. No "
                    "parity can be shown for it."
                )
            with torch.inference_mode():
                output = self._model.generate(
                    **inputs,
                    do_sample=False,
                    max_new_tokens=ask.arguments.max_new_tokens,
                    return_dict_in_generate=True,
                    output_scores=True,
                )
            yield trace_of(
                ask.sample,
                None if frames is None else pixels_sha256(frames),
                inputs,
                output,
                self._prompts.processor,
                self._prompts.config,
            )

    def close(self) -> None:
        """Give the model's memory back, so that another engine can be loaded."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def inputs(self, prompt: str, frames: Frames | None) -> Any:
        """What the model takes, on its device. frames: uint8 RGB [8, height, width, 3], or None."""
        arguments = dict(self._prompts.arguments)
        if frames is not None:
            arguments["videos_kwargs"] = {
                **arguments["videos_kwargs"],
                "video_metadata": [dict(VIDEO_METADATA)],
            }
        return self._prompts.processor(
            text=[self._prompts.text(prompt, with_frames=frames is not None)],
            videos=None if frames is None else [frames],
            return_tensors="pt",
            **arguments,
        ).to(self._device)


def trace_of(
    sample: str,
    frames_sha256: str | None,
    inputs: Any,
    output: Any,
    processor: Any,
    config: Mapping[str, Any],
) -> Trace:
    """The trace of one greedy call of `generate`.

    inputs: what `generate` was given, a batch of one. output: what it returned, with `sequences` and `scores`.
    processor, config: the checkpoint's, the latter as config.json holds it.
    """
    prompt = tuple(inputs["input_ids"][0].tolist())
    tokens = output.sequences[0, len(prompt) :].tolist()
    grid = None
    if (found := inputs.get("video_grid_thw")) is not None:
        grid = (int(found[0, 0]), int(found[0, 1]), int(found[0, 2]))
    pixels = inputs.get("pixel_values_videos")
    told = inputs.get("second_per_grid_ts")
    seconds = None if told is None else float(told[0])
    return Trace(
        sample=sample,
        frames_sha256=frames_sha256,
        video=None if pixels is None else video_signature(pixels, grid, processor.video_processor),
        grid=grid,
        seconds=seconds,
        reach=None if grid is None else video_reach(grid, seconds, config),
        prompt_tokens=prompt,
        video_tokens=prompt.count(processor.video_token_id),
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
