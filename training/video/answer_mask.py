"""What fine-tuning teaches: a sample's solution and the end of the turn, and not one token of the prompt.

[prompt with the video's tokens] [solution] [end]
labels:  -100 ...                 its ids    its id
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from egost.training.video.video_inputs import ShownSample

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label of a token that is not taught, as torch's cross-entropy and TRL read it."""


@dataclass(frozen=True)
class TaughtSample:
    """A sample as the model sees it, and the tokens that it is to say then, the end token last."""

    shown: ShownSample
    answer_ids: tuple[int, ...]

    @property
    def input_ids(self) -> tuple[int, ...]:
        return self.shown.prompt_ids + self.answer_ids

    @property
    def labels(self) -> tuple[int, ...]:
        """One for each of `input_ids`."""
        return (IGNORED,) * len(self.shown.prompt_ids) + self.answer_ids


def answer_ids(solution: str, tokenizer: Any) -> tuple[int, ...]:
    """The tokens of a solution and the one that ends a turn.

    They are tokenised apart from the prompt: the model says them one after another behind its opening.
    """
    return (*tokenizer(solution, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)


def batch(samples: Sequence[TaughtSample], pad_token_id: int) -> dict[str, torch.Tensor]:
    """The inputs of a model's `forward`, padded on the right, the videos one after another.

    input_ids, attention_mask, mm_token_type_ids, labels: int64 [samples, tokens]. pixel_values_videos: float32
    [patches of all, patch size]. video_grid_thw: int64 [samples, 3]. second_per_grid_ts, where the model asks for it:
    float32 [samples].
    """
    import torch

    longest = max(len(sample.input_ids) for sample in samples)

    def padded(rows: Sequence[tuple[int, ...]], filling: int) -> torch.Tensor:
        return torch.tensor([row + (filling,) * (longest - len(row)) for row in rows])

    seconds = [s.shown.second_per_grid_ts for s in samples if s.shown.second_per_grid_ts is not None]
    return {
        "input_ids": padded([s.input_ids for s in samples], pad_token_id),
        "attention_mask": padded([(1,) * len(s.input_ids) for s in samples], 0),
        "mm_token_type_ids": padded(
            [s.shown.mm_token_type_ids + (0,) * len(s.answer_ids) for s in samples], 0
        ),
        "labels": padded([s.labels for s in samples], IGNORED),
        "pixel_values_videos": torch.cat([s.shown.pixel_values_videos for s in samples]),
        "video_grid_thw": torch.cat([s.shown.video_grid_thw for s in samples]),
        **({"second_per_grid_ts": torch.cat(seconds)} if seconds else {}),
    }
