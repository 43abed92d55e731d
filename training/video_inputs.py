"""From a sample and its clip to what a Qwen-VL model takes, exactly as an evaluation shows them.

    shown = VideoRenderer(load_processor(checkpoint, pixels), load_prompt("think")).render(sample, clip)
    shown.prompt_ids             -> tokens of system prompt, video, question and the assistant's opening
    shown.pixel_values_videos    -> patches of the canonical frames

lmms-eval's `qwen2_vl` makes the same of the same sample: the chat template of the checkpoint, its system prompt, the
video before the question, all frames, resized by qwen-vl-utils. Training that saw anything else would prepare for
another test.

`ClipEncoder` runs each clip through the vision tower once, however many completions look at it. The plain way repeats
the pixels for each of a group's completions, for the policy and again for the reference. Here each clip is encoded once
a call, and its features are handed to the language model for every sequence that shows it, by the public argument
`mm_encoder_outputs` of the transformers models. Where the tower is not trained, or no gradient is asked for, the
features are kept for the whole generation batch, so that rollout, old and reference log-probabilities and the loss
share them.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egost.model_adapters.families import FAMILIES, Family, video_metadata
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.protocols import parse_protocol, shown_size
from egost.tasks.prompts import Prompt, load_prompt
from egost.tasks.release.release import Release, open_release
from egost.tasks.sample import Sample
from egost.training import TrainingError
from egost.training.recipe import RowsRecipe
from egost.training.rows.training_rows import TrainingRow, row_clips

if TYPE_CHECKING:
    import torch


TRAINED_FAMILIES = "Qwen2-VL, Qwen2.5-VL or Qwen3-VL"

_MOST_FRAMES = 1024

_Features = tuple["torch.Tensor", ...]
"""Of a clip, each [video tokens, hidden size]: for the model's input; of Qwen3-VL, then for its first layers."""

SYSTEM_PROMPT = "You are a helpful assistant."
"""What lmms-eval's `qwen2_vl` and `qwen2_5_vl` say first unless they are given another system prompt."""


@dataclass(frozen=True)
class PixelLimits:
    """How large a frame may be, pixels; the defaults are those of lmms-eval's `qwen2_vl`.

    The paper's inference takes at most 360 x 420 pixels a frame (`largest=151200`).
    """

    smallest: int = 3136
    largest: int = 602112


@dataclass(frozen=True)
class ShownSample:
    """A sample as a model sees it, before it answers.

    text: the rendered prompt, with one placeholder for the video.
    prompt_ids: its tokens; the model puts a piece of the video at each video token. Qwen3-VL has the time of each
        pair of frames in words before it.
    mm_token_type_ids: one number a token: 2 for a video token, else 0.
    pixel_values_videos: float32 [patches, patch size], all frames. video_grid_thw: int64 [1, 3], the patches' grid over
        time, height and width.
    second_per_grid_ts: float32 [1], seconds that one step of the grid lasts; for Qwen2.5-VL alone.
    """

    text: str
    prompt_ids: tuple[int, ...]
    mm_token_type_ids: tuple[int, ...]
    pixel_values_videos: torch.Tensor
    video_grid_thw: torch.Tensor
    second_per_grid_ts: torch.Tensor | None

    @cached_property
    def video_key(self) -> str:
        """Names the video's content: two samples about one clip have the same."""
        grid = ",".join(map(str, self.video_grid_thw[0].tolist()))
        return f"{grid} {hashlib.sha256(self.pixel_values_videos.numpy().tobytes()).hexdigest()}"

    def tensors(self) -> dict[str, torch.Tensor]:
        """The inputs of one prompt as a model's `forward` names them, a batch of one."""
        import torch

        return {
            "input_ids": torch.tensor([self.prompt_ids]),
            "attention_mask": torch.ones(1, len(self.prompt_ids), dtype=torch.long),
            "mm_token_type_ids": torch.tensor([self.mm_token_type_ids]),
            "pixel_values_videos": self.pixel_values_videos,
            "video_grid_thw": self.video_grid_thw,
            **({} if self.second_per_grid_ts is None else {"second_per_grid_ts": self.second_per_grid_ts}),
        }


