"""How each model family takes the canonical frames and a text; the same for every engine.

Text: the checkpoint's own chat template, frames before the question, so that all questions on a clip share the
beginning of their prompts. Qwen models get the system message that lmms-eval's own adapters give them.

Frames: one video of them all, never sampled again, wherever the family's processor takes a video. The InternVL of its
authors' own code takes none; it gets as many images under the words `Frame1: `, `Frame2: `, one tile of 448 x 448 each
(paper, appendix A.2), as InternVL's processor of transformers writes before the frames of a video.

Time: Qwen2.5-VL, Qwen3-VL, Qwen3.5, GLM-V and Gemma 4 get the time of each frame. Here that is 1 frame a second, for
every clip, as in the canonical file: a server or an adapter of lmms-eval that reads the file gets the same times, so
that engines agree. It is not the clip's true time, which no question asks about.

Pixels: a frame is neither enlarged nor, up to 768 merged patches, made smaller than to a multiple of the patch size.
768 is what qwen-vl-utils allows a frame of a video (`VIDEO_MAX_TOKEN_NUM`). To see fewer, choose an `EGOST_PROTOCOL`:
its `+cap` keeps frames in whole patches (`shown_size`), which no processor resizes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from egost.model_adapters.checkpoints import Checkpoint, read_config
from egost.model_adapters.engine import AdapterError, Ask, Failure
from egost.tasks.clips.protocols import LEAST_PATCHES, N_FRAMES, chosen_protocol
from egost.tasks.prompts import chosen_prompt, load_prompt

if TYPE_CHECKING:
    from egost.tasks.clips.lossless import Frames

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
    caps_frames: whether it has an option to cap each frame besides.
    thinking_switch: whether its chat template has `THINKING_SWITCH`, for servers, whose templates nobody sees.
    special_marks: whether its marks around thinking are special tokens, which engines leave out of a response's text.
    sees_by_images: whether vLLM loads what sees videos only where a prompt may hold an image, too (0.32).
    """

    frames_as: Literal["video", "images"]
    system: str | None = None
    patch: int | None = None
    limit_frames: int = 1
    caps_frames: bool = True
    thinking_switch: bool = False
    special_marks: bool = False
    sees_by_images: bool = False


FAMILIES: Mapping[str, Family] = {
    "qwen2_vl": Family("video", _HELPFUL, patch=28),
    "qwen2_5_vl": Family("video", _HELPFUL, patch=28),
    "qwen3_vl": Family("video", _HELPFUL, patch=32, limit_frames=N_FRAMES),
    "qwen3_vl_moe": Family("video", _HELPFUL, patch=32, limit_frames=N_FRAMES),
    "qwen3_5": Family("video", patch=32, limit_frames=N_FRAMES, thinking_switch=True),
    "qwen3_5_moe": Family("video", patch=32, limit_frames=N_FRAMES, thinking_switch=True),
    "glm4v": Family("video", patch=28, limit_frames=N_FRAMES, caps_frames=False, thinking_switch=True),
    "glm4v_moe": Family("video", patch=28, limit_frames=N_FRAMES, caps_frames=False, thinking_switch=True),
    "gemma4": Family("video", thinking_switch=True, special_marks=True),
    "minicpmv4_6": Family("video", sees_by_images=True),
    "llava_onevision": Family("video"),
    "internvl": Family("video"),
    "internvl_chat": Family("images"),
}
"""By the `model_type` of config.json. ST-R1 is a qwen2_vl; GLM-4.6V is a glm4v or glm4v_moe; InternVL2 to 3.5 are an
internvl_chat, and an internvl where their name ends with `-HF`. How to add one: docs/adding-a-model.md.
"""


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
            **({"cap_pixels_per_frame": False} if family.caps_frames else {}),
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
    placeholder: the text that marks the place of the frames. frame_tokens: ids of the tokens that stand for a piece of
    a frame; GLM-V has that of its images in its videos. counted: tokens by height, width and number of frames.
    thinking: the value of the chat template's switch `enable_thinking`; None where it has none.
    """

    family: Family
    processor: Any
    arguments: Mapping[str, Any]
    placeholder: str
    frame_tokens: frozenset[int]
    config: Mapping[str, Any]
    thinking: bool | None = None
    counted: dict[tuple[int, int, int], int] = field(default_factory=dict, compare=False)

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
    def special_tokens_left_out(self) -> bool:
        """Whether responses are read without special tokens: not where these mark the thinking, which is no answer."""
        return not (self.thinking and self.family.special_marks)

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

    def inputs(self, prompt: str, frames: Frames | None) -> Any:
        """What a model of transformers takes: a BatchFeature of tensors. frames: uint8 RGB [N, height, width, 3]."""
        arguments = dict(self.arguments)
        if frames is not None:
            arguments["videos_kwargs"] = {
                **arguments["videos_kwargs"],
                "video_metadata": [video_metadata(len(frames))],
            }
        return self.processor(
            text=[self.text(prompt, frames=0 if frames is None else len(frames))],
            videos=None if frames is None else [frames],
            return_tensors="pt",
            **arguments,
        )

    def tokens_of_frames(self, ids: Sequence[int]) -> int:
        """How many tokens of a prompt are pieces of frames."""
        return sum(token in self.frame_tokens for token in ids)

    def video_tokens(self, height: int, width: int, n_frames: int = N_FRAMES) -> int:
        """How many tokens so many frames of this size, pixels, take, as the family's own processor makes them."""
        if self.family.frames_as == "images":
            vision = self.config["vision_config"]
            grid: int = vision["image_size"] // vision["patch_size"]
            return n_frames * int(grid**2 * float(self.config["downsample_ratio"]) ** 2)
        size = height, width, n_frames
        if size not in self.counted:
            blank = np.zeros((n_frames, height, width, 3), np.uint8)
            self.counted[size] = self.tokens_of_frames(self.inputs("", blank)["input_ids"][0].tolist())
        return self.counted[size]


def frame_tokens(processor: Any) -> frozenset[int]:
    """Ids of the tokens that stand for a piece of a frame in the prompts of a processor."""
    named = (getattr(processor, f"{kind}_token_id", None) for kind in ("video", "image"))
    tokens = [processor.tokenizer.convert_tokens_to_ids(processor.video_token), *named]
    return frozenset(int(token) for token in tokens if token is not None)


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
        placeholder = "<image>"
        tokens = frozenset([int(processor.convert_tokens_to_ids("<IMG_CONTEXT>"))])
    else:
        placeholder, tokens = processor.video_token, frame_tokens(processor)
    return PromptRenderer(
        family=family,
        processor=processor,
        arguments=processor_arguments(family, max_pixels, chosen_protocol().n_frames),
        thinking=load_prompt(chosen_prompt()).thinks if THINKING_SWITCH in template else None,
        placeholder=str(placeholder),
        frame_tokens=tokens,
        config=read_config(checkpoint.folder),
    )
