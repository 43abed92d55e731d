"""The gate on runs that differ in one thing, on damaged baselines, and on runs that cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from egost.main import app
from egost.results.gate.baseline import (
    WHOLE_REPLY,
    Baseline,
    baseline_of,
    kept_reply,
    miscounts,
    recount,
    recount_group,
)
from egost.results.gate.baseline_file import read_baseline, write_baseline
from egost.results.gate.regression import regression
from egost.results.records import SampleRecord
from egost.results.run import Run, read_run
from egost.results.run_header import RunError
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.scoring import scores
from egost.tasks.scoring.choices import Choice, compat_choice

TASK = "egost_mini_direction_forward"


@pytest.fixture(scope="module")
def was(demo_run: Run) -> Baseline:
    return baseline_of(demo_run)


@pytest.fixture
def golden(was: Baseline, tmp_path: Path) -> Path:
    write_baseline(tmp_path / "golden.jsonl", was)
    return tmp_path / "golden.jsonl"


def with_records(baseline: Baseline, change: Callable[[SampleRecord], SampleRecord | None]) -> Baseline:
    """The baseline with other samples (None leaves one out) and the figures that follow from them."""
    changed = {key: new for key, old in baseline.records.items() if (new := change(old))}
    figures = recount(list(changed.values()))
    return replace(
        baseline,
        records=changed,
        tasks={name: replace(baseline.tasks[name], figures=found) for name, found in figures.items()},
        groups={
            name: replace(
                group, figures=recount_group(figures[task] for task in group.tasks if task in figures)
            )
            for name, group in baseline.groups.items()
        },
    )


def on_more_clips(baseline: Baseline, times: int) -> Baseline:
    """Each sample several times, on a clip of its own each: on the few clips of a small run, chance explains a lot."""
    copies = (
        replace(r, sample=replace(r.sample, id=f"{r.sample.id}-{k}", clip=f"{k}-{r.sample.clip}"))
        for r in baseline.records.values()
        for k in range(times)
    )
    more = replace(baseline, records={(r.task, r.sample.id): r for r in copies})
    return with_records(more, lambda record: record)


def of(
    task: str, change: Callable[[SampleRecord], SampleRecord | None]
) -> Callable[..., SampleRecord | None]:
    return lambda record: change(record) if record.task == task else record


def with_sample(record: SampleRecord, **changes: Any) -> SampleRecord:
    return replace(record, sample=replace(record.sample, **changes))


def with_frames(record: SampleRecord, **changes: Any) -> SampleRecord:
    assert record.frames
    return replace(record, frames=replace(record.frames, **changes))


def gate(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["regress", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_the_file_holds_the_run_and_nothing_of_the_machine(
    demo_run: Run, was: Baseline, golden: Path
) -> None:
    again = golden.with_name("again.jsonl")
    write_baseline(again, read_baseline(golden))
    assert again.read_bytes() == golden.read_bytes()
    verdict = regression(read_baseline(golden), was)
    assert (verdict.moved, verdict.failed, verdict.figures) == ((), False, ())
    assert verdict.compared == sum(row["effective"] for row in demo_run.results["n-samples"].values())
    assert "/home/somebody" in demo_run.results_file.read_text()
    assert "/home/somebody" not in golden.read_text(), "no path of the machine"


def test_the_order_of_samples_changes_nothing(copied_run: Run, golden: Path) -> None:
    for path in copied_run.samples_files:
        path.write_text("".join(sorted(path.read_text().splitlines(keepends=True), reverse=True)))
    write_baseline(golden.with_name("other.jsonl"), baseline_of(read_run(copied_run.results_file.parent)))
    assert golden.with_name("other.jsonl").read_bytes() == golden.read_bytes()


def test_the_figures_of_a_real_run_follow_from_its_samples(was: Baseline) -> None:
    assert miscounts(was) == []
    assert {"percent", "compat", "chance", "invalid", "spatiotemporal", "n_scored"} <= set(
        was.tasks[TASK].figures
    )
    assert len(was.groups["egost_mini"].tasks) == 8


CHANGES: Mapping[str, tuple[Callable[[SampleRecord], SampleRecord | None], str, str]] = {
    "question": (lambda r: with_sample(r, question="Another one?"), "data", "question"),
    "options": (lambda r: with_sample(r, options=r.sample.options[::-1]), "data", "options"),
    "left out": (lambda r: None, "data", "sample"),
    "file": (lambda r: with_frames(r, source_sha256="0" * 64, pixels_sha256="1" * 64), "data", "clip's file"),
    "pixels": (lambda r: with_frames(r, pixels_sha256="1" * 64), "frames", "pixels"),
    "undecoded": (
        lambda r: replace(
            r, frames=None, percent=None, compat=0.0, unscored="decode_failed:timeout", choice=None
        ),
        "frames",
        "clip",
    ),
    "gone": (
        lambda r: replace(
            r, frames=None, percent=None, compat=0.0, unscored="decode_failed:missing", choice=None
        ),
        "data",
        "clip",
    ),
    "wording": (lambda r: replace(r, prompt=r.prompt.replace("correct", "right")), "prompt", "prompt"),
    "reply": (lambda r: replace(r, response=f"{r.response}!"), "model", "reply"),
    "parser": (lambda r: replace(r, choice=Choice("C", "declaration")), "scoring", "choice"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_sample_is_put_down_to_the_first_thing_that_differs(was: Baseline, name: str) -> None:
    change, stage, what = CHANGES[name]
    both = [key for key in was.records if key[0] == TASK]
    one = both[1]
    now = with_records(was, lambda r: change(r) if (r.task, r.sample.id) == one else r)
    verdict = regression(was, now)
    assert verdict.failed and verdict.moved == (stage,)
    [moved] = verdict.samples
    assert (moved.task, moved.sample) == one and moved.changes[0].what == what
    assert (stage != "frames") or moved.pixels[0] == was.records[one].frames.pixels_sha256


def test_routes_move_by_their_judgement(was: Baseline) -> None:
    def judged(record: SampleRecord) -> SampleRecord:
        verdict = record.judgement
        assert isinstance(verdict, Judgement)
        higher = replace(verdict, landmark=(verdict.landmark + 1) % 6)
        return replace(record, judgement=higher, percent=higher.percent)

    verdict = regression(was, with_records(was, of("egost_mini_route_reverse", judged)))
    assert verdict.moved == ("scoring",) and not verdict.rescored
    assert {figure.name for figure in verdict.figures} >= {"egost_mini", "egost_mini_route_reverse"}

    def failed(record: SampleRecord) -> SampleRecord:
        failure = JudgeFailure(record.sample.id, "timeout", "", "j")
        return replace(record, judgement=failure, percent=None, compat=0.0, unscored="judge_failed:timeout")

    assert regression(was, with_records(was, of("egost_mini_route_reverse", failed))).moved == ("scoring",)


def test_settings_that_no_sample_shows(was: Baseline) -> None:
    def told(**settings: str) -> Baseline:
        tasks = {name: replace(t, settings={**t.settings, **settings}) for name, t in was.tasks.items()}
        return replace(was, tasks=tasks)

    assert regression(was, told(release_sha256="0" * 64)).moved == ("data",)
    assert regression(was, told(sampling_protocol="ref-qwen")).moved == ("frames",)
    assert regression(was, told(prompt_sha256="0" * 64)).moved == ("prompt",)
    assert regression(was, told(judge="gpt-4o")).moved == ("scoring",)
    other = replace(was, models=(replace(was.models[0], revision="sha256:other"),))
    assert regression(was, other).moved == ("model",)
    assert not regression(was, other, tolerance=0).failed
    packages = replace(was, packages={**was.packages, "torch": "9.9"})
    verdict = regression(was, packages)
    assert not verdict.failed and verdict.notes == (f"torch {was.packages['torch']} -> 9.9",)


def test_other_limits_of_a_reply_are_the_prompts(was: Baseline) -> None:
    now = with_records(was, lambda r: replace(r, response=f"{r.response} and"))
    tasks = {n: replace(t, generation={**t.generation, "max_new_tokens": 9}) for n, t in now.tasks.items()}
    verdict = regression(was, replace(now, tasks=tasks))
    assert verdict.moved == ("prompt",) and len(verdict.samples) == verdict.compared
    assert [(c.what, c.was, c.now) for c in verdict.settings] == [("max_new_tokens", "8", "9")]


def test_the_installed_parser_is_tried_on_the_baselines_replies(
    was: Baseline, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the model has changed so much that no reply is left to compare scores by."""

    def wordy(record: SampleRecord) -> SampleRecord:
        reply = f"Based on the walk, the answer is ({record.sample.answer})."
        score = scores.score_choice(record.sample, scores.Response(reply))
        return replace(
            record,
            response=reply,
            percent=score.percent,
            compat=score.compat,
            choice=score.choice,
            unscored=None,
        )

    before = with_records(was, of(TASK, wordy))
    assert before.tasks[TASK].figures["percent"] == 100
    assert regression(before, was).moved == ("model",) and not regression(before, before).failed

    monkeypatch.setattr(
        scores, "strict_choice", lambda reply, options: Choice(compat_choice(reply), "letter")
    )
    verdict = regression(before, was, tolerance=100)
    assert verdict.moved == ("model", "scoring") and verdict.failed
    assert sum(sample.task == TASK for sample in verdict.rescored) == len(before.of_task(TASK))


