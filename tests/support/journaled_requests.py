"""Requests that were asked, and journaled, before responses had reasoning and samples had numbers."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from egost.model_adapters.engine import Ask, EngineIdentity, GenerationArguments
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.manifest import ClipManifest

_MANIFEST = ClipManifest(
    source="1.mp4",
    source_sha256="a" * 64,
    protocol="uniform8",
    n_frames=300,
    counted_by="packets",
    expected_frames=300,
    complete=None,
    indices=(0, 42, 85, 128, 170, 213, 256, 299),
    timestamps=(0.0, 1.4, 2.833333, 4.266667, 5.666667, 7.1, 8.533333, 9.966667),
    duration=10.0,
    width=420,
    height=336,
    source_width=1280,
    source_height=720,
    rotation=0,
    mirrored=False,
    pixel_aspect="1:1",
    transfer="sdr",
    pixels_sha256="b" * 64,
    decoder="pyav",
    decoder_version="1",
)
_ENGINES = (
    EngineIdentity(
        "vllm 0.32.0",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "abc",
        {"transformers": "5.22", "device": "cuda", "dtype": "auto", "quantization": None, "frames": "video",
         "max_pixels": None, "system": "You are a helpful assistant."},
    ),
    EngineIdentity(
        "openai",
        "gpt-4o-2024-08-06",
        "2024-08-06",
        {"frames": 8, "frame_size": "224x224", "frame_format": "png", "url": "https://api.openai.com/v1",
         "detail": "low", "reasoning": False},
    ),
)  # fmt: skip
_ARGUMENTS = (
    GenerationArguments(256),
    GenerationArguments(512, temperature=0.7, top_p=0.9, top_k=20, stop=("\n",), seed=3),
)


def requests() -> list[tuple[Ask, EngineIdentity]]:
    """With a clip and without, greedy and drawn, by two engines: always in the same order."""
    clip = Clip(Path("clip.mp4"), _MANIFEST)
    return [
        (Ask("mini/Part1/direction_forward/1", "Which way?", shown, arguments), identity)
        for identity, shown, arguments in product(_ENGINES, (clip, None), _ARGUMENTS)
    ]
