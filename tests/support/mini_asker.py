"""A checkpoint of the mini world asked by transformers alone, with its clip or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.judging.choose import get_judge
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release
from egost.tasks.sample import Sample
from egost.tasks.scoring.scores import Response, score_route
from egost.training.video_inputs import SYSTEM_PROMPT

Control = Literal["seen", "blind"]

_BATCH = 32
_ROUTE_TOKENS = 120


def mean_of_routes(samples: Sequence[Sample], replies: Sequence[str]) -> float:
    """Mean score of routes by the offline rubric, in percent."""
    scores = score_route(samples, [Response(reply) for reply in replies], get_judge("offline"))
    percents = [score.percent for score in scores if score.percent is not None]
    return sum(percents) / len(percents)


class Asker:
    """A checkpoint that answers questions about the clips of one mini release.

    prompt: how the questions are asked. choice_tokens: most tokens of a reply to a multiple-choice question.
    """

    def __init__(
        self, checkpoint: Path, release: Release, prompt: str = "direct", choice_tokens: int = 4
    ) -> None:
        from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.processor.tokenizer.padding_side = "left"
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint).float().eval()
        self._release, self._prompt = release, load_prompt(prompt)
        self._choice_tokens = choice_tokens

    def replies(self, samples: Sequence[Sample], control: Control) -> list[str]:
        """What the model says, in the samples' order."""
        texts = []
        for k in range(0, len(samples), _BATCH):
            batch = samples[k : k + _BATCH]
            films = None if control == "blind" else [self.film(sample) for sample in batch]
            asked = [self.chat(sample, films is not None) for sample in batch]
            tokens = self._choice_tokens if batch[0].options else max(self._choice_tokens, _ROUTE_TOKENS)
            texts += self._generate(asked, films, tokens)
        return texts

    def chat(self, sample: Sample, film: bool) -> str:
        """The whole prompt, with a placeholder for the film where there is one."""
        content = [{"type": "text", "text": self._prompt.render(sample)}]
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": [{"type": "video"}, *content] if film else content},
        ]
        chat: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return chat

    def film(self, sample: Sample) -> torch.Tensor:
        """The canonical 8 frames of a sample's clip, uint8, shape (8, 3, height, width)."""
        frames = get_clip(self._release.clip_path(sample), parse_protocol("uniform8")).frames()
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def _generate(self, asked: list[str], films: list[torch.Tensor] | None, tokens: int) -> list[str]:
        inputs: Any = self.processor(text=asked, videos=films, padding=True, return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self.processor.batch_decode(new, skip_special_tokens=True)
        return texts