class VideoRenderer:
    """Renders samples with one processor, prompt and size of frames."""

    def __init__(self, processor: Any, prompt: Prompt, pixels: PixelLimits) -> None:
        self.processor = processor
        self.prompt = prompt
        self.pixels = pixels
        self._times_of: dict[int, int] = {}

    def render(self, sample: Sample, clip: Clip) -> ShownSample:
        """The sample as the model sees it. Raises CacheError where the clip's frames were changed on disk."""
        text = self.text(sample)
        inputs = self._inputs(text, self._video(clip))
        seconds = inputs.get("second_per_grid_ts")
        return ShownSample(
            text=text,
            prompt_ids=tuple(inputs["input_ids"][0].tolist()),
            mm_token_type_ids=tuple(inputs["mm_token_type_ids"][0].tolist()),
            pixel_values_videos=inputs["pixel_values_videos"],
            video_grid_thw=inputs["video_grid_thw"],
            second_per_grid_ts=None if seconds is None else _float32(seconds),
        )

    def text(self, sample: Sample) -> str:
        """The prompt's text up to where the assistant begins, with one placeholder for the video."""
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {
                "role": "user",
                "content": [{"type": "video"}, {"type": "text", "text": self.prompt.render(sample)}],
            },
        ]
        rendered: str = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return rendered

    def prompt_length(self, sample: Sample, clip: Clip) -> int:
        """Tokens of the rendered prompt with its video, found without reading a frame."""
        height, width = self._size(clip.manifest.height, clip.manifest.width)
        # A frame is repeated where the last step lacks one.
        grid_steps = -(-len(clip.manifest.indices) // self.processor.video_processor.temporal_patch_size)
        video_tokens: int = grid_steps * (height // self._factor) * (width // self._factor)
        times = self._times(len(clip.manifest.indices))
        return self._text_tokens(self.text(sample)) + times + video_tokens

    def _inputs(self, text: str, frames: torch.Tensor) -> Any:
        """What the processor makes. The frames have the times that vLLM gives them in an evaluation."""
        return self.processor(
            text=[text],
            videos=[frames],
            video_metadata=[video_metadata(len(frames))],
            do_sample_frames=False,
            return_tensors="pt",
        )

    def _text_tokens(self, text: str) -> int:
        """Tokens of a rendered prompt without its placeholder."""
        return len(self.processor.tokenizer(text)["input_ids"]) - 1

    def _times(self, n_frames: int) -> int:
        """Tokens that the processor writes between the pieces of every video of so many frames."""
        import torch

        if n_frames not in self._times_of:
            text = self.processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "video"}]}], tokenize=False
            )
            frames = torch.zeros(n_frames, 3, 2 * self._factor, 2 * self._factor)
            [ids] = self._inputs(text, frames)["input_ids"]
            around = int((ids != self.processor.video_token_id).sum())
            self._times_of[n_frames] = around - self._text_tokens(text)
        return self._times_of[n_frames]

    @property
    def _factor(self) -> int:
        """Pixels of a frame's side that one video token covers."""
        video = self.processor.video_processor
        return int(video.patch_size * video.merge_size)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        limits = {"least": self.pixels.smallest, "most": self.pixels.largest, "patch": self._factor}
        return shown_size(width, height, **limits)[::-1]

    def _video(self, clip: Clip) -> torch.Tensor:
        """The frames as lmms-eval's adapters hand them to the processor: float32 [N, 3, height, width], 0 to 255."""
        import torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import resize

        frames = torch.from_numpy(clip.frames()).permute(0, 3, 1, 2)
        size = self._size(*frames.shape[2:])
        resized: torch.Tensor = resize(
            frames, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True
        )
        return resized.float()


@dataclass(frozen=True)
class ShownRows:
    """The rows of a run with their clips, and how the model sees them; `row` is a place in `rows`."""

    release: Release
    rows: tuple[TrainingRow, ...]
    clips: tuple[Clip, ...]
    renderer: VideoRenderer

    def show(self, row: int) -> ShownSample:
        """The row's question and clip as the model sees them; the frames are read now."""
        return self.renderer.render(self.rows[row].sample, self.clips[row])

    def prompt_lengths(self) -> list[int]:
        """Tokens of each row's prompt with its video."""
        return [
            self.renderer.prompt_length(row.sample, clip)
            for row, clip in zip(self.rows, self.clips, strict=True)
        ]

    def check_lengths(self, lengths: Sequence[int], limit: int, what: str, flag: str) -> None:
        """Raise TrainingError where a row has more tokens than the limit: cut short, it would lose a part.

        what: what has the lengths (`prompts`), for the message. flag: name of the limit.
        """
        if max(lengths) > limit:
            longest = self.rows[lengths.index(max(lengths))].sample.id
            raise TrainingError(
                f"{sum(length > limit for length in lengths)} of {len(lengths)} {what} are longer than {flag} "
                f"({limit} tokens); the longest, of {longest}, has {max(lengths)}. Raise it, or lower largest_pixels."
            )


def open_rows(recipe: RowsRecipe, rows: tuple[TrainingRow, ...], checkpoint: str) -> ShownRows:
    """The rows with their clips, decoded where the cache has none, and the processor of a checkpoint.

    Raises TrainingError for clips that cannot be used or a checkpoint that takes no video.
    """
    release = open_release(recipe.world)
    pixels = PixelLimits(recipe.smallest_pixels, recipe.largest_pixels)
    return ShownRows(
        release=release,
        rows=rows,
        renderer=VideoRenderer(load_processor(checkpoint, pixels), load_prompt(recipe.prompt), pixels),
        clips=tuple(row_clips(rows, release, parse_protocol(recipe.protocol))),
    )


