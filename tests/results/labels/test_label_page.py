"""The page on which people score routes: the real command as a process, asked over HTTP, and in a real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from headless_chromium import Page, chromium_page, needs_chromium
from local_page import asking, served_page
from planted_run import HOSTILE, REASONS, planted
from video_files import write_video

from egost.results.labels.drawing import draw_labels
from egost.results.labels.label_file import Labels, labels_path, read_labels
from egost.results.run import Run, read_run
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol

MODEL = "secret-lab/secret-model"
LONG = "Go straight to the sofa, then turn left at the red door. " * 60


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Twelve routes of a run, all with the frames of one clip; one says very much. The cache is theirs alone."""
    root = tmp_path_factory.mktemp("label")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EGOST_CACHE", str(root / "cache"))
        clip = get_clip(write_video(root / "walk.mp4", 24, size=(400, 300)), parse_protocol("uniform8"))
        saved = read_run(Path(__file__).parents[2] / "saved" / "mini_run")
        made = planted(saved, root / "run", model=MODEL)
        for number, file in enumerate(made.samples_files):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            for row in rows:
                row["percent"]["frames"] = json.loads(json.dumps(asdict(clip.manifest)))
            if "route" in file.name:
                rows[number % 2]["filtered_resps"] = LONG
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = read_run(made.results_file)
        draw_labels(found.records, 6).write(labels_path(found.results_file))
        yield found


@contextmanager
def served(run: Run, rater: str) -> Iterator[str]:
    words = ("judge", "label", str(run.results_file.parent), "--rater", rater, "--raters", "9")
    with served_page(*words, announced=f"label as {rater}") as address:
        yield address


@pytest.fixture(scope="module")
def address(run: Run) -> Iterator[str]:
    with served(run, "anna") as found:
        yield found


@pytest.fixture
def asked(address: str) -> Iterator[httpx.Client]:
    with asking(address) as client:
        yield client


@pytest.fixture
def labels(run: Run) -> Labels:
    """The run's labels, of which none is given."""
    path = labels_path(run.results_file)
    fresh = Labels(read_labels(path).routes, {})
    fresh.write(path)
    return fresh


def test_the_page_tells_neither_the_model_nor_the_judges_opinion(
    asked: httpx.Client, run: Run, labels: Labels
) -> None:
    """All that a rater's browser is sent: pages, scripts, JSON, headers, also of errors."""
    page = asked.get("/")
    parts = [path.partition("?")[0] for path in re.findall(r'(?:href|src)="(/[^"]+)"', page.text)]
    assert len(parts) == 4
    numbers = [item["id"] for item in asked.get("/api/items").json()["items"]]
    paths = ["/", *parts, "/api/items", *(f"/api/items/{n}" for n in numbers), "/api/items/99", "/nowhere"]
    replies = [asked.get(path) for path in paths] + [asked.put("/api/items/1", json={"scores": [1, 2, 3]})]
    routes = [r for r in run.records if r.sample.task == "route"]
    judge = {r.judgement.judge for r in routes if r.judgement}.pop()
    generation = routes[0].generation
    assert generation and judge == "offline-rubric-3" and generation.model
    secret = [MODEL, "secret", "qwen2_vl", generation.engine, f'"{generation.model}"', judge, "stratum"]
    secret += [REASONS[:20], "percent", "judge", "probability", str(run.results_file.parent), "80-100"]
    secret += [route.sample.id for route in routes]
    for path, reply in zip([*paths, "PUT"], replies, strict=True):
        told = re.sub(
            r'"[A-Za-z0-9+/=]{1000,}"', "", f"{reply.text}\n{reply.headers}"
        ).lower()  # without the frames
        # The style sheet and the script tell sizes in percent, and the rubric is one of the scores' meaning.
        words = [w for w in secret if w != "percent"] if path in parts else secret
        assert not [word for word in words if word.lower() in told], path
    given = read_labels(labels_path(run.results_file)).labels
    assert given == {(labels.order("anna")[0], "anna"): (1, 2, 3)}


