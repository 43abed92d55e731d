"""New rules of decoding: each clip is decoded once more, and only what is asked about other pixels is asked again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from ffmpeg_files import made
from judge_server import serve_judge
from scripted_engine import ScriptedEngine, mini_requests

from egost.model_adapters.engine import Ask, Reply
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.clips.clips import cache_entry, clip_folder, get_clip
from egost.tasks.clips.lossless import ENCODER
from egost.tasks.clips.protocols import Protocol
from egost.tasks.file_hashes import source_sha256
from egost.tasks.judging.judge import RouteItem
from egost.tasks.judging.openai_judge import OpenAIJudge
from egost.tasks.release import release as release_module
from egost.tasks.release.release import open_release

ROUTES, CHOICES = "route_forward", "direction_forward"


def of_pixels(ask: Ask) -> Reply:
    """A reply that other pixels change."""
    assert ask.clip
    return Reply(f"{ask.sample} saw {ask.clip.manifest.pixels_sha256}", "stop")


def asked_and_judged(url: str) -> set[str]:
    """Run the tasks of the mini world and judge the routes; the samples that the model was asked for."""
    from egost.model_adapters.adapter import EngineModel

    engine = ScriptedEngine(of_pixels)
    requests, task_dict = mini_requests(ROUTES, CHOICES)
    model = EngineModel(engine)
    model.task_dict.update(task_dict)
    replies = [reply.text for reply in model.generate_until(requests)]
    routes = open_release("mini").samples(*ROUTES.split("_"))
    judge = OpenAIJudge(parse_endpoint(f"openai:judge-model@{url}"))
    judge(
        [
            RouteItem(sample.id, sample.question, sample.answer, reply, sample.way)
            for sample, reply in zip(routes, replies, strict=False)
        ]
    )
    judge.close()
    return {ask.sample.removeprefix("mini/") for ask in engine.asked}


def test_only_samples_with_other_pixels_are_asked_and_judged_again(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, mini_release: Callable[..., Path]
) -> None:
    mini_release(tmp_path, clips=4, seed=3)
    monkeypatch.setenv("EGOST_MINI_DATA", str(tmp_path))
    release_module.open_release.cache_clear()
    files = sorted(tmp_path.rglob("*.mp4"))
    with monkeypatch.context() as before, serve_judge() as server:
        before.setattr("egost.tasks.clips.clips.DECODING_VERSION", 1)
        kept = get_clip(files[1], Protocol())
        # The film says now that its range is full, which version 1 did not read: it kept the same frames for it.
        says_full = ["-c", "copy", "-bsf:v", "h264_metadata=video_full_range_flag=1"]
        made(tmp_path / "full.mp4", "-i", str(files[1]), *says_full).replace(files[1])
        sha256 = source_sha256(files[1], clip_folder() / "sources")
        entry = cache_entry(clip_folder(), f"{sha256} uniform8 pyav 1 {ENCODER}")
        shutil.copytree(kept.path.parent, entry)
        manifest = asdict(replace(kept.manifest, source_sha256=sha256))
        (entry / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

        samples = [s for task in (ROUTES, CHOICES) for s in open_release("mini").samples(*task.split("_"))]
        assert asked_and_judged(server.url) == {sample.id for sample in samples}
        before.undo()
        entries, judged = set(own_cache.rglob("clip.mp4")), len(server.asks)
        changed = {sample.id for sample in samples if sample.clip == files[1].name}
        assert 0 < len(changed) < len(samples)
        assert asked_and_judged(server.url) == changed
        assert len(set(own_cache.rglob("clip.mp4")) - entries) == len(files), "all were decoded once more"
        again = {ask.prediction.split(" saw ")[0].removeprefix("mini/") for ask, _ in server.asks[judged:]}
        assert again == {name for name in changed if ROUTES in name} != set()
        assert asked_and_judged(server.url) == set() and len(server.asks) == judged + len(again)
