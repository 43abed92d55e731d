"""Controls of models that are known to look, or not to: the figures have to say so."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scripted_engine import ScriptedEngine
from taught_checkpoint import taught_checkpoint
from typer.testing import CliRunner

from egost.commands.diagnosis import control_records
from egost.main import app
from egost.model_adapters.engine import Ask, Failure, Reply
from egost.model_adapters.questions import Questions, choose_questions, number_of_requests
from egost.results.diagnosis.control_figures import compare_controls
from egost.results.diagnosis.controls import (
    About,
    Controls,
    controls_of,
    read_controls_file,
    write_controls,
)
from egost.results.diagnosis.text_only import release_of
from egost.results.records import SampleRecord
from egost.results.run import Run
from egost.results.run_header import RunError
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.controls import (
    CONTROLS,
    Control,
    altered_clip,
    frame_order,
    read_controls,
    rotated,
)
from egost.tasks.clips.lossless import pixels_sha256
from egost.tasks.errors import SettingError
from egost.tasks.judging.choose import get_judge
from egost.tasks.release.release import open_release
from egost.tasks.sample import Sample
from egost.tasks.task_names import named_tasks

if TYPE_CHECKING:
    from demo_runs import DemoHome

Script = Callable[[Ask], Reply | Failure]


@pytest.fixture(scope="module")
def demo_run(fresh_run: Run) -> Run:
    """Its clips are those of the questions."""
    return fresh_run


@pytest.fixture
def questions(demo_home: DemoHome, monkeypatch: pytest.MonkeyPatch) -> Questions:
    """The multiple-choice questions of the demo's mini world; frames come from its cache, the journal is the test's."""
    monkeypatch.setenv("EGOST_MINI_DATA", str(demo_home.cache / "mini"))
    return choose_questions("egost_mini_mcq")


def about(run: Run) -> About:
    metadata = run.results["configs"]["egost_mini_direction_forward"]["metadata"]
    return About(
        {"model": "scripted", "engine": "script 1"}, "script", "", release_of(run), metadata["sampling_protocol"],
        metadata["prompt"], "", "egost_mini_mcq", None, None, 0, "2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def diagnosed(
    script: Script, questions: Questions, run: Run, wanted: tuple[Control, ...] = CONTROLS
) -> Controls:
    from egost.model_adapters.adapter import EngineModel

    model = EngineModel(ScriptedEngine(script))
    return compare_controls(*control_records(model, questions, wanted, None), about(run))


def offered(prompt: str) -> dict[str, str]:
    """The options that stand in a prompt, text by letter."""
    return dict(re.findall(r"^([A-D])\. (.+)$", prompt, re.MULTILINE))


def turns(option: str) -> list[str]:
    return [word for word in re.findall(r"\w+", option) if word not in ("turn", "then", "after", "that")]


def seer(questions: Questions) -> Script:
    """Knows each film by its pixels, in order or reversed, and nothing else: shown anything else it says A."""
    samples = {q.sample.id: q.sample for q in questions.asked}
    other = {(s.clip, s.task, s.way): s for s in samples.values()}
    known: dict[str, tuple[str, bool]] = {}
    for question in questions.asked:
        assert question.clip is not None
        frames = question.clip.frames()
        known[pixels_sha256(frames)] = question.sample.clip, False
        known[pixels_sha256(np.ascontiguousarray(frames[::-1]))] = question.sample.clip, True

    def right(sample: Sample) -> str:
        return sample.options[sample.letters.index(sample.answer)]

    def script(ask: Ask) -> Reply:
        sample = samples[ask.sample.removeprefix("mini/")]
        film = known.get(pixels_sha256(ask.clip.frames())) if ask.clip else None
        letter = "A"
        if film and film[0] == sample.clip:
            told = sample
            if film[1]:
                told = other[sample.clip, sample.task, "reverse" if sample.way == "forward" else "forward"]
            options = offered(ask.prompt).items()
            wrong = next(letter for letter, text in options if text != right(sample))
            letter = next((k for k, text in options if turns(text) == turns(right(told))), wrong)
        return Reply(letter, "stop")

    return script


def test_who_sees_loses_all_that_seeing_gave(questions: Questions, demo_run: Run) -> None:
    found = diagnosed(seer(questions), questions, demo_run)
    always_a = 100 * np.mean([q.sample.answer == "A" for q in questions.asked])
    assert (found.score.value, found.score.n) == (100.0, len(questions.asked))
    for name in ("blind", "shuffled", "middle"):
        arm = found.arm(name)
        assert arm is not None and not arm.guesser
        assert arm.overall.control.value < 60 and arm.overall.gap.low > 0, (name, arm)
        assert arm.overall.gap.wins == round(len(questions.asked) * (1 - always_a / 100)), name
        assert set(arm.by_task) == {f"egost_mini_{q.sample.task}_{q.sample.way}" for q in questions.asked}
    assert "uses the video" in (found.arm("blind") or found.arms[0]).meaning
    assert found.circular is not None
    assert (found.circular.circular.value, found.circular.same_text, found.circular.gap.value) == (
        100.0,
        100.0,
        0.0,
    )


def test_reversed_frames_turn_the_forward_answer_into_the_reverse_one(
    questions: Questions, demo_run: Run
) -> None:
    found = diagnosed(seer(questions), questions, demo_run, ("reversed",)).turned
    assert found is not None and found.n >= 3
    assert (found.own_in_order, found.other_in_order, found.own_reversed, found.other_reversed) == (
        100,
        0,
        0,
        100,
    )


def test_both_ways_of_a_clip_stand_together(questions: Questions, demo_run: Run) -> None:
    found = diagnosed(seer(questions), questions, demo_run, ("blind",)).consistency
    assert found is not None and found.pairs == len(questions.asked) // 2
    assert (found.both, found.by_chance, found.neither) == (100, 100, 0)


def test_who_always_says_a_loses_nothing_without_the_video(questions: Questions, demo_run: Run) -> None:
    found = diagnosed(lambda ask: Reply("A", "stop"), questions, demo_run)
    always_a = 100 * np.mean([q.sample.answer == "A" for q in questions.asked])
    assert found.letters == {"A": 100.0}
    for arm in found.arms:
        if not arm.guesser:
            gap = arm.overall.gap
            assert (gap.value, gap.wins, gap.losses, gap.ties) == (0.0, 0, 0, len(questions.asked)), arm.name
    blind = found.arm("blind")
    assert blind is not None and "can be had without the video" in blind.meaning
    constant = found.arm("most frequent letter")
    assert constant is not None and constant.overall.gap.value <= 0
    assert found.circular is not None
    assert (found.circular.circular.value, found.circular.same_text) == (0.0, 0.0)
    chance = 100 * np.mean([1 / len(q.sample.options) for q in questions.asked])
    assert found.chance == pytest.approx(chance)
    assert 0 < always_a < 100 and found.score.value > 0


def test_routes_are_judged_without_the_video_and_shuffled(questions: Questions, demo_run: Run) -> None:
    from egost.model_adapters.adapter import EngineModel

    routes = choose_questions("egost_mini_route")
    references = {f"mini/{q.sample.id}": q.sample.answer for q in routes.asked}

    def script(ask: Ask) -> Reply:
        as_it_is = ask.clip is not None and ask.clip.manifest.protocol == "uniform8"
        return Reply(references[ask.sample] if as_it_is else "", "stop")

    model = EngineModel(ScriptedEngine(script))
    replies, rotations = control_records(model, routes, CONTROLS, get_judge("offline"))
    found = compare_controls(replies, rotations, about(demo_run))
    assert [arm.name for arm in found.arms] == ["blind", "shuffled"]
    for arm in found.arms:
        assert (arm.overall.score.value, arm.overall.control.value, arm.overall.gap.value) == (100, 0, 100)
    assert (found.chance, found.circular, found.turned, found.consistency) == (None, None, None, None)


def test_a_failed_request_is_unscored_in_its_control_alone(questions: Questions, demo_run: Run) -> None:
    first = questions.asked[0].sample.id

    def script(ask: Ask) -> Reply | Failure:
        if ask.clip is None and ask.sample.endswith(first):
            return Failure("timeout", "no answer in 600 s")
        return Reply("A", "stop")

    blind = diagnosed(script, questions, demo_run, ("blind",)).arm("blind")
    assert blind is not None
    assert (blind.overall.control.unscored, blind.overall.score.unscored) == (1, 0)
    assert blind.overall.gap.n == len(questions.asked) - 1


def test_a_killed_diagnosis_goes_on(questions: Questions) -> None:
    from egost.model_adapters.adapter import EngineModel

    def killed(ask: Ask) -> Reply:
        if ask.clip is None and len(asked) >= 5:
            raise KeyboardInterrupt
        if ask.clip is None:
            asked.append(ask)
        return Reply("A", "stop")

    asked: list[Ask] = []
    with pytest.raises(KeyboardInterrupt):
        control_records(EngineModel(ScriptedEngine(killed)), questions, ("blind",), None)
    again = ScriptedEngine(lambda ask: Reply("A", "stop"))
    replies, _ = control_records(EngineModel(again), questions, ("blind",), None)
    # Several clips share a question's words, and a blind request knows nothing else.
    assert len(again.asked) == len({r.prompt for r in replies["blind"]}) - len({a.prompt for a in asked})
    assert all(ask.clip is None for ask in again.asked)
    assert [r.frames for r in replies["blind"]] == [None] * len(questions.asked)


def test_what_was_written_is_read_again_beside_its_run(
    questions: Questions, copied_run: Run, tmp_path: Path
) -> None:
    from egost.model_adapters.adapter import EngineModel

    model = EngineModel(ScriptedEngine(lambda ask: Reply("B", "stop")))
    replies, rotations = control_records(model, questions, CONTROLS, None)
    found = compare_controls(replies, rotations, about(copied_run))
    assert controls_of(copied_run) is None
    path = write_controls(copied_run.results_file.parent, found, replies, rotations)
    assert controls_of(copied_run) == read_controls_file(path)
    assert str(read_controls_file(path)) == str(found)
    lines = path.with_name("controls_samples.jsonl").read_text().splitlines()
    assert len(lines) == sum(map(len, [*replies.values(), *rotations]))
    assert len(lines) == sum(number_of_requests(questions, control) for control in (None, *CONTROLS))
    other = replace(found, about=replace(found.about, prompt="think-1"))
    write_controls(copied_run.results_file.parent, other, replies, rotations)
    assert controls_of(copied_run) is None
    path.write_text("{}")
    with pytest.raises(RunError, match="egost diagnose MODEL"):
        controls_of(copied_run)


def test_altered_clips_tell_what_they_are(questions: Questions) -> None:
    clip = questions.asked[0].clip
    assert clip is not None
    frames = clip.frames()
    for control in ("shuffled", "reversed", "middle"):
        altered = altered_clip(clip, control)
        order = list(frame_order(control, clip.manifest.pixels_sha256))
        assert np.array_equal(altered.frames(), frames[order])
        assert altered.manifest.protocol == f"uniform8/{control}"
        assert altered.manifest.indices == tuple(clip.manifest.indices[k] for k in order)
        assert altered.manifest.timestamps == tuple(clip.manifest.timestamps[k] for k in order)
        assert altered.manifest.source_sha256 == clip.manifest.source_sha256
        assert altered_clip(clip, control) == altered == Clip.at(altered.path)
    assert frame_order("reversed", "") == (7, 6, 5, 4, 3, 2, 1, 0)
    assert frame_order("middle", "") == (4,) * 8
    orders = {frame_order("shuffled", str(seed)) for seed in range(50)}
    assert len(orders) > 20
    for drawn in orders:
        assert sorted(drawn) == list(range(8)) and all(k != place for place, k in enumerate(drawn))
        assert all(abs(a - b) > 1 for a, b in pairwise(drawn))


def test_controls_of_other_numbers_of_frames() -> None:
    for n in (4, 5, 16, 64):
        drawn = frame_order("shuffled", "a", n)
        assert sorted(drawn) == list(range(n)) and all(k != place for place, k in enumerate(drawn))
        assert frame_order("reversed", "", n) == tuple(range(n - 1, -1, -1))
    assert frame_order("middle", "", 5) == (2,) * 5
    for n in (1, 2, 3):
        for control in ("shuffled", "reversed", "middle"):
            with pytest.raises(SettingError, match=f"{control} needs at least 4 frames.* gives {n}"):
                frame_order(control, "a", n)


def test_rotated_options_keep_the_right_text() -> None:
    sample = Sample("x", "direction", "forward", 1, "1.mp4", "Which?", ("p", "q", "r"), "B")
    assert [(rotated(sample, k).options, rotated(sample, k).answer) for k in range(4)] == [
        (("p", "q", "r"), "B"), (("q", "r", "p"), "A"), (("r", "p", "q"), "C"), (("p", "q", "r"), "B"),
    ]  # fmt: skip


def test_names_that_are_none() -> None:
    assert read_controls("rotated, blind") == ("blind", "rotated")
    with pytest.raises(SettingError, match="'deaf' is no control; expected one or more of blind"):
        read_controls("blind,deaf")
    with pytest.raises(SettingError, match="no control is named"):
        read_controls(",")
    assert named_tasks("egost_mini_route") == ("mini", [("route", "forward"), ("route", "reverse")])
    assert len(named_tasks("egost,egost_mcq")[1]) == 8
    with pytest.raises(SettingError, match="'egost_mini_turns' is none of our tasks"):
        named_tasks("egost_mini_turns")
    with pytest.raises(SettingError, match="mixes the benchmark and the mini world"):
        named_tasks("egost_mcq,egost_mini_mcq")


def test_groups_hold_what_their_yamls_say() -> None:
    import yaml

    import egost.tasks

    for folder in ("official", "mini"):
        for path in (Path(egost.tasks.__file__).parent / folder).glob("*.yaml"):
            told = yaml.load(path.read_text().replace("!function", ""), yaml.SafeLoader)
            if "group" in told:
                world, tasks = named_tasks(told["group"])
                prefix = "egost_mini" if world == "mini" else "egost"
                assert {f"{prefix}_{task}_{way}" for task, way in tasks} == set(told["task"]), path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which model?"),
        (["tiny", "--train", "63"], "--train belongs to --text-only"),
        (["tiny", "--controls", "deaf"], "'deaf' is no control"),
        (["tiny", "--tasks", "mmmu"], "'mmmu' is none of our tasks"),
        (["no-such-model"], "is no known model"),
        (["qwen2-vl-7b", "--engine", "api"], "is not run by engine 'api'"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["diagnose", *arguments])
    assert done.exit_code == 2
    assert message in done.output


def test_a_real_checkpoint_that_learned_one_letter(
    demo_home: DemoHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_MINI_DATA", str(demo_home.cache / "mini"))
    monkeypatch.setenv("COLUMNS", "200")
    checkpoint = taught_checkpoint(tmp_path, open_release("mini"), steps=60, letter="A")
    command = [
        "diagnose",
        str(checkpoint),
        "--tasks",
        "egost_mini_mcq",
        "--controls",
        "blind,reversed,rotated",
    ]
    command += ["--engine", "hf", "--limit", "2", "--max-new-tokens", "4", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    print(done.output)
    assert done.exit_code == 0, done.output
    found = read_controls_file(tmp_path / "out" / "controls.json")
    assert found.letters == {"A": 100.0}
    assert (found.about.limit, found.about.room, found.score.n) == (2, 4, 12)
    assert found.about.model["engine"].startswith("lmms-eval") and found.about.model["engine"].endswith(
        "qwen2_vl"
    )
    for name in ("blind", "reversed"):
        arm = found.arm(name)
        assert arm is not None and (arm.overall.gap.value, arm.overall.gap.ties) == (0.0, 12)
    assert found.circular is not None and found.circular.circular.value == 0.0
    for part in (
        "as asked:",
        "blind",
        "rotated, right in all",
        "most frequent letter (no model)",
        "gap by task",
    ):
        assert part in done.output, part


def test_records_are_those_of_a_run(questions: Questions, demo_run: Run) -> None:
    """A record of a control says the same of its sample as a record of a run."""
    from egost.model_adapters.adapter import EngineModel

    model = EngineModel(ScriptedEngine(lambda ask: Reply("A", "stop")))
    replies, _ = control_records(model, questions, (), None)
    of_run: dict[str, SampleRecord] = {r.sample.id: r for r in demo_run.records}
    for record in replies["as asked"]:
        other = of_run[record.sample.id]
        assert (record.task, record.world, record.sample, record.prompt, record.frames) == (
            other.task, other.world, other.sample, other.prompt, other.frames,
        )  # fmt: skip
        assert record.cluster == other.cluster
