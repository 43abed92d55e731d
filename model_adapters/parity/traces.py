"""What an engine was given for one question and how sure it was of each token of its reply; what parity compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from egost.model_adapters.engine import Ask, EngineIdentity

TOP = 20
"""Likeliest tokens of each step that are kept; the most that vLLM gives by default."""


@dataclass(frozen=True)
class Step:
    """One token of a reply.

    token, word: its id and its text. top: natural log-probabilities of the likeliest tokens at that place, by their
    ids, after the checkpoint's repetition penalty where it has one; `token` itself is among them.
    """

    token: int
    word: str
    top: Mapping[int, float]


@dataclass(frozen=True)
class Trace:
    """What one engine made of one question.

    sample: `WORLD/ID`. frames_sha256: of the uint8 frames [8, H, W, 3] that it was given as an array; None where
    it reads the file itself. video: what its vision encoder got, see `video_signature`; None without a video.
    grid: (time, height, width) of the video in patches; None where the family has no such grid.
    seconds: between two temporal patches, as the model gets it; None where the family gets no such number.
    reach: how many rotary positions the video takes in (time, height, width), see `video_reach`.
    prompt_tokens: ids of the prompt with all video tokens in it. video_tokens: how many of these encode frames.
    steps: of the reply, its end token among them. text: the reply.
    """

    sample: str
    frames_sha256: str | None
    video: npt.NDArray[np.float32] | None
    grid: tuple[int, int, int] | None
    seconds: float | None
    reach: tuple[int, int, int] | None
    prompt_tokens: tuple[int, ...]
    video_tokens: int
    steps: tuple[Step, ...]
    text: str


class TracingEngine(Protocol):
    """An engine that can show its work."""

    def trace(self, asks: Sequence[Ask]) -> Iterator[Trace]:
        """Answer the asks in their order, greedily. Raises AdapterError where one cannot be answered."""
        ...

    @property
    def identity(self) -> EngineIdentity: ...

    def close(self) -> None: ...


def video_reach(
    grid: tuple[int, int, int], seconds: float | None, config: Mapping[str, Any]
) -> tuple[int, int, int]:
    """How many rotary positions a video takes in time, height and width.

    grid, seconds: see Trace. config: the content of the checkpoint's config.json. Where the first is the largest,
    transformers 5.19 puts the text behind the video by max(height, width) further on and vLLM 0.32 by the largest
    of all three (`get_rope_index` and `get_mrope_input_positions`), so that they cannot agree.
    """
    vision = config["vision_config"]
    merge = vision.get("spatial_merge_size", 2)
    # 4 is what transformers takes for a Qwen2.5-VL that does not say.
    step = 1.0 if seconds is None else seconds * vision.get("tokens_per_second", 4)
    return int((grid[0] - 1) * step) + 1, grid[1] // merge, grid[2] // merge


def video_signature(
    pixels: Any, grid: tuple[int, int, int] | None, video_processor: Any
) -> npt.NDArray[np.float32]:
    """What a vision encoder got, small enough to be kept: float32 [time, features], from 0 to 255.

    pixels: torch tensor of patches [time x height x width, channels x ...] with a grid, else of frames
    [..., time, channels, height, width]; normalised, or uint8 where the engine normalises later.
    video_processor: the checkpoint's, which says how it normalises.

    Another frame, order, size or colour changes the mean over space by far more than rounding does.
    """
    channels = len(video_processor.image_mean)
    values = pixels.detach().float().cpu()
    values = values.reshape(-1, channels, values.shape[-1] // channels) if grid else values.flatten(-2)
    if pixels.is_floating_point():
        spread, middle = (
            values.new_tensor(numbers)[:, None]
            for numbers in (video_processor.image_std, video_processor.image_mean)
        )
        values = (values * spread + middle) * 255
    if grid:
        values = values.reshape(grid[0], -1, channels * values.shape[-1]).mean(1)
    else:
        values = values.mean(-1).reshape(-1, channels)
    signature: npt.NDArray[np.float32] = values.numpy()
    return signature
