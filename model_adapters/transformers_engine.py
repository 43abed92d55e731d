"""transformers on the canonical frames: the plain way to run a checkpoint; the fast engines are compared with it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
import transformers

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, Ask, EngineIdentity, Failure, GenerationArguments, Reply
from egost.model_adapters.families import prompt_renderer
from egost.tasks.clips.lossless import Frames
from egost.tasks.errors import CacheError

_PLACED = ("qwen2_vl", "qwen2_5_vl")


def place_text_as_trained(model: Any) -> bool:
    """Let a Qwen2-VL or Qwen2.5-VL of transformers count its text on from the greatest position of the video before it.

    The paper of Qwen2-VL (section 2.1), transformers up to 5.2 and vLLM count from the maximum over time, height and
    width, and the checkpoints were trained so. transformers 5.19 to 5.24 leave time out, so that the text stands
    amid a timed video of small frames: 8 frames of 224 px, one a second, end at position 24 and not 8. Returns whether
    the model is of such a family; call it once, on the plain model.
    """
    if model.config.model_type not in _PLACED:
        return False
    inner = model.model
    theirs = inner.get_rope_index

    def get_rope_index(
        input_ids: torch.Tensor, mm_token_type_ids: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions int64 [3, sequences, tokens], and for each sequence how far its text is ahead [sequences, 1]."""
        positions, ahead = theirs(input_ids, mm_token_type_ids, *args, **kwargs)
        mask = kwargs.get("attention_mask")
        for row, kinds in enumerate(mm_token_type_ids):
            shown = torch.ones_like(kinds, dtype=torch.bool) if mask is None else mask[row].bool()
            placed, first, start = positions[:, row, shown], 0, 0
            for _, tokens in groupby(kinds[shown].tolist()):
                end = start + len(list(tokens))
                placed[:, start:end] += first - placed[1, start]
                first, start = int(placed[:, start:end].max()) + 1, end
            positions[:, row, shown] = placed
            ahead[row] = first - int(shown.sum())
        return positions, ahead

    inner.get_rope_index = get_rope_index
    return True


