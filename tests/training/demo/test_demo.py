"""`egost train demo --quick`, killed and started again: every step of the way to ST-R1 by its real command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from egost_command import EGOST
from lmms_eval_command import environment
from PIL import Image

from egost.commands.train_demo import other_sources, table_4
from egost.model_adapters.model_names import MINI_BASE, model_named
from egost.model_adapters.questions import Question, Questions
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.errors import ReleaseError
from egost.tasks.judging.judge import Judgement
from egost.tasks.mini_world.walks import plan_clip
from egost.tasks.release.release import Release, mini_revision
from egost.tasks.release.trained_on import note_model, without_trained_on
from egost.training import TrainingError
from egost.training.demo.controls import controls_file, read_replies, with_other_clips
from egost.training.demo.demo import FULL, MAPS, QUICK, Demo, check_maps, demo_steps, map_mark


def test_a_base_that_knows_a_walk_of_the_demo_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    demo = Demo(tmp_path / "out", base, QUICK)
    (base / MAPS).write_text("0" * 16 + "\n")
    check_maps(demo)
    walks = demo.planned_walks[1]
    (base / MAPS).write_text(map_mark(plan_clip(walks.seed, walks.split, 3)) + "\n")
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
    assert {p.method: p.prompt for p in replace(demo, size=FULL).paradigms} == {
        "base": "direct", "sft": "direct", "sft_grpo": "direct", "st_cot": "think", "st_r1": "think",
    }  # fmt: skip


def test_the_whole_has_the_ten_rows_of_table_3(tmp_path: Path) -> None:
    demo = Demo(tmp_path, MINI_BASE, FULL)
    assert [(p.label, p.rows) for p in demo.paradigms] == [
        ("mini-base", 0), ("SFT", 630), ("SFT+GRPO", 630), ("ST-CoT", 630), ("ST-R1 (63)", 63), ("ST-R1 (126)", 126),
        ("ST-R1 (252)", 252), ("ST-R1 (378)", 378), ("ST-R1 (504)", 504), ("ST-R1", 630),
    ]  # fmt: skip
    steps = {step.name: step for step in demo_steps(demo)}
    assert all(set(step.needs) <= steps.keys() for step in steps.values())
    # Each ST-R1 goes on from a checkpoint that was fine-tuned on the same rows, with routes behind them.
    for count in (63, 126, 252, 378, 504, 630):
        words = steps[f"st_r1_{count}"].command().words
        assert words[words.index("--model_name_or_path") + 1] == str(tmp_path / f"runs/st_cot_{count}/final")
        assert words[words.index("--rows") + 1] == str(tmp_path / f"rows/{count}/rows.jsonl")
        rows = steps[f"rows-{count}"].command().words
        assert int(rows[rows.index("--routes") + 1]) == count // 5
    # Table 4: the base, and ST-R1 without each of two sources, which never goes near the walks of Table 3.
    assert [(p.name, p.hold_out) for p in demo.out_of_domain] == [
        ("base-2", None), ("st_r1_630_without_sun3d", "sun3d"), ("st_r1_630_without_outdoor", "outdoor"),
    ]  # fmt: skip
    without = steps["st_r1_630_without_outdoor"].command()
    assert str(tmp_path / "runs/st_cot_630_without_outdoor/final") in without.words
    assert str(tmp_path / "rows/630_without_outdoor/rows.jsonl") in without.words
    assert without.settings["EGOST_MINI_DATA"] == str(tmp_path / "walks/train-2")
    rows = steps["rows-630_without_outdoor"].command().words
    assert rows[-2:] == ("--hold-out", "outdoor") and str(tmp_path / "walks/train-2") in rows
    assert steps["evaluate-base-2"].command().settings["EGOST_MINI_DATA"] == str(tmp_path / "walks/test-2")
    assert not replace(demo, size=QUICK).out_of_domain
    # GRPO on letters alone asks for no reasoning.
    rewarded = [steps[f"{method}_630"].command().words for method in ("sft_grpo", "st_r1")]
    assert ["direct" in words for words in rewarded] == [True, False]


def test_the_other_clip_is_never_a_questions_own(tmp_path: Path, mini_release: Callable[..., Path]) -> None:
    root = mini_release(tmp_path / "mini", clips=5, seed=3)
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
    judged = {
        "sample_id": "a",
        "direction": 5,
        "landmark": 4,
        "semantic": 3,
        "reasons": "",
        "judge": "offline",
    }
    routed = {"sample": "a", "response": "Go on.", "percent": 80.0, "judgement": judged}
    path.write_text(json.dumps(routed) + "\n")
    found = read_replies(path)["a"].judgement
    assert isinstance(found, Judgement) and (found.direction, found.landmark, found.semantic) == (5, 4, 3)
    path.write_text(json.dumps(routed | {"judgement": judged | {"landmark": 9}}) + "\n")
    with pytest.raises(TrainingError, match="holds no replies of a control"):
        read_replies(path)
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
    while first.poll() is None and not (out / "runs" / "st_cot_16" / "log.csv").exists():
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
        assert {"walks-train", "rows-16"} <= done.kept.keys()
        now = records(done.out)
        assert {name: now[name] for name in done.kept} == done.kept
        assert len(now) == 16
        assert all(f"{name}: done before" in done.said for name in done.kept)

    def test_four_rows_with_their_controls(self, done: Done) -> None:
        report = json.loads((done.out / "report.json").read_text())
        rows = {row["label"]: row for row in report["rows"]}
        assert list(rows) == ["mini-base", "ST-CoT", "ST-R1 (8)", "ST-R1"]
        assert [row["rows"] for row in rows.values()] == [0, 16, 8, 16]
        for row in rows.values():
            # Directions and landmarks of each walk both ways, and actions of some.
            assert row["whole"]["n"] > 4 * QUICK.test_clips and row["whole"]["unscored"] == 0
            assert 0 <= row["controls"]["blind"]["value"] <= 100
        assert set(rows["ST-R1"]["controls"]) == set(rows["ST-R1 (8)"]["controls"]) == {"blind", "other"}
        assert report["seeds"] == {"train": 630, "test": 3582} and report["minutes"] > 0 and report["commit"]
        for label in rows:
            assert re.search(rf"^ *{re.escape(label)} ", done.said, re.MULTILINE), label
        assert "Missed: " not in done.said and "(published)" not in done.said
        aims = report["targets"]
        reached = sum(aim["reached"] for aim in aims)
        assert (
            f"{reached} of {len(aims)} aims are reached. A quick run is expected to miss most of them"
            in done.said
        )
        assert "19 training rows of the mini release" in done.said
        assert re.search(r"1[0-5] of 16 steps done, all by about 20\d\d-\d\d-\d\d \d\d:\d\d", done.said)

    def test_one_page_as_html_and_markdown(self, done: Done) -> None:
        text, page = ((done.out / f"report.{end}").read_text() for end in ("md", "html"))
        assert [line for line in text.splitlines() if line.startswith("## Table")] == [
            "## Table 1: all tasks", "## Table 2: direction, landmark and semantic of the routes",
            "## Table 3: paradigms and numbers of rows", "## Table 4: out of domain",
        ]  # fmt: skip
        assert page.count("<h2>") == text.count("\n## ")
        assert page.count("<tr>") == sum(
            line.startswith("| ") and not line.startswith("| ---") for line in text.splitlines()
        )
        assert page.count('src="data:image/png;base64,') == text.count("](figure") == 4
        assert "Its figures mean nothing." in page
        table = json.loads((done.out / "report.json").read_text())["table_1"]
        assert [row[:2] for row in table["rows"]] == [
            ["mini-base", "with the clip"], ["mini-base", "without the clip"],
            ["ST-R1", "with the clip"], ["ST-R1", "without the clip"], ["ST-R1", "with another walk's clip"],
            ["a guess", ""], ["a linear model", "the options' wording"],
        ]  # fmt: skip
        # mini-base tells routes; without the clip it cannot.
        seen, blind = (float(row[2].split(" ")[0]) for row in table["rows"][:2])
        assert seen > blind

    def test_table_4_is_made_of_the_walks_of_the_source_that_was_left_out(
        self, done: Done, tmp_path: Path
    ) -> None:
        """On what the quick demo's checkpoints replied, with clips named as those of two sources are."""
        demo = Demo(tmp_path, MINI_BASE, replace(QUICK, source_clips=1))

        def sources(text: str) -> str:
            return re.sub(r"mini_test_3582_(\d*)([0-4])\.mp4", r"sun3d_\1\2.mp4", text)

        for paradigm in demo.out_of_domain:
            asked = paradigm.method if not paradigm.rows else f"{paradigm.method}_{paradigm.rows}"
            shutil.copytree(done.out / "evaluations" / asked, demo.evaluation(paradigm.name))
            for file in demo.evaluation(paradigm.name).rglob("*.jsonl"):
                named = sources(file.read_text())
                file.write_text(re.sub(r"mini_test_3582_(\d+)\.mp4", r"\1.mp4", named))
            replies = controls_file(demo.controls, paradigm.name, "blind")
            replies.parent.mkdir(exist_ok=True)
            shutil.copy(controls_file(done.out / "controls", asked, "blind"), replies)
        tables = other_sources(demo)
        assert list(tables) == ["sun3d", "outdoor"]
        asked = [table.rows[0].whole for table in tables.values()]
        assert [one.clips for one in asked] == [5, 5] and [one.n for one in asked] == [20, 20]
        text = table_4(demo, tables)
        assert text[0].startswith("|  | tested on | n | Avg. | Direction (D) | Landmark (L) | all |")
        assert [line.split(" | ")[:2] for line in text[0].splitlines()[2:]] == [
            ["| mini-base", "sun3d"], ["| ST-R1 without sun3d", "sun3d"],
            ["| mini-base", "outdoor"], ["| ST-R1 without outdoor", "outdoor"],
        ]  # fmt: skip
        assert "learned on two sources" in text[-1]

    def test_fine_tuning_lowers_the_loss(self, done: Done) -> None:
        from egost.training.run_log import curve, read_log

        _, losses = curve(done.out / "runs" / "st_cot_16" / "log.csv", "loss")
        assert len(losses) == 6 and losses[-1] < 0.9 * losses[0]
        rewarded = read_log(done.out / "runs" / "st_r1_16" / "log.csv")
        # The offline judge scored whatever routes were among the completions.
        assert len(rewarded) == 3 and {float(row["judge_failed"] or 0) for row in rewarded} == {0.0}

    def test_plots_are_drawn(self, done: Done) -> None:
        # In figure 1 models that score alike lie on each other: of the lower ones the legend alone is sure.
        for name, least in (("figure1.png", 20), ("figure9.png", 100)):
            pixels = np.asarray(Image.open(done.out / name).convert("RGB")).astype(int)
            for colour in ((31, 119, 180), (255, 127, 14)):
                assert (np.abs(pixels - colour).sum(axis=2) < 30).sum() > least, (name, colour)

    def test_the_nested_subsets_nest(self, done: Done) -> None:
        few, many = (
            json.loads((done.out / "rows" / str(n) / "split.json").read_text())["train"] for n in QUICK.rows
        )
        # The routes stand last: one behind 8 rows, three behind 16.
        assert many[:8] == few[:8] and many[16:17] == few[8:]

    def test_its_checkpoint_knows_its_rows(self, done: Done) -> None:
        final = done.out / "runs" / "st_r1_16" / "final"
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