def test_two_faults_at_once_are_both_named(was: Baseline) -> None:
    now = with_records(was, of(TASK, lambda r: with_frames(r, pixels_sha256="1" * 64)))
    group = now.groups["egost_mini"]
    wrong = replace(group, figures={**group.figures, "percent": group.figures["percent"] + 1})
    verdict = regression(was, replace(now, groups={"egost_mini": wrong}))
    assert verdict.moved == ("frames", "aggregation")
    fewer = replace(group, tasks=group.tasks[1:])
    assert "aggregation" in regression(was, replace(was, groups={"egost_mini": fewer})).moved


def letters(right: bool) -> Callable[[SampleRecord], SampleRecord]:
    def reply(record: SampleRecord) -> SampleRecord:
        if not record.sample.options:
            return record
        letter = record.sample.answer if right else next(x for x in "AB" if x != record.sample.answer)
        score = scores.score_choice(record.sample, scores.Response(letter))
        return replace(
            record, response=letter, percent=score.percent, compat=score.compat, choice=score.choice
        )

    return reply


def test_a_tolerance_allows_other_replies_but_no_drop_beyond_chance(was: Baseline) -> None:
    best = with_records(on_more_clips(was, 8), letters(right=True))
    other = with_records(best, lambda r: replace(r, response=f"{r.response}."))
    assert regression(best, other).failed, "without a tolerance, each reply must be what it was"
    assert not regression(best, other, tolerance=0).failed

    worst = with_records(best, letters(right=False))
    assert regression(best, worst, tolerance=5).failed and not regression(worst, best, tolerance=5).failed
    assert not regression(best, worst, tolerance=100).failed
    one = next(key for key, r in best.records.items() if r.sample.options)
    single = with_records(best, lambda r: letters(right=False)(r) if (r.task, r.sample.id) == one else r)
    verdict = regression(best, single, tolerance=0.5)
    assert verdict.drops[0].difference.value < -0.5 and not verdict.failed, "one sample of some is chance"

    frames = with_records(best, lambda r: with_frames(r, pixels_sha256="1" * 64))
    assert regression(best, frames, tolerance=100).failed, "a tolerance is for the model alone"