class TransformersEngine:
    """An `Engine` over transformers, which loads the weights when the first request comes.

    It takes one request at a time, and the frames as one video without sampling.

    renderer: see `PromptRenderer`. context: tokens of prompt and response together.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        dtype: str = "auto",
        device: str | None = None,
        max_pixels: int | None = None,
    ) -> None:
        """model: folder or hub id. revision: of a hub id. dtype: `auto` is the checkpoint's own. device: as torch names
        it; by default the GPU where there is one. max_pixels: of a frame, see `families.processor_arguments`.
        Raises AdapterError for a checkpoint that is not there or whose family takes no video.
        """
        checkpoint = checkpoint_identity(str(model), revision)
        self.renderer = prompt_renderer(checkpoint, max_pixels)
        if self.renderer.family.frames_as != "video":
            raise AdapterError(
                f"{model} is a '{checkpoint.model_type}', which transformers runs with the checkpoint's own code only. "
                "Ask it by vLLM: --model egost_vllm, or egost_server."
            )
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._checkpoint, self._dtype = checkpoint, dtype
        self._model: Any = None
        self._end_tokens: set[int] = set()
        self._failed: set[str] = set()
        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
        self.context: int = config.get_text_config().max_position_embeddings
        used = config.dtype if dtype == "auto" else getattr(torch, dtype, dtype)
        placed = config.model_type in _PLACED
        self.identity = EngineIdentity(
            engine=f"transformers {transformers.__version__}",
            model=checkpoint.name,
            revision=checkpoint.revision,
            settings={
                "torch": torch.__version__,
                "device": torch.device(self._device).type,
                # A config that does not say leaves it to the weights.
                "dtype": str(used or self.model.dtype).removeprefix("torch."),
                "max_pixels": max_pixels,
                **self.renderer.identity,
                **({"text_follows": "the video's greatest position"} if placed else {}),
            },
        )

    @property
    def model(self) -> Any:
        """The model of transformers, loaded now where it was not. Raises AdapterError."""
        if self._model is None:
            self._model = self._load()
        return self._model

    def _load(self) -> Any:
        checkpoint = self._checkpoint
        try:
            model: Any = (
                transformers.AutoModelForImageTextToText.from_pretrained(
                    checkpoint.folder, dtype=self._dtype, local_files_only=True
                )
                .to(self._device)
                .eval()
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise AdapterError(
                f"transformers cannot load {checkpoint.name} as {self._dtype} on {self._device} ({error}). Fix dtype "
                "or device, or get the checkpoint again."
            ) from error
        place_text_as_trained(model)
        own = model.generation_config
        # Of the checkpoint's own way to sample only what makes its model work is kept, as with vLLM: the task says
        # how to sample.
        model.generation_config = transformers.GenerationConfig(
            eos_token_id=own.eos_token_id,
            pad_token_id=own.pad_token_id,
            bos_token_id=own.bos_token_id,
            repetition_penalty=own.repetition_penalty,
        )
        ends = own.eos_token_id
        self._end_tokens = set(ends if isinstance(ends, list) else [ends])
        return model

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Engine`. Each sampled response has torch's generators seeded before it, so that it can be repeated."""
        for place, ask in enumerate(asks):
            yield place, self._answer(ask)

    def close(self) -> None:
        """Give the model's memory back, so that another engine can be loaded."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def inputs(self, prompt: str, frames: Frames | None) -> Any:
        """What the model takes, on its device. frames: uint8 RGB [N, height, width, 3], or None."""
        return self.renderer.inputs(prompt, frames).to(self._device)

    def generate(self, inputs: Any, arguments: GenerationArguments) -> Any:
        """What the model's `generate` returns, with `sequences` [1, tokens] and the `scores` of each new token."""
        sampling: dict[str, Any] = {"do_sample": not arguments.greedy}
        if not arguments.greedy:
            sampling |= {
                "temperature": arguments.temperature,
                "top_p": 1.0 if arguments.top_p is None else arguments.top_p,
                "top_k": arguments.top_k or 0,
            }
        if arguments.stop:
            sampling |= {
                "stop_strings": list(arguments.stop),
                "tokenizer": self.renderer.processor.tokenizer,
            }
        if arguments.seed is not None:
            torch.manual_seed(arguments.seed)
        with torch.inference_mode():
            return self.model.generate(
                **inputs,
                **sampling,
                max_new_tokens=arguments.max_new_tokens,
                return_dict_in_generate=True,
                output_scores=True,
            )

    def _answer(self, ask: Ask) -> Reply | Failure:
        if refusal := self.renderer.refusal(ask):
            return refusal
        try:
            frames = ask.clip.frames() if ask.clip else None
        except CacheError as error:
            return Failure("unsupported_video", f"{ask.sample}: {error}")
        failure = None
        try:
            inputs = self.inputs(ask.prompt, frames)
            n_prompt = int(inputs["input_ids"].shape[1])
            if (needed := n_prompt + ask.arguments.max_new_tokens) > self.context:
                return Failure(
                    "context_too_long",
                    f"{ask.sample}: prompt and response need {needed} tokens, and the model takes {self.context}. "
                    "Choose an EGOST_PROTOCOL with fewer pixels, or lower max_new_tokens.",
                )
            output = self.generate(inputs, ask.arguments)
        except Exception as error:
            failure = Failure.of_error(error, self.identity.engine, [ask], self._failed)
        if failure:
            # Only here are the tensors gone that the traceback held.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return failure
        tokens = output.sequences[0, n_prompt:].tolist()
        at_end = tokens[-1] in self._end_tokens
        text = self.renderer.processor.tokenizer.decode(
            tokens[:-1] if at_end else tokens, skip_special_tokens=self.renderer.special_tokens_left_out
        )
        stops = [text.find(stop) for stop in ask.arguments.stop if stop in text]
        ended = bool(stops) or at_end
        said, reasoning = self.renderer.apart(text[: min(stops)] if stops else text)
        return Reply(
            text=said,
            reasoning=reasoning,
            finish_reason="stop" if ended else "length",
            prompt_tokens=n_prompt,
            completion_tokens=len(tokens),
            video_tokens=self.renderer.tokens_of_frames(inputs["input_ids"][0].tolist()),
        )