def test_a_route_is_shown_with_what_the_model_saw(asked: httpx.Client, run: Run, labels: Labels) -> None:
    by_id = {record.sample.id: record for record in run.records}
    for number, sample in enumerate(labels.order("anna"), 1):
        told = asked.get(f"/api/items/{number}").json()
        record = by_id[sample]
        assert told == {
            "way": record.sample.way,
            "question": record.sample.question,
            "reference": record.sample.answer,
            "response": record.response.strip(),
            "frames": told["frames"],
            "scores": None,
        }
        assert len(set(told["frames"])) == 8


WRONG: list[Any] = [
    None, {}, [], {"scores": None}, {"scores": [1, 2]}, {"scores": [1, 2, 3, 4]}, {"scores": [1, 2, 6]},
    {"scores": [1, 2, -1]}, {"scores": [1, 2, 2.5]}, {"scores": [1, 2, 2.0]}, {"scores": [1, 2, True]},
    {"scores": ["1", "2", "3"]}, {"scores": [1, 2, None]}, {"scores": {"direction": 1}}, {"scores": "123"},
    {"scores": [10**30, 1, 1]}, {"scores": [[1], 2, 3]},
]  # fmt: skip


@pytest.mark.parametrize("sent", WRONG, ids=json.dumps)
def test_what_is_no_label_is_refused_and_stores_nothing(
    asked: httpx.Client, run: Run, labels: Labels, sent: Any
) -> None:
    body = {"content": json.dumps(sent), "headers": {"Content-Type": "application/json"}}
    reply = asked.put("/api/items/1", **body)  # type: ignore[arg-type]
    assert reply.status_code in (400, 422) and reply.json()["error"]
    assert read_labels(labels_path(run.results_file)) == labels


@pytest.mark.parametrize("number", ["0", "7", "999999", "1000000", "-1", "x", "..%2F1"])
def test_only_the_drawn_routes_are_there(asked: httpx.Client, number: str, labels: Labels) -> None:
    assert asked.get(f"/api/items/{number}").status_code == 404
    assert asked.put(f"/api/items/{number}", json={"scores": [1, 2, 3]}).status_code == 404


