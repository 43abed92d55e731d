"""Calibration keeps what is sound, and names what is not: of one question, and of the whole set."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import serve_judge
from mini_annotations import annotated_folder

from egost.commands.construct import blind_run
from egost.results.run import RunError
from egost.tasks.construction.annotations import Annotation, Step
from egost.tasks.construction.calibration import Calibration, agreements, calibrate, matched
from egost.tasks.construction.checks import wrong_option_problem
from egost.tasks.construction.drafts import Draft, written_drafts
from egost.tasks.construction.questions import write_questions
from egost.tasks.construction.workfolder import (
    WorkFolder,
    read_lines,
    read_object,
    write_lines,
)
from egost.tasks.construction.writers import ChoiceRequest, OfflineWriter, Unwritten, Written
from egost.tasks.errors import ClipError, ConstructionError
from egost.tasks.mini_world.steps import ClipTruth
from egost.tasks.scoring.scores import Response, as_metrics, score_choice

Bias = Callable[[Written], Written]


class BiasedWriter:
    """The offline writer with a bad habit."""

    name = "biased-1"

    def __init__(self, bias: Bias, tasks: Sequence[str] = ("direction", "landmark", "action")) -> None:
        self._bias, self._tasks = bias, tasks

    def __call__(self, requests: Sequence[ChoiceRequest]) -> list[Written | Unwritten]:
        return [
            self._bias(written) if isinstance(written, Written) and request.task in self._tasks else written
            for request, written in zip(requests, OfflineWriter(0)(requests), strict=True)
        ]


def always_a(written: Written) -> Written:
    return replace(written, place=0)


def right_longest(written: Written) -> Written:
    """Each wrong option names one thing with a word less."""
    shorter = [
        tuple(item.rsplit(" ", 1)[0] if k == 0 else item for k, item in enumerate(items))
        for items in written.wrong
    ]
    return replace(written, wrong=tuple(shorter))


def also_right(written: Written) -> Written:
    return replace(written, wrong=(tuple(f"the {item}" for item in written.right), *written.wrong[1:]))


def reasons(result: Calibration) -> set[str]:
    return {finding.name for _, findings in (*result.dropped, *result.pending) for finding in findings}


def cues(result: Calibration) -> set[str]:
    return {cue.name for cue in result.cues if cue.found}


def test_what_the_offline_writer_writes_is_kept_whole(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths)
    drafts = write_questions(folder, OfflineWriter(0)).drafts
    result = calibrate(folder)
    assert result.kept == drafts and result.passed
    assert reasons(result) == cues(result) == set()
    report = read_object(folder.calibration)
    floors = {cue["of"]: cue for cue in report["cues"] if cue["name"] == "text_floor"}
    assert set(floors) == {"all", "direction", "landmark", "action"}
    assert floors["all"]["low"] < floors["all"]["chance"] < floors["all"]["high"]
    assert read_lines(folder.dropped) == read_lines(folder.review) == []
    assert [row["id"] for row in read_lines(folder.kept)] == [draft.id for draft in drafts]


@pytest.mark.parametrize(
    ("bias", "tasks", "name"),
    [
        (always_a, ("direction", "landmark", "action"), "letter_bias"),
        (right_longest, ("landmark", "action"), "length_cue"),
        (also_right, ("landmark", "action"), "also_right"),
    ],
)
def test_a_biased_writer_is_caught_by_name(
    tmp_path: Path, truths: list[ClipTruth], bias: Bias, tasks: tuple[str, ...], name: str
) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:20])
    written = write_questions(folder, BiasedWriter(bias, tasks)).drafts
    result = calibrate(folder)
    print(name, cues(result), reasons(result))
    if name == "also_right":
        dropped = {draft.id for draft, findings in result.dropped if findings[0].name == name}
        assert dropped == {draft.id for draft in written if draft.task in tasks}
        assert {draft.task for draft in result.kept} == {"route", "direction"}
    else:
        assert name in cues(result) and not result.passed


def rewrite(
    folder: WorkFolder, change: Callable[[dict[str, Any]], Any], task: str = "landmark_forward"
) -> str:
    """Change one draft as it lies on disk, and return its id."""
    rows = read_lines(folder.questions)
    row = next(row for row in rows if row["id"].startswith(f"{task}/") and len(row["options"]) == 4)
    change(row)
    write_lines(folder.questions, rows)
    return str(row["id"])


def wrong_letter(row: dict[str, Any]) -> None:
    row["answer"] = "ABCD"[("ABCD".index(row["answer"]) + 1) % 4]


def same_twice(row: dict[str, Any]) -> None:
    wrong = [k for k in range(4) if "ABCD"[k] != row["answer"]]
    row["options"][wrong[0]] = row["options"][wrong[1]]


def spelling(row: dict[str, Any]) -> None:
    wrong = [k for k in range(4) if "ABCD"[k] != row["answer"]]
    other = row["options"][wrong[1]]
    row["options"][wrong[0]] = json.loads(json.dumps(other).replace("panel", "panels"))


def other_text(row: dict[str, Any]) -> None:
    row["options"][0]["text"] = row["options"][0]["text"].replace("panel", "window", 1)


def long_right(row: dict[str, Any]) -> None:
    right = row["options"]["ABCD".index(row["answer"])]
    right["text"] += ", then that" * 20


def one_option(row: dict[str, Any]) -> None:
    row["options"], row["answer"] = row["options"][:1], "A"


def no_question(row: dict[str, Any]) -> None:
    row["question"] = " "


def other_steps(row: dict[str, Any]) -> None:
    row["annotation_sha256"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "name", "dropped"),
    [
        (wrong_letter, "wrong_answer", True),
        (same_twice, "duplicate_options", True),
        (spelling, "near_duplicate_options", False),
        (other_text, "text_differs", False),
        (long_right, "stands_out", False),
        (one_option, "too_few_options", True),
        (no_question, "empty_question", True),
        (other_steps, "stale_annotation", True),
    ],
)
def test_a_broken_question_is_dropped_or_reviewed_by_name(
    tmp_path: Path, truths: list[ClipTruth], change: Callable[[dict[str, Any]], Any], name: str, dropped: bool
) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:6])
    write_questions(folder, OfflineWriter(0))
    broken = rewrite(folder, change)
    result = calibrate(folder)
    found = {draft.id: {f.name for f in findings} for draft, findings in result.dropped + result.pending}
    assert name in found[broken]
    assert (broken in {draft.id for draft, _ in result.dropped}) == dropped
    assert set(found) == {broken}
    assert {cue.accuracy for cue in result.cues if cue.name == "text_floor"} == {None}, "6 clips tell nothing"


def test_a_turn_the_wrong_way_on_the_way_back_is_found(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:6])
    write_questions(folder, OfflineWriter(0))
    broken = rewrite(folder, wrong_letter, "direction_reverse")
    result = calibrate(folder)
    found = {d.id: {f.name for f in findings} for d, findings in result.dropped + result.pending}
    assert {"wrong_answer", "also_right"} <= found[broken]
    assert "ways_disagree" in found[broken.replace("reverse", "forward")]


def test_names_that_may_mean_the_same_go_to_a_person() -> None:
    truth = ("grey sofa", "red door")
    maybe = wrong_option_problem("landmark", ("sofa", "door"), truth, ())
    assert maybe and (maybe.name, maybe.verdict) == ("perhaps_also_right", "review")
    assert wrong_option_problem("landmark", ("red door", "grey sofa"), truth, ()) is None
    part = wrong_option_problem("landmark", ("red door",), truth, ())
    assert part and part.name == "also_right"
    assert wrong_option_problem("direction", ("left",), ("left", "right"), ()) is None


def test_a_person_decides_and_the_decision_stays(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:6])
    write_questions(folder, OfflineWriter(0))
    tasks = ("landmark_forward", "landmark_reverse", "direction_forward")
    accepted, edited, rejected = (rewrite(folder, other_text if "land" in t else reworded, t) for t in tasks)
    calibrate(folder)
    rows = {row["id"]: row for row in read_lines(folder.review)}
    assert {accepted, edited, rejected} == set(rows)
    assert [reason["name"] for reason in rows[edited]["reasons"]] == ["text_differs"]
    rows[accepted]["verdict"], rows[rejected]["verdict"] = "accept", "reject"
    rows[edited] |= {
        "verdict": "edit",
        "edited": {**rows[edited]["draft"], "question": "Which panels, in order?"},
    }
    write_lines(folder.review, rows.values())
    for _ in range(2):
        result = calibrate(folder)
        kept = {draft.id: draft for draft in result.kept}
        assert kept[accepted].question != kept[edited].question == "Which panels, in order?"
        assert [(d.id, f[0].name) for d, f in result.dropped] == [(rejected, "rejected")]
        assert not result.pending
    rewrite(folder, lambda row: row.update(question="What do you pass?"), "landmark_forward")
    assert [draft.id for draft, _ in calibrate(folder).pending] == [accepted], (
        "another draft, another decision"
    )
    write_lines(folder.review, [{**rows[accepted], "verdict": "perhaps"}])
    with pytest.raises(ConstructionError, match="line 1: the verdict is 'perhaps'"):
        calibrate(folder)


def reworded(row: dict[str, Any]) -> None:
    row["options"][0]["text"] = row["options"][0]["text"] + " at once"


def test_two_annotators_are_compared(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:4])
    ours = list(folder.annotations.all())
    for annotation in ours:
        folder.annotations.save(replace(annotation, annotator="zoe"))
    write_questions(folder, OfflineWriter(0))
    result = calibrate(folder)
    [agreement] = result.agreements
    assert agreement.annotators == ("truth", "zoe") and agreement.clips == 4
    assert agreement.kappa == agreement.same_direction == agreement.same_landmark == 1.0
    assert not result.pending
    other = replace(
        ours[0],
        annotator="zoe",
        forward=tuple(replace(s, direction="left") for s in ours[0].forward if s.landmark),
    )
    folder.annotations.save(other)
    result = calibrate(folder)
    doubted = {draft.clip for draft, findings in result.pending if findings[-1].name == "annotators_disagree"}
    assert doubted == {ours[0].clip}
    [agreement] = result.agreements
    assert agreement.kappa is not None and agreement.kappa < 1


def test_kappa_is_cohens() -> None:
    """Ten steps: 4 + 3 agree, 2 + 1 do not; by hand kappa = (0.7 - 0.5) / (1 - 0.5)."""
    directions = (
        [("left", "left")] * 4 + [("right", "right")] * 3 + [("left", "right")] * 1 + [("right", "left")] * 2
    )
    first = tuple(Step(a, "door", "", 5.0 * k) for k, (a, _) in enumerate(directions))  # type: ignore[arg-type]
    second = tuple(Step(b, "a red door", "", 5.0 * k + 1) for k, (_, b) in enumerate(directions))  # type: ignore[arg-type]
    one, two = (
        Annotation("c.mp4", who, "indoor_multi", steps) for who, steps in (("a", first), ("b", second))
    )
    [agreement] = agreements([one, two])
    p_left = (5 / 10) * (6 / 10)
    by_hand = (0.7 - (p_left + 0.5 * 0.4)) / (1 - (p_left + 0.5 * 0.4))
    assert agreement.kappa == pytest.approx(by_hand)
    assert (agreement.same_direction, agreement.same_landmark) == (0.7, 1.0)


def test_steps_are_matched_by_time_and_order() -> None:
    first = (Step("left", "a", "", 1.0), Step("left", "b", "", 2.0), Step("left", "c", "", 9.0))
    second = (Step("left", "b", "", 2.1), Step("left", "d", "", 20.0))
    found = [(a and a.landmark, b and b.landmark) for a, b in matched(first, second)]
    assert found == [("a", None), ("b", "b"), ("c", None), (None, "d")]


def write_blind_run(root: Path, drafts: Sequence[Draft], letter: Callable[[Draft], str]) -> Path:
    """What lmms-eval saves of a run of these tasks, by the scores' own records."""
    root.mkdir()
    tasks = set()
    for number, draft in enumerate(drafts):
        sample = replace(draft.sample(), id=f"Part3/{draft.task}_{draft.way}/{number}")
        score = score_choice(sample, Response(letter(draft)))
        record = as_metrics(sample, score, ClipError("missing", "no frames were shown"), None)
        row = {"input": draft.question, "target": sample.answer, "filtered_resps": [letter(draft)], **record}
        tasks.add(task := f"egost_{draft.task}_{draft.way}")
        with (root / f"1_samples_{task}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    (root / "1_results.json").write_text(json.dumps({"results": {}, "configs": {task: {} for task in tasks}}))
    return root


def test_blind_runs_raise_doubts(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:12])
    drafts = [draft for draft in write_questions(folder, OfflineWriter(0)).drafts if draft.options]
    known = drafts[0].clip
    sees = [
        write_blind_run(
            tmp_path / f"run{k}",
            drafts,
            lambda draft, k=k: draft.answer if draft.clip == known else "ABCD"[k % len(draft.options)],
        )
        for k in range(3)
    ]
    result = calibrate(folder, blind=[blind_run(run) for run in sees])
    doubted = {draft.id for draft, findings in result.pending if findings[-1].name == "solved_blind"}
    assert {d.id for d in drafts if d.clip == known and len(d.options) > 2} <= doubted
    assert all(draft.clip == known for draft, _ in result.pending)
    blind = [cue for cue in result.cues if cue.name == "blind_above_chance"]
    assert [cue.of for cue in blind] == list(map(str, sees)) and not any(cue.found for cue in blind)
    knows = write_blind_run(tmp_path / "knows", drafts, lambda draft: draft.answer)
    result = calibrate(folder, blind=[blind_run(knows)])
    assert "blind_above_chance" in cues(result) and not result.passed
    others = [replace(draft, question="Which other way?") for draft in drafts]
    asked = write_blind_run(tmp_path / "others", others, lambda draft: draft.answer)
    with pytest.raises(ConstructionError, match="no answer to these questions"):
        calibrate(folder, blind=[blind_run(asked)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="did not finish"):
        blind_run(tmp_path / "empty")


def test_a_judge_that_sees_the_steps_names_all_right_options(
    tmp_path: Path, truths: list[ClipTruth], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EGOST_JUDGE_KEY", raising=False)
    folder = annotated_folder(tmp_path / "out", 0, truths[:2])
    drafts = {
        (d.question, d.options[0].text): d
        for d in write_questions(folder, OfflineWriter(0)).drafts
        if d.options
    }
    doubted, silent = list(drafts.values())[:2]

    def script(ask: Any) -> str:
        asked = json.loads(ask.body["messages"][-1]["content"])
        draft = drafts[asked["question"], asked["options"]["A"]]
        if draft == silent:
            return "refusal"
        right = ["A", "B"] if draft == doubted else [draft.answer]
        return "say:" + json.dumps({"right": right, "why": "By the steps."})

    with serve_judge(script=script) as server:
        result = calibrate(folder, judge=f"openai:judge-model@{server.url}")
        first = len(server.asks)
        assert calibrate(folder, judge=f"openai:judge-model@{server.url}") == result
        assert len(server.asks) == first
    [(draft, [finding])] = result.pending
    assert draft == doubted and finding.name == "judge_disagrees" and "A, B: By the steps." in finding.message
    assert result.unjudged == {"refusal": 1}


def test_a_folder_without_questions_says_what_to_run(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:2])
    with pytest.raises(ConstructionError, match="egost construct questions"):
        calibrate(folder)
    write_questions(folder, OfflineWriter(0))
    rows = read_lines(folder.questions)
    write_lines(folder.questions, [*rows, rows[0]])
    with pytest.raises(ConstructionError, match="twice"):
        written_drafts(folder)
    write_lines(folder.questions, [{**rows[-1], "answer": "Z"}])
    with pytest.raises(ConstructionError, match="line 1: no draft"):
        written_drafts(folder)
