"""Questions written by rule or by a server's model agree with the steps, or are left out by name."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from judge_server import Ask, serve_judge
from mini_annotations import ACTION_WORDS, annotated_folder
from option_writers import QUICK, good_reply, told

from egost.tasks.chat.reply_store import STORE
from egost.tasks.construction.annotations import Annotation, Step
from egost.tasks.construction.drafts import Draft
from egost.tasks.construction.model_calls import OpenAIWriter, find_endpoint
from egost.tasks.construction.questions import get_writer, write_questions
from egost.tasks.construction.workfolder import WorkFolder, cost_of
from egost.tasks.construction.writers import ChoiceRequest, OfflineWriter, Written
from egost.tasks.errors import ConstructionError
from egost.tasks.judging.route_text import read_route
from egost.tasks.mini_world.steps import ClipTruth, backwards, way_back
from egost.tasks.text_only_baseline import words


def true_items(truth: ClipTruth, draft: Draft) -> tuple[str, ...]:
    """What the right option must say, by the mini world's own truth."""
    if draft.task == "direction":
        return truth.turns if draft.way == "forward" else way_back(truth.turns)
    if draft.task == "landmark":
        items = tuple(map(str, truth.landmarks))
    else:
        items = tuple(ACTION_WORDS[action] for action in truth.actions)
    return items if draft.way == "forward" else backwards(items)


def said(draft: Draft, text: str) -> list[str]:
    """The words of an option's text that say something."""
    empty = {"turn", "the", "then", "after", "that"}
    return [word for word in words(text) if word not in empty]


def test_every_question_of_the_offline_writer_agrees_with_the_truth(
    tmp_path: Path, truths: list[ClipTruth]
) -> None:
    folder = annotated_folder(tmp_path, 0, truths)
    found = write_questions(folder, OfflineWriter(0))
    by_clip = {truth.clip: truth for truth in truths}
    assert not found.left_out
    actions = sum(truth.part == 4 for truth in truths)
    assert len(found.drafts) == 6 * len(truths) + 2 * actions
    for draft in found.drafts:
        truth = by_clip[draft.clip]
        if draft.task == "route":
            turns = truth.turns if draft.way == "forward" else way_back(truth.turns)
            panels = truth.landmarks if draft.way == "forward" else backwards(truth.landmarks)
            route = read_route(draft.answer)
            assert route.turns == turns, draft.answer
            # An action has a thing of its own: `open a sliding door`.
            named = [landmark for landmark in route.landmarks if landmark.head == "panel"]
            told = [(*sorted(landmark.modifiers), landmark.head) for landmark in named]
            assert told == [(*sorted((p.colour, p.pattern)), "panel") for p in panels], draft.answer
            assert all(ACTION_WORDS[action] in draft.answer for action in truth.actions)
            continue
        expected = " ".join(true_items(truth, draft)).split()
        expected = [word for word in expected if word != "the"]
        rights = [option for option in draft.options if said(draft, option.text) == expected]
        assert rights == [draft.right], draft
        assert 2 <= len({option.text for option in draft.options}) == len(draft.options) <= 4


def test_the_same_steps_give_the_same_questions(tmp_path: Path, truths: list[ClipTruth]) -> None:
    one, two = (annotated_folder(tmp_path / name, 0, truths[:12]) for name in ("one", "two"))
    write_questions(one, OfflineWriter(3), seed=3)
    write_questions(two, OfflineWriter(3), seed=3)
    assert one.questions.read_bytes() == two.questions.read_bytes()
    write_questions(two, OfflineWriter(4), seed=4)
    assert one.questions.read_bytes() != two.questions.read_bytes()


def routes(tmp_path: Path, truths: list[ClipTruth], *forward: tuple[Step, ...]) -> WorkFolder:
    """A working folder whose first clips are annotated with other routes."""
    folder = annotated_folder(tmp_path, 0, truths)
    for truth, steps in zip(truths, forward, strict=False):
        scene = folder.clips()[truth.clip].scene
        folder.annotations.save(Annotation(truth.clip, "truth", scene, steps))
    return folder