def load_processor(checkpoint: str | Path, pixels: PixelLimits) -> Any:
    """The processor of a checkpoint of Qwen2-VL, Qwen2.5-VL or Qwen3-VL, padding on the left.

    Raises TrainingError where there is none, or one without a video input.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.image_utils import SizeDict

    try:
        processor = AutoProcessor.from_pretrained(str(checkpoint), padding_side="left")
        family = FAMILIES.get(AutoConfig.from_pretrained(str(checkpoint)).model_type, Family("video"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{checkpoint} has no processor that can be loaded ({error}). Give a whole checkpoint folder or the "
            "name of one on the hub."
        ) from error
    if not hasattr(processor, "video_processor") or not processor.chat_template:
        raise TrainingError(
            f"the processor of {checkpoint} ({type(processor).__name__}) takes no video or has no chat template; "
            f"expected a checkpoint of {TRAINED_FAMILIES}."
        )
    limits = {"shortest_edge": pixels.smallest, "longest_edge": pixels.largest}
    # Frames come at their size already. A limit over all of them, however many they are, must not change it.
    over_all = {"longest_edge": pixels.largest * _MOST_FRAMES} if family.limit_frames > 1 else {}
    processor.video_processor.size = SizeDict(**{**limits, **over_all})
    processor.image_processor.size = SizeDict(**limits)
    return processor


def _float32(seconds: Any) -> torch.Tensor:
    import torch

    return torch.as_tensor(seconds, dtype=torch.float32)


class ClipEncoder:
    """The features of the clips of one generation batch, for each model that sees them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], _Features] = {}

    def forget(self) -> None:
        """Drop what is kept: a new generation batch begins, and the weights have moved on."""
        self._kept.clear()

    def encode(self, model: Any, shown: Sequence[ShownSample]) -> dict[str, Any]:
        """What a model's `mm_encoder_outputs` takes: the features of each sequence's video, in their order.

        model: the plain transformers model, without any wrapper. Gradients of all sequences flow into one run of
        the tower where it is trained and a gradient is asked for.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling
        from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

        tower = model.model.visual
        clips = {sample.video_key: sample for sample in shown}
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in tower.parameters()):
            features = dict(zip(clips, _run(model, list(clips.values())), strict=True))
        else:
            features = self._encode_once(model, clips)
        pooled, *deep = zip(*(features[sample.video_key] for sample in shown), strict=True)
        if deep:
            seen = BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=deep)
            return {"video": seen}
        return {"video": BaseModelOutputWithPooling(pooler_output=pooled)}

    def _encode_once(self, model: Any, clips: dict[str, ShownSample]) -> dict[str, _Features]:
        import torch

        seen_by = (id(model.model.visual), *_adapter_state(model.model.visual))
        missing = {key: sample for key, sample in clips.items() if (*seen_by, key) not in self._kept}
        if missing:
            with torch.no_grad():
                for key, features in zip(missing, _run(model, list(missing.values())), strict=True):
                    self._kept[(*seen_by, key)] = features
        return {key: self._kept[(*seen_by, key)] for key in clips}


def check_video_model(model: Any) -> None:
    """Raise TrainingError unless the model takes features of a video in the place of its pixels."""
    takes = inspect.signature(type(model).forward).parameters
    inner = getattr(model, "model", None)
    if (
        "mm_encoder_outputs" in takes
        and hasattr(inner, "visual")
        and hasattr(inner, "get_video_features")
        and hasattr(model.config, "video_token_id")
    ):
        return
    raise TrainingError(
        f"{type(model).__name__} is no model whose video input can be filled; expected one of {TRAINED_FAMILIES}. Give "
        "--model_name_or_path a checkpoint of one."
    )


def _run(model: Any, clips: Sequence[ShownSample]) -> Sequence[_Features]:
    """Features of each clip."""
    import torch

    device = model.model.visual.device
    pixels = torch.cat([clip.pixel_values_videos for clip in clips]).to(device)
    grid = torch.cat([clip.video_grid_thw for clip in clips]).to(device)
    seen = model.model.get_video_features(pixels, grid, return_dict=True)
    return list(zip(seen.pooler_output, *getattr(seen, "deepstack_features", ()), strict=True))


def _adapter_state(tower: Any) -> tuple[object, ...]:
    """A key that differs between the tower with its adapters and without them; empty where it has none."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layer = next((module for module in tower.modules() if isinstance(module, BaseTunerLayer)), None)
    return () if layer is None else (layer.disable_adapters, *layer.active_adapters)
