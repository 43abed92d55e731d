"""`egost train demo --quick`, killed and started again: every step of the way to ST-R1 by its real command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from egost_command import EGOST
from lmms_eval_command import environment
from PIL import Image

from egost.model_adapters.model_names import MINI_BASE, model_named
from egost.model_adapters.questions import Question, Questions
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import ReleaseError
from egost.tasks.mini_world import write_mini_release
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.release.release import Release, mini_revision
from egost.tasks.release.trained_on import note_model, without_trained_on
from egost.training import TrainingError
from egost.training.demo.controls import controls_file, read_replies, with_other_clips
from egost.training.demo.demo import MAPS, QUICK, Demo, check_maps, demo_steps, map_mark


def test_a_base_that_knows_a_walk_of_the_demo_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    demo = Demo(tmp_path / "out", base, QUICK)
    (base / MAPS).write_text("0" * 16 + "\n")
    check_maps(demo)
    split, _, seed = demo.planned_walks[1]
    (base / MAPS).write_text(map_mark(plan_clip(seed, split, 3)) + "\n")
    with pytest.raises(TrainingError, match="1 walks of the split test have maps that"):
        check_maps(demo)


def test_checkpoints_are_asked_as_they_were_taught(tmp_path: Path) -> None:
    demo = Demo(tmp_path, MINI_BASE, QUICK)
    steps = {step.name: step for step in demo_steps(demo)}
    needed = [need for step in steps.values() for need in step.needs]
    assert set(needed) <= steps.keys()
    command = steps["evaluate-base"].command()
    assert Path(command.words[0]).name == "lmms-eval" and command.settings["EGOST_PROMPT"] == "direct"
    assert "adapter=qwen2_vl" in command.words[command.words.index("--model_args") + 1]
    assert {p.name: p.prompt for p in demo.paradigms} == {
        "base": "direct", "sft": "direct", "sft_grpo": "direct", "st_cot": "think", "st_r1": "think",
    }  # fmt: skip


def test_the_other_clip_is_never_a_questions_own(tmp_path: Path) -> None:
    root = write_mini_release(tmp_path / "mini", clips=5, seed=1, progress=False)
    release = Release("mini", (root,), mini_revision(root))
    samples = [s for s in release.index.samples if s.task == "direction"]
    clips = {s.clip: get_clip(release.clip_path(s), parse_protocol("uniform8")) for s in samples}
    asked = Questions(release, tuple(Question(s, clips[s.clip]) for s in samples), 0, None, 8)
    swapped = with_other_clips(asked)
    assert [q.sample for q in swapped.asked] == samples and len(clips) == 5
    assert all(q.clip is not None and q.clip != clips[q.sample.clip] for q in swapped.asked)
    # Questions about one clip keep a common clip, and each clip is shown for one other.
    assert len({(q.sample.clip, q.clip.path) for q in swapped.asked if q.clip}) == 5
    assert {q.clip.path for q in swapped.asked if q.clip} == {clip.path for clip in clips.values()}


def test_replies_that_are_no_replies_are_refused(tmp_path: Path) -> None:
    path = controls_file(tmp_path, "base", "blind")
    assert path.name == "base-blind.jsonl"
    path.write_text('{"sample": "Part1/direction_forward/1", "response": "A", "percent": 100.0}\n')
    assert read_replies(path)["Part1/direction_forward/1"].percent == 100.0
    path.write_text('{"sample": "Part1/direction_forward/1"}\n')
    with pytest.raises(TrainingError, match="holds no replies of a control"):
        read_replies(path)


@dataclass(frozen=True)
class Done:
    """A quick demo that was killed once. said: what its second start printed; kept: steps that the first had done."""

    out: Path
    said: str
    kept: dict[str, int]


def records(out: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (out / "steps").glob("*.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "demo"
    words = [str(EGOST), "train", "demo", "--quick", "--out", str(out)]
    settings = environment(folder / "cache")
    first = subprocess.Popen(
        words, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + 300
    while first.poll() is None and not (out / "runs" / "st_cot" / "log.csv").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = records(out)
    again = subprocess.run(words, env=settings, capture_output=True, text=True, timeout=900, check=False)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    yield Done(out, again.stdout, kept)
    note_model("")


class TestQuickDemo:
    def test_finished_steps_are_not_done_again(self, done: Done) -> None:
        assert {"walks-train", "walks-test", "rows-8"} <= done.kept.keys()
        now = records(done.out)
        assert {name: now[name] for name in done.kept} == done.kept
        assert len(now) == 14
        assert all(f"{name}: done before" in done.said for name in done.kept)

    def test_five_rows_with_their_controls(self, done: Done) -> None:
        report = json.loads((done.out / "report.json").read_text())
        rows = {row["label"]: row for row in report["rows"]}
        assert list(rows) == ["mini-base", "SFT", "SFT+GRPO", "ST-CoT", "ST-R1"]
        assert [row["rows"] for row in rows.values()] == [0, 8, 16, 8, 16]
        for row in rows.values():
            assert row["whole"]["n"] == 4 * QUICK.test_clips and row["whole"]["unscored"] == 0
            assert 0 <= row["controls"]["blind"]["value"] <= 100
        assert set(rows["ST-R1"]["controls"]) == {"blind", "other"}
        assert len(report["targets"]) == 17
        for label in rows:
            assert re.search(rf"^ *{re.escape(label)} ", done.said, re.MULTILINE), label
        assert "Missed: " not in done.said and "(published)" not in done.said
        reached = sum(target["reached"] for target in report["targets"])
        assert f"{reached} of 17 aims are reached. A quick run is expected to miss most of them" in done.said
        assert "16 training rows of the mini release" in done.said

    def test_fine_tuning_lowers_the_loss(self, done: Done) -> None:
        from egost.training.run_log import curve

        _, losses = curve(done.out / "runs" / "st_cot" / "log.csv", "loss")
        assert len(losses) == 6 and losses[-1] < 0.9 * losses[0]
        # The base gives letters already, so that six steps on letters alone have little to lower.
        assert len(curve(done.out / "runs" / "sft" / "log.csv", "loss")[0]) == 6

    def test_plots_are_drawn(self, done: Done) -> None:
        for name in ("fine_tuning.png", "grpo.png"):
            pixels = np.asarray(Image.open(done.out / name).convert("RGB")).astype(int)
            for colour in ((31, 119, 180), (255, 127, 14)):
                assert (np.abs(pixels - colour).sum(axis=2) < 30).sum() > 100, (name, colour)

    def test_the_nested_subsets_nest(self, done: Done) -> None:
        few, many = (
            json.loads((done.out / "rows" / str(n) / "split.json").read_text())["train"] for n in QUICK.rows
        )
        assert many[: len(few)] == few

    def test_its_checkpoint_knows_its_rows(self, done: Done) -> None:
        final = done.out / "runs" / "st_r1" / "final"
        assert model_named(str(final)).family == "qwen2_vl"
        note_model(f"pretrained={final}")
        for split in ("train", "test"):
            root = done.out / "walks" / split
            release = Release("mini", (root,), mini_revision(root))
            samples = release.samples("direction", "forward")
            if split == "test":
                assert without_trained_on(release, samples) == samples
            else:
                with pytest.raises(ReleaseError, match="the model was trained on"):
                    without_trained_on(release, samples)