def test_routes_of_all_kinds_get_options(tmp_path: Path, truths: list[ClipTruth]) -> None:
    many = tuple(Step(("left", "right", "up")[k % 3], f"door {k}", "", 0.1 + k / 10) for k in range(14))  # type: ignore[arg-type]
    around = (Step("around", "fountain", "", 1.0),)
    stairs = (Step("up", "stairs", "", 1.0),)
    straight = (Step("straight", "bench", "", 1.0), Step("straight", "gate", "", 2.0))
    twice = (Step("left", "door", "", 1.0), Step("left", "lamp", "", 1.5), Step("left", "door", "", 2.0))
    folder = routes(tmp_path, truths[:12], many, around, stairs, straight, twice)
    found = write_questions(folder, OfflineWriter(0))
    named = {(draft.task, draft.way, draft.clip): draft for draft in found.drafts}
    clips = [truth.clip for truth in truths[:5]]
    assert len(named["direction", "forward", clips[0]].options) == 4
    assert {o.items for o in named["direction", "reverse", clips[1]].options} >= {("around",)}
    assert {o.text for o in named["direction", "reverse", clips[2]].options} in (
        {"up", "down"},
        {"go up", "go down"},
    )
    assert named["direction", "reverse", clips[2]].right.items == ("down",)
    assert ("direction", "forward", clips[3]) not in named
    assert ("no_direction", f"direction_forward/{clips[3]}") in {(x.reason, x.id) for x in found.left_out}
    assert named["landmark", "forward", clips[4]].right.items == ("door", "lamp", "door")
    for draft in found.drafts:
        assert len({option.items for option in draft.options}) == len(draft.options)


def test_a_way_back_of_its_own_has_options_of_its_own(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path, 0, truths[:12])
    [own] = folder.annotations.of_clip(truths[0].clip)
    seen_from_there = tuple(
        Step(s.direction, s.landmark and f"back of {s.landmark}", s.action, s.time_s)
        for s in own.steps("reverse")
    )
    folder.annotations.save(Annotation(own.clip, own.annotator, own.scene, own.forward, seen_from_there))
    drafts = {d.id: d for d in write_questions(folder, OfflineWriter(0)).drafts}
    there, back = (drafts[f"landmark_{way}/{own.clip}"] for way in ("forward", "reverse"))
    assert all(item.startswith("back of ") for item in back.right.items)
    assert not any(item.startswith("back of ") for item in there.right.items)


def test_what_cannot_be_asked_about_is_left_out_by_name(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = routes(tmp_path, truths[:6], (Step("left", "", "", 1.0),))
    (folder.annotations.folder / "truth" / f"{truths[1].clip}.json").unlink()
    found = write_questions(folder, OfflineWriter(0))
    reasons = {(item.id, item.reason) for item in found.left_out}
    assert {(truths[0].clip, "no_landmark"), (truths[1].clip, "not_annotated")} <= reasons
    assert not any(draft.clip in (truths[0].clip, truths[1].clip) for draft in found.drafts)
    report = json.loads(folder.writing.read_text())
    assert {item["reason"] for item in report["left_out"]} == {"no_landmark", "not_annotated"}
    for path in (folder.annotations.folder / "truth").iterdir():
        path.unlink()
    with pytest.raises(ConstructionError, match="no annotation that can be used"):
        write_questions(folder, OfflineWriter(0))


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "EGOST_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_server_that_talks_nonsense_is_asked_again_and_its_sense_is_kept(
    tmp_path: Path, truths: list[ClipTruth], no_key: None
) -> None:
    folder = annotated_folder(tmp_path, 0, truths[:5])
    nonsense = ["say:I would say left.", 'say:{"right": ["north"], "wrong": []}']

    def script(ask: Ask) -> str:
        return nonsense[ask.number] if ask.number < 2 else f"say:{good_reply(ask)}"

    with serve_judge(script=script) as server:
        endpoint = find_endpoint(f"openai:judge-model@{server.url}", "--writer")
        found = write_questions(folder, OpenAIWriter(endpoint, folder.writer_replies, QUICK))
        first = len(server.asks)
        again = write_questions(folder, OpenAIWriter(endpoint, folder.writer_replies, QUICK))
        assert len(server.asks) == first, "what was written is not asked for again"
        form = server.asks[0][0].body["response_format"]["json_schema"]
    assert again == found and not found.left_out
    assert form["strict"] and set(form["schema"]["required"]) == {"right", "wrong"}
    choices = [draft for draft in found.drafts if draft.options]
    assert {draft.snapshot for draft in choices} == {"judge-model-2026-01-01"}
    assert {draft.writer for draft in choices} == {f"openai:judge-model@{server.url}+option-writer-1"}
    assert all(len(draft.options) == 4 for draft in choices)
    cost = cost_of(folder.writer_replies)
    assert (cost.tokens_in, cost.tokens_out, cost.usd) == (900 * cost.replies, 100 * cost.replies, None)
    assert cost.replies == first


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda right: [right, ["x"], ["y"]], "also_right"),
        (lambda right: [[f"the {name}" for name in right], ["x"], ["y"]], "also_right"),
        (lambda right: [right[:-1], ["x"], ["y"]], "also_right"),
        (lambda right: [["blue vase"], ["Blue vase."], ["y"]], "duplicate_options"),
        (lambda right: [["blue vase"], ["blue vases"], ["y"]], "near_duplicate_options"),
        (lambda right: [["a"], ["b"]], "no_three_wrong"),
        (lambda right: [[], ["b"], ["c"]], "no_list"),
        (lambda right: [["a\nb"], ["b"], ["c"]], "no_name"),
        (lambda right: "none", "no_three_wrong"),
    ],
)
def test_options_that_do_not_hold_against_the_steps_are_left_out(
    tmp_path: Path, truths: list[ClipTruth], no_key: None, wrong: Any, reason: str
) -> None:
    folder = annotated_folder(tmp_path, 0, truths[:1])

    def script(ask: Ask) -> str:
        request = told(ask)
        if request["kind"] != "landmark":
            return f"say:{good_reply(ask)}"
        return "say:" + json.dumps({"right": request["right"], "wrong": wrong(request["right"])})

    with serve_judge(script=script) as server:
        endpoint = find_endpoint(f"openai:judge-model@{server.url}", "--writer")
        found = write_questions(folder, OpenAIWriter(endpoint, folder.writer_replies, QUICK))
        asked = [ask for ask, _ in server.asks if told(ask)["kind"] == "landmark"]
    assert [(item.reason, item.id.split("/")[0]) for item in found.left_out] == [
        (reason, "landmark_forward"),
        (reason, "landmark_reverse"),
    ]
    assert [ask.body["seed"] for ask in asked] == [20250312, 20250313, 20250314]
    assert {draft.task for draft in found.drafts} >= {"route", "direction"}


