"""What vLLM's own loaders make of a clip on each way, with the arguments that `egost serve` gives them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from egost.model_adapters.families import FAMILIES, video_metadata
from egost.model_adapters.server.serve import plan_server, serve_command
from egost.model_adapters.server.server_requests import copy_part, file_part, pixel_parts
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM has an environment of its own"),
]

LOADERS = ("Qwen2VLVideoProcessor", "Qwen3VLVideoProcessor", None)
"""Of Qwen2-VL and Qwen2.5-VL, of Qwen3-VL, and of the families without a loader of their own."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Noise at odd sides: whatever is lost on the way shows."""
    from egost.tasks.clips.lossless import write_lossless

    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(0).integers(0, 256, (11, 179, 333, 3), dtype=np.uint8)
    write_lossless(noise, folder / "noise.mp4")
    return get_clip(folder / "noise.mp4", parse_protocol("uniform8"), folder)


@pytest.mark.parametrize("processor", LOADERS)
@pytest.mark.parametrize("way", ["file", "copy", "inline"])
def test_each_pixel_and_each_time_is_the_same(clip: Clip, way: str, processor: str | None) -> None:
    from vllm.multimodal.media.connector import MediaConnector

    command = serve_command(plan_server("qwen2.5-vl-7b", media=clip.path.parents[2]))
    connector = MediaConnector(
        json.loads(command[command.index("--media-io-kwargs") + 1]),
        allowed_local_media_path=command[command.index("--allowed-local-media-path") + 1],
    )
    part = {
        "file": lambda: file_part(clip),
        "copy": lambda: copy_part(clip),
        "inline": lambda: pixel_parts(clip.frames(), FAMILIES["qwen2_vl"])[0],
    }[way]()
    loaded = connector.fetch_video(part["video_url"]["url"], video_processor=processor)
    frames, metadata = loaded.media
    assert np.array_equal(frames, clip.frames())
    assert {name: metadata[name] for name in video_metadata()} == video_metadata()


def test_images_of_a_family_without_a_video_input(clip: Clip) -> None:
    from vllm.multimodal.media.connector import MediaConnector

    parts = pixel_parts(clip.frames(), FAMILIES["internvl_chat"])
    images = [MediaConnector().fetch_image(part["image_url"]["url"]) for part in parts]
    assert np.array_equal(np.stack([np.asarray(image.media) for image in images]), clip.frames())


def test_a_folder_that_is_not_allowed_is_refused(clip: Clip, tmp_path: Path) -> None:
    from vllm.multimodal.media.connector import MediaConnector

    connector = MediaConnector(allowed_local_media_path=str(tmp_path))
    with pytest.raises(ValueError, match="allowed-local-media-path"):
        connector.fetch_video(file_part(clip)["video_url"]["url"])
