"""transformers on the canonical frames: the plain way to run a checkpoint, that the fast ones are compared with."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, GenerationConfig

from egost_tasks.lossless import Frames, pixels_sha256
from model_adapters.asking import (
    AdapterError,
    Ask,
    EngineIdentity,
    Failure,
    GenerationArguments,
    Reply,
)
from model_adapters.checkpoints import checkpoint_identity
from model_adapters.families import VIDEO_METADATA, prompt_renderer
from model_adapters.traces import TOP, Step, Trace, video_reach, video_signature


class HfEngine:
    """A checkpoint in transformers; the 8 frames go in as one video, without sampling."""

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        dtype: str = "auto",
        device: str | None = None,
        batch_size: int = 1,
        max_pixels: int | None = None,
    ) -> None:
        """Load the checkpoint.

        dtype: `auto` is the checkpoint's own. device: as torch names it; by default the GPU where there is one.
        batch_size: how many greedy asks are generated at once; what is drawn is drawn one by one.
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
        self._tokenizer = self._prompts.processor.tokenizer
        self._tokenizer.padding_side = "left"
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._batch_size = batch_size
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
        ends = own.eos_token_id
        self._ends = {ends} if isinstance(ends, int) else set(ends or ())
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

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """Yield the place of each ask and what came of it, in their order."""
        batch: list[int] = []
        for i, ask in enumerate(asks):
            if batch and not self._together(asks[batch[-1]], ask, len(batch)):
                yield from zip(batch, self._replies([asks[j] for j in batch]), strict=True)
                batch = []
            batch.append(i)
        if batch:
            yield from zip(batch, self._replies([asks[j] for j in batch]), strict=True)

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """Answer the asks one by one, greedily, and show what the model got and how sure it was."""
        for ask in asks:
            videos = _videos([ask])
            inputs = self.inputs([ask], videos)
            if (room := self._no_room(inputs, ask.arguments)) is not None:
                raise AdapterError(f"{ask.sample}: {room.message} No parity can be shown for it.")
            output = self._generate(inputs, ask.arguments)
            yield trace_of(
                ask.sample,
                pixels_sha256(videos[0]) if videos else None,
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

    def _together(self, last: Ask, ask: Ask, size: int) -> bool:
        alike = last.arguments == ask.arguments and (last.clip is None) == (ask.clip is None)
        return alike and ask.arguments.greedy and size < self._batch_size

    def _replies(self, asks: list[Ask]) -> list[Reply | Failure]:
        """The replies to asks of the same arguments; where they do not fit together, one by one."""
        arguments = asks[0].arguments
        try:
            inputs = self.inputs(asks, _videos(asks))
            if (no_room := self._no_room(inputs, arguments)) is None:
                output = self._generate(inputs, arguments)
                return [self._reply(row, inputs, output, arguments) for row in range(len(asks))]
            failure = no_room
        except torch.OutOfMemoryError as error:
            failure = Failure("out_of_memory", str(error))
        if len(asks) == 1:
            return [failure]
        return [reply for ask in asks for reply in self._replies([ask])]

    def inputs(self, asks: Sequence[Ask], videos: list[Frames]) -> Any:
        """What the model takes, on its device, padded on the left."""
        arguments = dict(self._prompts.arguments)
        if videos:
            arguments["videos_kwargs"] = {
                **arguments["videos_kwargs"],
                "video_metadata": [dict(VIDEO_METADATA) for _ in videos],
            }
        return self._prompts.processor(
            text=[self._prompts.text(ask.prompt, with_frames=ask.clip is not None) for ask in asks],
            videos=videos or None,
            text_kwargs={"padding": True},
            return_tensors="pt",
            **arguments,
        ).to(self._device)

    def _no_room(self, inputs: Any, arguments: GenerationArguments) -> Failure | None:
        needed = inputs["input_ids"].shape[1] + arguments.max_new_tokens
        if needed <= self._room:
            return None
        return Failure(
            "context_too_long",
            f"prompt and reply need {needed} tokens, the model has room for {self._room}.",
        )

    def _generate(self, inputs: Any, arguments: GenerationArguments) -> Any:
        drawn: dict[str, Any] = {"do_sample": False}
        if not arguments.greedy:
            torch.manual_seed(arguments.seed or 0)
            drawn = {
                "do_sample": True,
                "temperature": arguments.temperature,
                "top_p": 1.0 if arguments.top_p is None else arguments.top_p,
                # transformers would cut at 50 by itself.
                "top_k": arguments.top_k or 0,
            }
        stop = {"stop_strings": list(arguments.stop), "tokenizer": self._tokenizer}
        with torch.inference_mode():
            return self._model.generate(
                **inputs,
                **drawn,
                **(stop if arguments.stop else {}),
                max_new_tokens=arguments.max_new_tokens,
                return_dict_in_generate=True,
                output_scores=True,
            )

    def _reply(self, row: int, inputs: Any, output: Any, arguments: GenerationArguments) -> Reply:
        width = inputs["input_ids"].shape[1]
        tokens = self._reply_tokens(output.sequences[row, width:].tolist())
        text = self._text(tokens, arguments)
        stopped = tokens[-1] in self._ends or text != self._text(tokens, None)
        return Reply(
            text=text,
            finish_reason="stop" if stopped else "length",
            prompt_tokens=int(inputs["attention_mask"][row].sum()),
            completion_tokens=len(tokens),
            video_tokens=int((inputs["input_ids"][row] == self._prompts.video_token).sum()),
        )

    def _reply_tokens(self, tokens: list[int]) -> list[int]:
        """The tokens up to the reply's end token; behind it, a batch is padded."""
        end = next((i for i, token in enumerate(tokens) if token in self._ends), len(tokens) - 1)
        return tokens[: end + 1]

    def _text(self, tokens: list[int], arguments: GenerationArguments | None) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        places = [at for stop in (arguments.stop if arguments else ()) if (at := text.find(stop)) >= 0]
        return text[: min(places, default=len(text))]


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


def _videos(asks: Sequence[Ask]) -> list[Frames]:
    return [ask.clip.frames() for ask in asks if ask.clip]
