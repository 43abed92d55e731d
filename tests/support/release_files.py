"""Question entries and real video files, of which tests make a release in the official layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from video_files import encoded_once

OPTIONS = ["A. turn left, then right", "B. turn right, then left", "C. walk straight on", "D. turn round"]


@encoded_once
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
