"""The page for decisions: the real command as a process, asked over HTTP, and used in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from headless_chromium import chromium_page, needs_chromium
from local_page import asking, served_page
from mini_annotations import annotated_folder

from egost.tasks.construction.calibration import calibrate
from egost.tasks.construction.questions import write_questions
from egost.tasks.construction.workfolder import WorkFolder, read_lines, write_lines
from egost.tasks.construction.writers import OfflineWriter
from egost.tasks.errors import ConstructionError
from egost.tasks.mini_world.raycast import render, write_film
from egost.tasks.mini_world.steps import ClipTruth
from egost.tasks.mini_world.walks import plan_clip

HOSTILE = "<img src=x onerror=alert(1)> Which panels?"
TASKS = ("landmark_forward", "landmark_reverse", "direction_forward", "route_forward")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, truths: list[ClipTruth]) -> WorkFolder:
    """Four questions about one short clip that only a person can decide on."""
    by_length = sorted(range(len(truths)), key=lambda k: truths[k].frames / Fraction(truths[k].rate))
    found = [truths[k] for k in by_length[:8]]
    folder = annotated_folder(tmp_path_factory.mktemp("walks") / "out", 0, found)
    write_questions(folder, OfflineWriter(0))
    rows = {row["id"]: row for row in read_lines(folder.questions)}
    number = next(
        k
        for k in by_length[:8]
        if all(
            len(rows.get(f"{task}/{truths[k].clip}", {"options": ""})["options"]) == 4 for task in TASKS[:3]
        )
    )
    for task in TASKS:
        row = rows[f"{task}/{truths[number].clip}"]
        if task == "route_forward":
            row["answer"] += " Then turn left and turn left."
        else:
            row["options"][0]["text"] += " at once"
    write_lines(folder.questions, rows.values())
    truth = truths[number]
    folder.clip_folder.mkdir()
    write_film(folder.clip_folder / truth.clip, render(plan_clip(0, "test", number)), Fraction(truth.rate))
    return folder


@pytest.fixture
def items(folder: WorkFolder) -> dict[str, str]:
    """Ids of what waits for a person, by task and way; nobody has decided on any."""
    folder.review.unlink(missing_ok=True)
    pending = [draft.id for draft, _ in calibrate(folder).pending]
    assert {name.split("/")[0] for name in pending} == set(TASKS) and len(pending) == 4
    return {name.split("/")[0]: name for name in pending}


@pytest.fixture(scope="module")
def address(folder: WorkFolder) -> Iterator[str]:
    calibrate(folder)
    with served_page("construct", "review", str(folder.root), announced="review") as found:
        yield found


@pytest.fixture
def asked(address: str) -> Iterator[httpx.Client]:
    with asking(address) as client:
        yield client


def path_of(name: str) -> str:
    return f"/api/items/{quote(name, safe='')}"


def decide(asked: httpx.Client, name: str, verdict: str, edited: Any = None) -> httpx.Response:
    """A decision of somebody who has just loaded the item."""
    revision = asked.get(path_of(name)).json()["revision"]
    return asked.put(path_of(name), json={"verdict": verdict, "edited": edited, "revision": revision})


def states(asked: httpx.Client) -> dict[str, str]:
    return {item["id"]: item["state"] for item in asked.get("/api/items").json()["items"]}


def test_an_item_comes_with_all_that_a_person_needs(
    asked: httpx.Client, folder: WorkFolder, items: dict[str, str]
) -> None:
    assert states(asked) == dict.fromkeys(items.values(), "open")
    told = asked.get(path_of(items["landmark_forward"])).json()
    assert [reason["name"] for reason in told["reasons"]] == ["text_differs"]
    [row] = [row for row in read_lines(folder.review) if row["id"] == told["id"]]
    assert told["draft"] == {name: row["draft"][name] for name in ("question", "options", "answer")}
    [annotation] = [a for a in folder.annotations.all() if a.clip == row["draft"]["clip"]]
    [route] = told["routes"]
    assert route["annotator"] == "truth"
    assert [step["landmark"] for step in route["steps"]] == [s.landmark for s in annotation.forward]
    assert asked.get(f"/clips/{told['clip']['clip']}").headers["Content-Type"] == "video/mp4"
    for stranger in ({"Host": "rebound.example"}, {"Origin": "http://evil.example"}):
        assert asked.get(path_of(told["id"]), headers=stranger).status_code == 403


def test_decisions_are_saved_whole_and_the_calibration_takes_them(
    asked: httpx.Client, folder: WorkFolder, items: dict[str, str]
) -> None:
    before = {row["id"]: row for row in read_lines(folder.review)}
    accepted, edited, rejected, route = (items[task] for task in TASKS)
    assert decide(asked, accepted, "accept").json()["state"] == "accepted"
    assert decide(asked, rejected, "reject").json()["state"] == "rejected"
    content = asked.get(path_of(edited)).json()["draft"]
    content["options"][0]["text"] = content["options"][0]["text"].removesuffix(" at once")
    done = decide(asked, edited, "edit", {**content, "question": HOSTILE}).json()
    assert (done["state"], done["problems"], done["edited"]["question"]) == ("edited", [], HOSTILE)
    route_text = asked.get(path_of(route)).json()["draft"]
    route_text["answer"] = route_text["answer"].removesuffix(" Then turn left and turn left.")
    assert decide(asked, route, "edit", route_text).json()["problems"] == []
    rows = read_lines(folder.review)
    assert [row["id"] for row in rows] == list(before)
    for row in rows:
        whole = before[row["id"]]
        changed = (
            {**whole["draft"], **{edited: {**content, "question": HOSTILE}, route: route_text}[row["id"]]}
            if row["verdict"] == "edit"
            else None
        )
        assert row == {**whole, "verdict": row["verdict"], "edited": changed}
    result = calibrate(folder)
    kept = {draft.id: draft for draft in result.kept}
    assert not result.pending and [(d.id, f[-1].name) for d, f in result.dropped] == [(rejected, "rejected")]
    assert kept[edited].question == HOSTILE and kept[route].answer == route_text["answer"]
    assert kept[accepted].options[0].text.endswith(" at once")
    assert states(asked) == {
        accepted: "accepted",
        edited: "edited",
        rejected: "rejected",
        route: "edited",
    }


def test_a_stale_decision_is_refused(asked: httpx.Client, folder: WorkFolder, items: dict[str, str]) -> None:
    name = items["landmark_forward"]
    revision = asked.get(path_of(name)).json()["revision"]
    assert decide(asked, name, "reject").status_code == 200
    late = asked.put(path_of(name), json={"verdict": "accept", "edited": None, "revision": revision})
    assert late.status_code == 409 and states(asked)[name] == "rejected"
    stored = folder.review.read_bytes()
    with folder.step("calibration"):
        busy = decide(asked, name, "accept")
    assert busy.status_code == 422 and "calibration" in busy.json()["error"]
    assert folder.review.read_bytes() == stored


def test_an_edit_that_contradicts_the_steps_is_refused_by_name(
    asked: httpx.Client, folder: WorkFolder, items: dict[str, str]
) -> None:
    name = items["landmark_forward"]
    stored = folder.review.read_bytes()
    content = asked.get(path_of(name)).json()["draft"]
    other = "ABCD"[("ABCD".index(content["answer"]) + 1) % 4]
    reply = decide(asked, name, "edit", {**content, "answer": other})
    assert reply.status_code == 422 and "wrong_answer" in reply.json()["error"]
    assert {"wrong_answer", "also_right"} <= {problem["name"] for problem in reply.json()["problems"]}
    twice = {**content, "options": [content["options"][0], content["options"][0], *content["options"][2:]]}
    reply = decide(asked, name, "edit", twice)
    assert reply.status_code == 422 and "duplicate_options" in reply.json()["error"]
    assert folder.review.read_bytes() == stored


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "perhaps"},
        {"verdict": None},
        {"verdict": ["accept"]},
        {"edited": None},
        {"edited": {"question": "?", "options": [], "answer": "A"}},
        {"question": " "},
        {"answer": "Z"},
        {"answer": ""},
        {"options": [{"text": "left", "items": "left"}] * 4},
        {"options": [{"text": 3, "items": []}] * 4},
        {"question": "\ud800"},
    ],
)
def test_what_is_no_decision_is_refused_and_stores_nothing(
    asked: httpx.Client, folder: WorkFolder, items: dict[str, str], change: dict[str, Any]
) -> None:
    name = items["direction_forward"]
    stored = folder.review.read_bytes()
    told = asked.get(path_of(name)).json()
    sent = {"verdict": "edit", "edited": told["draft"], "revision": told["revision"]}
    if change.keys() & sent.keys():
        sent |= change
    else:
        sent["edited"] = {**told["draft"], **change}
    body = json.dumps(sent)
    reply = asked.put(path_of(name), content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400 and reply.json()["error"]
    assert folder.review.read_bytes() == stored


def test_only_items_of_the_list_are_there(asked: httpx.Client, items: dict[str, str]) -> None:
    for name in ("nothing", "landmark_forward/nowhere.mp4", "../questions.jsonl"):
        assert asked.get(path_of(name)).status_code == 404
        reply = asked.put(path_of(name), json={"verdict": "accept", "edited": None, "revision": ""})
        assert reply.status_code == 404


def test_questions_that_were_written_anew_wait_for_the_calibration(
    asked: httpx.Client, folder: WorkFolder, items: dict[str, str]
) -> None:
    name = items["landmark_forward"]
    stored = folder.questions.read_bytes()
    rows = read_lines(folder.questions)
    next(row for row in rows if row["id"] == name)["question"] = "Which ones?"
    write_lines(folder.questions, rows)
    try:
        reply = decide(asked, name, "accept")
    finally:
        folder.questions.write_bytes(stored)
    assert reply.status_code == 422 and "stale_question" in reply.json()["error"]


def test_without_a_calibration_it_says_what_to_run(tmp_path: Path, truths: list[ClipTruth]) -> None:
    from egost.tasks.construction.review_page import serve_review

    folder = annotated_folder(tmp_path / "out", 0, truths[:1])
    with pytest.raises(ConstructionError, match="egost construct calibrate"):
        serve_review(folder, 0, print)


@needs_chromium
def test_a_person_decides(tmp_path: Path, address: str, folder: WorkFolder, items: dict[str, str]) -> None:
    def stored() -> dict[str, Any]:
        return {row["id"]: row for row in read_lines(folder.review)}

    def at_item(name: str) -> str:
        return f"desk?.line.id === '{name}' && video.readyState >= 2"

    first, second = list(stored())[:2]
    with chromium_page(tmp_path) as page:
        page.show(1280)
        page.call("Page.navigate", url=address)
        page.wait(f"location.host !== '' && document.readyState === 'complete' && {at_item(first)}")
        told = stored()[first]
        assert page.run("document.querySelector('#draft .question').textContent") == told["draft"]["question"]
        names = page.run("[...document.querySelectorAll('#reasons b')].map((name) => name.textContent)")
        assert names == [reason["name"] for reason in told["reasons"]]
        page.press("a")
        page.wait("document.querySelector('#list .state').textContent === '✓ accepted'")
        assert stored()[first]["verdict"] == "accept"
        page.wait(at_item(second))  # It goes on by itself.
        page.press("x")
        page.wait(f"desk && desk.line.id !== '{second}'")
        assert stored()[second]["verdict"] == "reject"
        page.press("p")
        page.wait(at_item(second))
        assert page.run("desk.content.state") == "rejected"
        cut = (
            "[...document.querySelectorAll('#list .clip')].some(name => name.scrollWidth > name.clientWidth)"
        )
        assert not page.run(cut), "names are not cut where they differ"
        name = items["landmark_forward"]
        while page.run("desk.line.id") != name:
            before = page.run("desk.line.id")
            page.press("k" if list(stored()).index(before) > list(stored()).index(name) else "j")
            page.wait(f"desk && desk.line.id !== '{before}'")
        page.wait(at_item(name))
        page.press("e")
        page.run("document.querySelector('#question').select()")
        page.call("Input.insertText", text=HOSTILE)
        right = page.run("desk.content.draft.answer")
        wrong = "A" if right != "A" else "B"
        page.run(f"document.querySelector('.letter[value={wrong}]').click()")
        page.run("document.querySelector('#form [type=submit]').click()")
        page.wait("document.querySelector('#problems').textContent.includes('wrong_answer')")
        assert "NOT SAVED" in page.run("document.querySelector('#saved').textContent")
        assert stored()[name]["edited"] is None
        page.show(390)
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), "the form"
        page.picture(tmp_path / "form.png", whole=True)
        page.show(1280)
        page.run(f"document.querySelector('.letter[value={right}]').click()")
        page.run("document.querySelector('#form [type=submit]').click()")
        page.wait("desk.content.state === 'edited'")
        assert stored()[name]["edited"]["question"] == HOSTILE
        assert page.run("document.querySelector('#edited .question').textContent") == HOSTILE
        assert page.run("document.querySelector('#form').hidden")
        page.run("document.querySelector('.step button').click()")
        page.press(" ")
        page.wait("!video.paused || video.ended")
        page.run("stop()")
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.show(width, scheme=scheme)
            assert page.run("document.documentElement.scrollWidth <= innerWidth"), width
            page.picture(tmp_path / f"{width}_{scheme}.png", whole=True)
        # The refused edit is the one complaint: the browser itself notes each reply that is an error.
        assert all("422" in complaint for complaint in page.complaints), page.complaints
        assert all(url.startswith(address.partition("?")[0]) for url in page.requests), page.requests