def forget_all_but_one(store: Path) -> None:
    with sqlite3.connect(store) as database:
        database.execute("DELETE FROM replies WHERE number > 1")


def test_a_server_that_refuses_ends_the_writing_and_nothing_is_lost(
    tmp_path: Path, truths: list[ClipTruth], no_key: None
) -> None:
    folder = annotated_folder(tmp_path, 0, truths[:5])
    with serve_judge(script=lambda ask: f"say:{good_reply(ask)}") as server:
        whole = OpenAIWriter(
            find_endpoint(f"openai:m@{server.url}", "--writer"), folder.writer_replies, QUICK
        )
        write_questions(folder, whole)
        expected, asked = folder.questions.read_bytes(), len(server.asks)
        forget_all_but_one(folder.writer_replies / STORE)
        folder.questions.unlink()
        server.script = lambda ask: "error:401 bad key"
        with pytest.raises(ConstructionError, match="EGOST_JUDGE_KEY"):
            write_questions(folder, OpenAIWriter(whole._endpoint, folder.writer_replies, QUICK))
        assert not folder.questions.exists()
        server.script = lambda ask: f"say:{good_reply(ask)}"
        before = len(server.asks)
        write_questions(folder, OpenAIWriter(whole._endpoint, folder.writer_replies, QUICK))
        assert len(server.asks) - before == asked - 1
    assert folder.questions.read_bytes() == expected


def test_a_reply_that_an_earlier_version_kept_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name and form of the file are those of the code that kept each reply in a file of its own."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody-listens")
    wrong = (("granite statue", "lamp"), ("wooden fence", "lamp"), ("glass tower", "lamp"))
    kept = {
        "text": json.dumps({"right": ["red door", "lamp"], "wrong": wrong}),
        "refusal": "",
        "finish": "stop",
        "snapshot": "gpt-4o-2024-08-06",
        "tokens_in": 900,
        "tokens_out": 100,
        "fingerprint": "",
    }
    name = "af0cb1c5e60b4af1a389823cddfaa994c9e563df7ccaf9c996874ef1e886c72c.json"
    (tmp_path / name).write_text(json.dumps(kept))
    steps = (Step("left", "red door", "", 1.0), Step("straight", "lamp", "open a box", 2.5))
    annotation = Annotation("a.mp4", "ana", "indoor_multi", steps)
    request = ChoiceRequest(annotation, "landmark", ("forward", "reverse"), ("bed",))
    written = OpenAIWriter(find_endpoint("gpt-4o", "--writer"), tmp_path, QUICK)([request])
    assert written == [Written(("red door", "lamp"), wrong, snapshot="gpt-4o-2024-08-06")]
    cost = cost_of(tmp_path)
    assert (cost.replies, cost.tokens_in, cost.tokens_out) == (1, 900, 100) and cost.usd


def test_a_writer_without_a_key_or_of_no_known_form_is_refused(tmp_path: Path, no_key: None) -> None:
    with pytest.raises(ConstructionError, match="needs a key: set OPENAI_API_KEY"):
        get_writer("openai:gpt-4o", tmp_path, 0)
    with pytest.raises(ConstructionError, match="--writer: No model 'llama'"):
        get_writer("llama", tmp_path, 0)
    with pytest.raises(ConstructionError, match="compat"):
        get_writer("openai:m@http://127.0.0.1:1/v1+compat", tmp_path, 0)
