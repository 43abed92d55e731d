"""How each model family takes the canonical frames and a text; the same for every engine.

Text: the checkpoint's own chat template, frames before the question, so that all questions on a clip share the
beginning of their prompts. Qwen models get the system message that lmms-eval's own adapters give them.

Frames: one video of them all, never sampled again, for the Qwen families and LLaVA-OneVision. InternVL knows no
video; it gets as many images under the words `Frame1: `, `Frame2: `, one tile of 448 x 448 each (paper, appendix A.2).

Time: Qwen2.5-VL and Qwen3-VL get the time of each frame. Here that is 1 frame a second, for every clip, as in the
canonical file: a server or an adapter of lmms-eval that reads the file gets the same times, so that engines agree.
It is not the clip's true time, which no question asks about.

Pixels: a frame is neither enlarged nor, up to 768 merged patches, made smaller than to a multiple of the patch size.
768 is what qwen-vl-utils allows a frame of a video (`VIDEO_MAX_TOKEN_NUM`). To see fewer, choose an `EGOST_PROTOCOL`:
its `+cap` keeps frames in whole patches (`shown_size`), which no processor resizes again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from egost.model_adapters.checkpoints import Checkpoint, read_config
from egost.model_adapters.engine import AdapterError, Ask, Failure
from egost.tasks.clips.protocols import LEAST_PATCHES, N_FRAMES, chosen_protocol
from egost.tasks.prompts import chosen_prompt, load_prompt

FRAMES_A_SECOND = 1.0

MOST_PATCHES = 768
"""The most merged patches of a frame (28 x 28 pixels; of Qwen3-VL 32 x 32); the least are `LEAST_PATCHES`."""


def video_metadata(n_frames: int = N_FRAMES) -> dict[str, Any]:
    """The metadata of a clip of so many frames for transformers (VideoMetadata) and vLLM."""
    return {
        "fps": FRAMES_A_SECOND,
        "frames_indices": list(range(n_frames)),
        "total_num_frames": n_frames,
        "duration": n_frames / FRAMES_A_SECOND,
    }


def frame_words(n_frames: int) -> str:
    """The text before the question where the frames are so many images."""
    return "".join(f"Frame{i}: <image>\n" for i in range(1, n_frames + 1))


_HELPFUL = "You are a helpful assistant."

THINKING_SWITCH = "enable_thinking"
"""The argument by which chat templates of today's thinking models turn thinking on and off."""


def thinking_apart(text: str) -> tuple[str, str]:
    """The answer and the thinking of a response that began inside its thinking; without an end, all of it is thinking.

    No mark tells that such a response was cut there, and a guess in it would be read for an answer.
    """
    thinking, end, said = text.partition("</think>")
    return said.strip() if end else "", thinking.strip()


@dataclass(frozen=True)
class Family:
    """What a model family wants.

    frames_as: `video` (one of all frames), or `images` (one for each).
    system: the system message; None where there is none.
    patch: side of a merged patch in pixels; None where every frame is resized to one size.
    limit_frames: over how many of 8 frames the processor counts its limits of pixels: one, or all.
    thinking_switch: whether its chat template has `THINKING_SWITCH`, for servers, whose templates nobody sees.
    """

    frames_as: Literal["video", "images"]
    system: str | None = None
    patch: int | None = None
    limit_frames: int = 1
    thinking_switch: bool = False


FAMILIES: Mapping[str, Family] = {
    "qwen2_vl": Family("video", _HELPFUL, patch=28),
    "qwen2_5_vl": Family("video", _HELPFUL, patch=28),
    "qwen3_vl": Family("video", _HELPFUL, patch=32, limit_frames=N_FRAMES),
    "qwen3_vl_moe": Family("video", _HELPFUL, patch=32, limit_frames=N_FRAMES),
    "llava_onevision": Family("video"),
    "internvl_chat": Family("images"),
}
"""By the `model_type` of config.json. ST-R1 is a qwen2_vl; InternVL2, 2.5 and 3 are an internvl_chat."""