def test_samples_that_got_no_reply_are_not_within_a_tolerance(was: Baseline) -> None:
    lost = of(
        TASK,
        lambda r: replace(
            r, response="[GENERATION_FAILED] x: y", percent=None, unscored="generation_failed:x", choice=None
        ),
    )
    verdict = regression(was, with_records(was, lost), tolerance=100)
    assert verdict.failed and verdict.unpublishable == (TASK,)


def test_a_long_reply_is_kept_by_its_hash(was: Baseline, tmp_path: Path) -> None:
    def long(end: str) -> Baseline:
        return with_records(was, lambda r: replace(r, response=kept_reply("x" * WHOLE_REPLY + end)))

    write_baseline(tmp_path / "long.jsonl", long("a"))
    assert "x" * WHOLE_REPLY not in (tmp_path / "long.jsonl").read_text()
    before = read_baseline(tmp_path / "long.jsonl")
    assert not regression(before, long("a")).failed
    assert regression(before, long("b")).moved == ("model",)


def test_a_run_of_other_tasks_cannot_be_compared(was: Baseline) -> None:
    others = with_records(was, lambda r: None if r.task == TASK else r)
    only = with_records(was, lambda r: r if r.task == TASK else None)
    with pytest.raises(RunError, match="no sample of the baseline"):
        regression(only, others)
    verdict = regression(only, was)
    assert not verdict.failed and verdict.notes[0].startswith(
        "not in the baseline, so not compared: egost_mini_a"
    )


