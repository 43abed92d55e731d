"""What lmms-eval's own adapters make of a clip's file: the calls of the installed adapters, on real processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_files import write_video

from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import Protocol

SIZE = (252, 168)
"""Width and height in pixels, multiples of 28: the readers then resize nothing, so that pixels can be compared."""
GRID = [[4, 168 // 14, 252 // 14]]


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoProcessor

    from egost.model_adapters.tiny_checkpoint import tiny_checkpoint

    return AutoProcessor.from_pretrained(tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint"))


@pytest.fixture(params=["torchcodec", "decord"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The reader that qwen-vl-utils uses: torchcodec where it is installed, else decord."""
    from qwen_vl_utils import vision_process

    name: str = request.param
    pytest.importorskip(name)
    monkeypatch.setattr(vision_process, "get_video_reader_backend", lambda: name)
    return name


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    source = write_video(tmp_path / "walk.mp4", 24, size=(320, 212), rate=8)
    return get_clip(source, Protocol(size=SIZE))


class Caught(Exception):
    """Carries what an adapter gave to its processor, in the place of a model's reply."""


class Spy:
    """Stands in the place of an adapter's processor: keeps what comes in and ends the adapter's run."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        return self.processor.apply_chat_template(*args, **kwargs)

    def __call__(self, **kwargs: Any) -> Any:
        raise Caught(kwargs["videos"], self.processor(**kwargs))


def ask(adapter_class: type, processor: Any, clip: Clip, *args: Any) -> tuple[list[Any], Any]:
    """Run the adapter's own `generate_until` on one request up to the model, which is left out."""
    from lmms_eval.api.instance import Instance

    adapter: Any = object.__new__(adapter_class)
    adapter.processor = Spy(processor)
    adapter._tokenizer = processor.tokenizer
    adapter._rank, adapter.batch_size_per_gpu, adapter.max_num_frames = 0, 1, 32
    adapter.min_pixels, adapter.max_pixels, adapter.fps = 3136, 602112, None
    adapter.system_prompt, adapter.reasoning_prompt, adapter.interleave_visuals = "Help.", None, False
    adapter.task_dict = {"task": {"test": {0: {"path": str(clip.path)}}}}
    request = Instance(
        request_type="generate_until",
        doc={},
        arguments=args,
        idx=0,
        metadata={"task": "task", "doc_id": 0, "repeats": 1},
    )
    with pytest.raises(Caught) as caught:
        adapter.generate_until([request])
    videos, inputs = caught.value.args
    return videos, inputs


def check(videos: list[Any], inputs: Any, clip: Clip, processor: Any) -> None:
    assert len(videos) == 1
    pixels = videos[0].numpy()
    assert pixels.shape == (8, 3, SIZE[1], SIZE[0])
    assert np.array_equal(pixels.transpose(0, 2, 3, 1).astype(np.uint8), clip.frames())
    assert np.array_equal(pixels, pixels.round())
    assert inputs["video_grid_thw"].tolist() == GRID
    pads = (inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")).sum()
    assert pads == np.prod(GRID) // 4


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_simple_adapters_see_the_8_frames(name: str, reader: str, processor: Any, clip: Clip) -> None:
    from importlib import import_module

    module = import_module(f"lmms_eval.models.simple.{name}")
    adapter_class = getattr(module, {"qwen2_vl": "Qwen2_VL", "qwen2_5_vl": "Qwen2_5_VL"}[name])
    doc_to_visual = lambda doc: [doc["path"]]  # noqa: E731
    videos, inputs = ask(
        adapter_class, processor, clip, "Where to?", {"max_new_tokens": 1}, doc_to_visual, 0, "task", "test"
    )
    check(videos, inputs, clip, processor)


def test_the_chat_adapter_sees_the_8_frames(reader: str, processor: Any, clip: Clip) -> None:
    from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL

    def doc_to_messages(doc: dict[str, str]) -> list[dict[str, Any]]:
        content = [{"type": "video", "url": doc["path"]}, {"type": "text", "text": "Where to?"}]
        return [{"role": "user", "content": content}]

    videos, inputs = ask(
        Qwen2_5_VL, processor, clip, "Where to?", doc_to_messages, {"max_new_tokens": 1}, 0, "task", "test"
    )
    check(videos, inputs, clip, processor)