def family_of(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint. Raises AdapterError for a family that is not in FAMILIES."""
    family = FAMILIES.get(checkpoint.model_type)
    if family is None:
        raise AdapterError(
            f"{checkpoint.name} is a '{checkpoint.model_type}', and how that takes frames is not known here; expected "
            f"one of {', '.join(FAMILIES)}. Use lmms-eval's own adapter for it."
        )
    return family


def processor_arguments(
    family: Family, max_pixels: int | None = None, n_frames: int = N_FRAMES
) -> dict[str, Any]:
    """The arguments of the family's processor apart from text and frames, the same for transformers and vLLM.

    max_pixels: of a frame; by default `MOST_PATCHES` patches. n_frames: the most of a clip. Raises AdapterError where
    the family has no such limit, or where it is less than `LEAST_PATCHES` patches.
    """
    if family.patch is None:
        if max_pixels is not None:
            raise AdapterError(
                f"max_pixels={max_pixels} cannot be honoured: this family sees every frame at one size. Leave it out."
            )
        return {"videos_kwargs": {"do_sample_frames": False}} if family.frames_as == "video" else {}
    least, most = LEAST_PATCHES * family.patch**2, max_pixels or MOST_PATCHES * family.patch**2
    if most < least:
        raise AdapterError(
            f"max_pixels={most} is too few to see anything; expected at least {least} a frame."
        )
    frames = 1 if family.limit_frames == 1 else n_frames
    return {
        "videos_kwargs": {
            "size": {
                "shortest_edge": least * min(frames, family.limit_frames),
                "longest_edge": most * frames,
            },
            "do_sample_frames": False,
            # Its default changes with transformers 5.22.
            "cap_pixels_per_frame": False,
        }
    }


def config_overrides(family: Family) -> dict[str, Any]:
    """What of config.json is to be read otherwise: an InternVL frame is one tile, not up to 12 of them.

    A value of the config, since vLLM 0.32 does not take it as an argument of the processor.
    """
    return {"max_dynamic_patch": 1} if family.frames_as == "images" else {}


@dataclass(frozen=True)
class PromptRenderer:
    """Turns texts and frames of one checkpoint into what its engine takes.

    processor: transformers' processor, or the tokenizer of a family that has no processor.
    arguments: of `processor_arguments`.
    placeholder: the text that marks the place of the frames. video_token: id of the token of a piece of a frame.
    thinking: the value of the chat template's switch `enable_thinking`; None where it has none.
    """

    family: Family
    processor: Any
    arguments: Mapping[str, Any]
    placeholder: str
    video_token: int
    config: Mapping[str, Any]
    thinking: bool | None = None

    def text(self, prompt: str, *, frames: int) -> str:
        """The whole text for a prompt, with the places of so many frames, up to where the reply begins."""
        if self.family.frames_as == "images":
            content: Any = frame_words(frames) + prompt
        else:
            content = [*([{"type": "video"}] if frames else []), {"type": "text", "text": prompt}]
        system = [{"role": "system", "content": self.family.system}] if self.family.system else []
        rendered: str = self.processor.apply_chat_template(
            [*system, {"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            **({} if self.thinking is None else {THINKING_SWITCH: self.thinking}),
        )
        return rendered

    @property
    def identity(self) -> dict[str, str | bool | None]:
        """What of it changes replies, for `EngineIdentity.settings`."""
        thinking = {} if self.thinking is None else {"thinking": self.thinking}
        return {"frames": self.family.frames_as, "system": self.family.system, **thinking}

    def apart(self, text: str) -> tuple[str, str | None]:
        """What a response says, and the thinking before it where the chat template itself opened that; else None."""
        return thinking_apart(text) if self._opens_thinking else (text, None)

    @cached_property
    def _opens_thinking(self) -> bool:
        return self.text("", frames=0).rstrip().endswith("<think>")

    def refusal(self, ask: Ask) -> Failure | None:
        """Why a prompt cannot be asked: it holds the text that this model takes for frames."""
        if self.placeholder not in ask.prompt:
            return None
        return Failure(
            "refused",
            f"{ask.sample}: its prompt holds '{self.placeholder}', which this model takes for frames.",
        )

    def video_tokens(self, height: int, width: int, n_frames: int = N_FRAMES) -> int:
        """How many tokens so many frames of this size, pixels, take, as the family's own processor counts."""
        if self.family.patch is not None:
            video = self.processor.video_processor
            patches: int = video.get_num_of_video_patches(
                n_frames, height, width, dict(self.arguments["videos_kwargs"])
            )
            return patches // int(video.merge_size) ** 2
        vision = self.config["vision_config"]
        grid: int = vision["image_size"] // vision["patch_size"]
        if self.family.frames_as == "images":
            return n_frames * int(grid**2 * float(self.config["downsample_ratio"]) ** 2)
        # LLaVA-OneVision halves the grid of a video's frames and ends it with one token.
        return n_frames * math.ceil(grid / 2) ** 2 + 1


def prompt_renderer(
    checkpoint: Checkpoint, max_pixels: int | None = None, *, trust_remote_code: bool = False
) -> PromptRenderer:
    """The renderer for a checkpoint.

    trust_remote_code: let Python code of the checkpoint run (some InternVL tokenizers need it).
    Raises AdapterError where its processor or its chat template is missing or cannot be read.
    """
    from transformers import AutoProcessor, AutoTokenizer

    family = family_of(checkpoint)
    loader = AutoTokenizer if family.frames_as == "images" else AutoProcessor
    try:
        processor = loader.from_pretrained(
            checkpoint.folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise AdapterError(
            f"the processor of {checkpoint.name} cannot be read from {checkpoint.folder} ({error}). Copy the "
            "tokenizer's and the processor's files there from its base model, or set trust_remote_code=True where its "
            "own code is to be run."
        ) from error
    template = str(getattr(processor, "chat_template", None) or "")
    if not template:
        raise AdapterError(
            f"{checkpoint.name} has no chat template in {checkpoint.folder}. Copy chat_template.jinja there from its "
            "base model."
        )
    if family.frames_as == "images":
        placeholder, token = "<image>", processor.convert_tokens_to_ids("<IMG_CONTEXT>")
    else:
        placeholder, token = processor.video_token, processor.video_token_id
    return PromptRenderer(
        family=family,
        processor=processor,
        arguments=processor_arguments(family, max_pixels, chosen_protocol().n_frames),
        thinking=load_prompt(chosen_prompt()).thinks if THINKING_SWITCH in template else None,
        placeholder=str(placeholder),
        video_token=int(token),
        config=read_config(checkpoint.folder),
    )