def test_a_baseline_is_not_made_of_a_run_whose_figures_are_wrong(copied_run: Run, tmp_path: Path) -> None:
    content = json.loads(copied_run.results_file.read_text())
    content["results"]["egost_mini"]["percent,none"] += 1
    copied_run.results_file.write_text(json.dumps(content))
    code, said = gate(copied_run.results_file, "--baseline", tmp_path / "golden.jsonl", "--update")
    assert code == 2 and "no baseline is written" in said and not (tmp_path / "golden.jsonl").exists()


def rewritten(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


DAMAGE: Mapping[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "no sample at the end": (lambda lines: lines[:-1], "lines were lost or edited"),
    "half a line": (lambda lines: [*lines[:-1], lines[-1][:40]], "damaged: line"),
    "a sample twice": (lambda lines: [*lines, lines[-1]], "twice"),
    "no head": (lambda lines: lines[1:], "no head"),
    "nothing": (lambda lines: [], "no head"),
    "another score": (
        lambda lines: [*lines[:-1], lines[-1].replace('"percent": ', '"percent": 1')],
        "damaged",
    ),
    "no number": (
        lambda lines: [*lines[:-1], lines[-1].replace('"percent": ', '"percent": "x", "y": ')],
        "damaged",
    ),
    "no task": (
        lambda lines: [line for line in lines if f'"task", "task": "{TASK}"' not in line],
        "does not fit",
    ),
    "no clips": (lambda lines: [line for line in lines if '"line": "clip"' not in line], "does not fit"),
    "another format": (
        lambda lines: [lines[0].replace('"format": 1', '"format": 2'), *lines[1:]],
        "of format 2",
    ),
    "no JSON": (lambda lines: ["golden\n"], "damaged: line 1"),
    "another file": (lambda lines: ['{"results": {}}\n'], "damaged: line 1"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_baseline_is_no_verdict(golden: Path, demo_run: Run, name: str) -> None:
    change, message = DAMAGE[name]
    rewritten(golden, change)
    with pytest.raises(RunError, match=message):
        read_baseline(golden)


def test_the_commands_exit_codes(copied_run: Run, tmp_path: Path) -> None:
    run, file = copied_run.results_file.parent, tmp_path / "golden.jsonl"
    code, said = gate(run, "--baseline", file)
    assert code == 2 and "--update" in said
    code, said = gate(run, "--baseline", file, "--update")
    assert code == 0 and "is new" in said and "the baseline from now on" in said
    assert gate(run, "--baseline", file) == (
        0,
        f"ok: nothing moved ({len(read_baseline(file).records)} samples compared)",
    )

    path = copied_run.samples_file(TASK)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["percent"]["question"] += " Look again."
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    code, said = gate(run, "--baseline", file)
    assert code == 1 and "REGRESSION: data moved" in said and rows[0]["percent"]["sample_id"] in said
    assert rows[0]["percent"]["frames"]["pixels_sha256"][:12] in said
    code, said = gate(run, "--baseline", file, "--update")
    assert code == 0 and "data moved" in said and gate(run, "--baseline", file)[0] == 0
    assert gate(tmp_path / "nowhere", "--baseline", file)[0] == 2
