"""The counted work of `make rehearsal`, on clips that are small: what a clip and a question cost outside of a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

from rehearsal import SMALL, asked
from rehearsed_release import Size, write_release
from rehearsed_server import seen, serving

TINY = Size(clips=6, distinct=2, questions=24, seconds=(8, 16), frames=((320, 240),), shots=1)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_release(tmp_path / "release", TINY)
    monkeypatch.setenv("EGOST_DATA", str(tmp_path / "release"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    return tmp_path


def test_a_clip_is_decoded_once_for_all_questions_ways_and_sizes(
    release: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(way: str, protocol: str, at_once: int = 8) -> dict[str, Any]:
        monkeypatch.setenv("EGOST_PROTOCOL", protocol)
        counts = asked(url, way, at_once) | seen(url)
        assert (counts["questions"], counts["requests"]) == (24, 24)
        return counts

    with serving(own_cache) as url:
        by_file = work("file", "uniform8+cap50176")
        assert by_file["decodes"] == TINY.distinct
        assert by_file["bytes"] / 24 < 2000, "a path, not pixels"
        assert work("file", "uniform8", 256)["decodes"] == 0
        inline = work("inline", "uniform8+112x112")
        assert inline["decodes"] == 0
        # 2, 4 and 8 frames of noise show that the server sees all of them, the pixels of a clip how many tokens its
        # size makes; clips go as the bytes of their files.
        assert inline["pictures_encoded"] == 8 + 14
        assert 8 * 2000 < inline["bytes"] / 24 < 8 * 112 * 112 * 3 * 4 / 3
        closed = work("openai", SMALL)
        assert (closed["decodes"], closed["pictures_encoded"]) == (0, 8 * TINY.distinct)
