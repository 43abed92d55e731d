"""Fixtures that several rooms share: a release in the official layout, with real video files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from egost_tasks import release as release_module

OPTIONS = ["A. turn left, then right", "B. turn right, then left", "C. walk straight on", "D. turn round"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test has a cache of its own, and no setting of the person who runs it."""
    for name in [name for name in os.environ if name.startswith("EGOST_")]:
        monkeypatch.delenv(name)
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EGOST_CACHE", str(cache))
    release_module.open_release.cache_clear()
    yield cache
    release_module.open_release.cache_clear()


def write_video(
    path: Path, frames: int = 24, size: tuple[int, int] = (112, 112), rate: int = 8, seed: int = 0
) -> Path:
    """A real H.264 file of random blocks; size is (height, width) in pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            blocks = random.integers(0, 255, (7, 7, 3), dtype=np.uint8)
            image = blocks.repeat(-(-size[0] // 7), 0).repeat(-(-size[1] // 7), 1)[: size[0], : size[1]]
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"))
            )
        container.mux(stream.encode())
    return path


def choice_entry(way: str, clip: str, **changes: Any) -> dict[str, Any]:
    """One multiple-choice entry of a question file; `changes` replace fields of the inner object."""
    return {
        "video": f"/somewhere/{clip}",
        "question": "Which way did you go?",
        f"{way}_mcq": {"question": "Which turns did you take?", "options": OPTIONS, "answer": "B", **changes},
    }


@pytest.fixture
def questions(tmp_path: Path) -> Callable[..., Path]:
    """Writes the 26 question files, two entries each, into a folder; keyword arguments replace whole files."""

    def write(root: Path = tmp_path / "release", **replaced: Any) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for name in sorted(release_module.QUESTION_FILES):
            part, way, kind = name.removesuffix(".json").split("_", 2)
            keys = {"1": f"{part[-1]}1.mp4", "2": f"{part[-1]}2.mp4"}
            content = {
                key: {
                    "video": clip,
                    "question": "Describe the route.",
                    f"{way}_answer": "Turn left at the door.",
                }
                if kind == "qa"
                else choice_entry(way, clip)
                for key, clip in keys.items()
            }
            content = replaced.get(name.removesuffix(".json"), content)
            (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return root

    return write


@pytest.fixture
def release_folder(questions: Callable[..., Path]) -> Path:
    """A whole small release: 26 question files and 8 clips in the part folders of the reference code."""
    root = questions()
    for part, folder in release_module.PART_FOLDERS.items():
        for number in (1, 2):
            write_video(root / folder / f"{part}{number}.mp4", seed=10 * part + number)
    return root