def test_strangers_are_refused(asked: httpx.Client, address: str) -> None:
    for stranger in (
        {"Host": "rebound.example"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        for path in ("/", "/api/items", "/api/items/1"):
            assert asked.get(path, headers=stranger).status_code == 403, (stranger, path)
    form = asked.put("/api/items/1", content='{"scores": [1, 2, 3]}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 415
    with httpx.Client(base_url=address.partition("?")[0], trust_env=False) as without:
        assert without.get("/api/items").status_code == 403


def test_two_raters_at_once_are_apart_and_lose_nothing(
    address: str, asked: httpx.Client, run: Run, labels: Labels
) -> None:
    with served(run, "ben") as other, asking(other) as ben:
        assert asked.get("/api/items").json()["rater"] == "anna"
        for number in range(1, 7):
            for client, score in ((asked, 1), (ben, 4)):
                assert client.put(f"/api/items/{number}", json={"scores": [score] * 3}).status_code == 200
                mine = client.get(f"/api/items/{number}").json()["scores"]
                assert mine == [score] * 3
        with asking(address) as strange:
            # The token of one rater's page is none of the other's.
            foreign = strange.get(f"{other.partition('?')[0]}api/items")
            assert foreign.status_code == 403
    given = read_labels(labels_path(run.results_file)).labels
    assert given == {
        (sample, who): (s,) * 3 for sample in labels.drawn for who, s in (("anna", 1), ("ben", 4))
    }


STATES = "[...document.querySelectorAll('#list .state')].map((state) => state.textContent)"


def ready(page: Page, name: str) -> None:
    shown = f"document.getElementById('name')?.textContent === '{name}' && desk"
    page.wait(f"{shown} && document.querySelectorAll('#frames img').length === 8")


@needs_chromium
def test_a_person_scores_routes_by_keys(tmp_path: Path, address: str, run: Run, labels: Labels) -> None:
    order = labels.order("anna")
    by_id = {record.sample.id: record for record in run.records}
    file = labels_path(run.results_file)
    hostile = next(k for k, sample in enumerate(order, 1) if HOSTILE[:9] in by_id[sample].response)
    with chromium_page(tmp_path) as page:
        page.show(1280)
        page.call("Page.navigate", url=address)
        page.wait("location.host !== '' && document.readyState === 'complete'")
        ready(page, "route 1")
        assert page.run("at('counts').textContent") == "anna: 0 of 6 labelled"
        # The rubric is one key away, and keys do nothing else meanwhile.
        page.press("r")
        assert page.run("at('rubric').open && at('meanings').children.length === 6")
        page.press("5")
        page.press("r")
        page.wait("!at('rubric').open")
        assert page.run("desk.scores.every((score) => score === null)")
        for key in "543":
            page.press(key)
        ready(page, "route 2")
        assert read_labels(file).labels == {(order[0], "anna"): (5, 4, 3)}
        # One aspect is marked and scored before the others; nothing is saved before all three are given.
        for key in "s1d2":
            page.press(key)
        assert page.run("desk.scores.join()") == "2,,1"
        page.press("6")
        assert page.run("desk.scores.join()") == "2,,1" and len(read_labels(file).labels) == 1
        page.press("0")
        ready(page, "route 3")
        assert read_labels(file).labels[order[1], "anna"] == (2, 0, 1)
        # Back, one score is changed: the page stays, and it is saved at once.
        page.press("k")
        ready(page, "route 2")
        page.press("l")
        page.press("5")
        page.wait("!desk.saving && at('saved').textContent === 'saved'")
        assert read_labels(file).labels[order[1], "anna"] == (2, 5, 1)
        # Opened again, it goes on where the rater stopped.
        page.run(
            "(window.stale = true, history.replaceState(null, '', location.pathname + location.search),"
            " location.reload())"
        )
        page.wait("!window.stale && document.readyState === 'complete'")
        ready(page, "route 3")
        page.wait(f"{STATES}.slice(0, 3).join() === '✓ labelled,✓ labelled,open'")
        # A response is text, whatever it says.
        page.run(f"location.hash = '#route%20{hostile}'")
        ready(page, f"route {hostile}")
        shown = page.run("at('response').textContent")
        assert shown == by_id[order[hostile - 1]].response.strip() and "<script>" in shown
        assert page.run("document.querySelectorAll('#response *').length") == 0
        assert page.run("document.title") == "Label routes"
        longest = max(range(6), key=lambda k: len(by_id[order[k]].response)) + 1
        page.run(f"location.hash = '#route%20{longest}'")
        ready(page, f"route {longest}")
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.show(width, scheme=scheme)
            assert page.run("document.documentElement.scrollWidth <= innerWidth"), width
            page.picture(tmp_path / f"{width}_{scheme}.png", whole=True)
            # However long the response is, the scores and the way to the rubric are in sight.
            page.run("scrollTo(0, 0)")
            assert page.run("document.documentElement.scrollHeight > 1.5 * innerHeight")
            assert page.run("at('show-rubric').getBoundingClientRect().bottom <= innerHeight"), width
            page.picture(tmp_path / f"{width}_{scheme}_window.png")
        while "open" in (states := page.run(STATES)):
            number = states.index("open") + 1
            page.run(f"location.hash = '#route%20{number}'")
            ready(page, f"route {number}")
            for _ in range(3):
                page.press("3")
            page.wait(f"{STATES}[{number - 1}] === '✓ labelled' && !desk?.saving")
        page.wait("at('saved').textContent.includes('All are labelled')")
        assert len(read_labels(file).labels) == 6
        assert not page.complaints
        assert all(url.startswith(address.partition("?token=")[0]) for url in page.requests), page.requests
