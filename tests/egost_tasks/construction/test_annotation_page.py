"""The page for routes: the real command as a process, asked over HTTP, and used in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from headless_chromium import Page, chromium_page, needs_chromium
from local_page import asking, served_page
from mini_annotations import annotation_of, scene_of

from egost.tasks.construction.annotations import Step, check, propose_reverse
from egost.tasks.construction.cutting import build_clips
from egost.tasks.construction.workfolder import WorkFolder
from egost.tasks.mini_world.raycast import render, write_film
from egost.tasks.mini_world.steps import ClipTruth
from egost.tasks.mini_world.walks import plan_clip

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, truths: list[ClipTruth]) -> WorkFolder:
    """Two clips of the mini world, cut by the construction's own first step."""
    root = tmp_path_factory.mktemp("walks")
    shortest = sorted(range(len(truths)), key=lambda k: truths[k].frames / Fraction(truths[k].rate))[:2]
    cuts = []
    for number in shortest:
        path = root / truths[number].clip
        write_film(path, render(plan_clip(0, "test", number)), Fraction(truths[number].rate))
        cuts.append(
            {
                "file": str(path),
                "start": 0,
                "end": None,
                "source": "mini",
                "scene": scene_of(truths[number]),
                "name": path.stem,
            }
        )
    (root / "spec.json").write_text(json.dumps(cuts))
    _, failures = build_clips(WorkFolder(root / "out"), root / "spec.json", workers=1, progress=False)
    assert not failures
    return WorkFolder(root / "out")


@pytest.fixture(scope="module")
def address(folder: WorkFolder) -> Iterator[str]:
    with served_page(
        "construct", "annotate", str(folder.root), "--annotator", "ana", announced="annotate as ana"
    ) as found:
        yield found


@pytest.fixture
def asked(address: str) -> Iterator[httpx.Client]:
    with asking(address) as client:
        yield client


@pytest.fixture
def clip(folder: WorkFolder) -> Iterator[str]:
    """The first clip, of which nothing is told."""
    name = next(iter(folder.clips()))
    told = folder.annotations.folder / "ana" / f"{name}.json"
    told.unlink(missing_ok=True)
    yield name


def plain(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    names = ("direction", "landmark", "action", "time_s")
    return [{name: getattr(step, name) for name in names} for step in steps]


def test_a_clip_comes_in_ranges(asked: httpx.Client, folder: WorkFolder, clip: str) -> None:
    content = (folder.clip_folder / clip).read_bytes()
    part = asked.get(f"/clips/{clip}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    assert asked.get(f"/clips/{clip}").content == content
    beyond = asked.get(f"/clips/{clip}", headers={"Range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416


def test_strangers_are_refused(asked: httpx.Client, clip: str) -> None:
    port = asked.base_url.port
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    assert asked.get("/", headers=own).status_code == 200
    assert asked.get("/", headers={"Host": f"localhost:{port}"}).status_code == 200
    for stranger in (
        {"Host": f"rebound.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        for path in ("/", "/api/clips", f"/clips/{clip}"):
            assert asked.get(path, headers=stranger).status_code == 403, (stranger, path)
    form = asked.put(f"/api/clips/{clip}", content="{}", headers={"Content-Type": "text/plain"})
    assert form.status_code == 415
    policy = asked.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


@pytest.mark.parametrize(
    "name", ["nowhere.mp4", "..%2Fclips.jsonl", "%2Fetc%2Fpasswd", "..%5Cclips.jsonl", "%2e%2e"]
)
def test_only_the_clips_that_were_cut_are_there(asked: httpx.Client, name: str) -> None:
    for path in (f"/clips/{name}", f"/api/clips/{name}"):
        assert asked.get(path).status_code == 404
    assert asked.put(f"/api/clips/{name}", json={"forward": [], "revision": ""}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"revision": ""}',
        '{"revision": "", "forward": [{"direction": "back", "landmark": "", "action": "", "time_s": 1}]}',
        '{"revision": "", "forward": [{"direction": "left", "landmark": "", "action": "", "time_s": NaN}]}',
    ],
)
def test_what_is_no_route_is_refused_and_stores_nothing(
    asked: httpx.Client, folder: WorkFolder, clip: str, body: str
) -> None:
    reply = asked.put(f"/api/clips/{clip}", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400 and reply.json()["error"]
    assert folder.annotations.load(clip, "ana") is None


def test_a_route_is_stored_whole_and_never_over_one_that_it_does_not_know(
    asked: httpx.Client, folder: WorkFolder, clip: str, truths: list[ClipTruth]
) -> None:
    assert asked.get("/api/clips").json()["clips"][0]["state"] == "none"
    truth = next(truth for truth in truths if clip.endswith(truth.clip))
    forward = annotation_of(truth).forward
    first = asked.put(f"/api/clips/{clip}", json={"forward": plain(forward), "reverse": None, "revision": ""})
    assert first.status_code == 200 and first.json()["state"] == "whole"
    assert first.json()["proposed"] == plain(propose_reverse(forward))
    stored = folder.annotations.load(clip, "ana")
    assert stored and stored.forward == forward and stored.reverse is None
    assert not check(stored, folder.clips()[clip].duration_s)
    late = asked.put(f"/api/clips/{clip}", json={"forward": [], "revision": ""})
    assert late.status_code == 409 and folder.annotations.load(clip, "ana") == stored
    again = {"forward": [], "revision": first.json()["revision"]}
    assert asked.put(f"/api/clips/{clip}", json=again).json()["state"] == "begun"


def play(page: Page) -> None:
    """Play by the key. A Chromium that has just started may stall at the first frame; a person presses again."""
    for _ in range(3):
        page.press(" ")
        with suppress(AssertionError):
            page.wait("video.currentTime > 0.2", 20)
            return
        if not page.run("video.paused"):
            page.press(" ")
    raise AssertionError(page.run("[video.paused, video.currentTime, video.readyState, shown?.clip].join()"))


@needs_chromium
def test_a_person_tells_a_route(tmp_path: Path, address: str, folder: WorkFolder, clip: str) -> None:
    ways = "#forward", "#reverse"
    with chromium_page(tmp_path) as page:
        page.show(1280)
        page.call("Page.navigate", url=f"{address}#{clip}")
        page.wait("location.host !== '' && document.readyState === 'complete' && video.readyState >= 2")
        page.press("?")
        page.press("l")
        assert page.run("at('keys').open && !desk.forward.length")
        page.press("Escape")
        page.wait("!at('keys').open")
        play(page)
        page.press(",")
        assert page.run("video.paused")
        page.run("goTo(0.75)")
        page.wait("!video.seeking")
        page.press("l")
        page.call("Input.insertText", text=HOSTILE)
        page.wait("document.querySelectorAll('#reverse .step').length === 1")
        assert page.run("document.querySelector('#reverse .direction').value") == "right"
        page.press("Enter")
        page.call("Input.insertText", text="open the door")
        page.press("Enter")
        for _ in range(8):
            page.press(".")
        page.press("u")
        page.call("Input.insertText", text="stairs")
        page.press("Escape")
        page.wait("document.querySelectorAll('#reverse .step').length === 2 && !desk.saving")
        told = folder.annotations.load(clip, "ana")
        assert told and told.reverse is None
        assert [(s.direction, s.landmark, s.action) for s in told.forward] == [
            ("left", HOSTILE, "open the door"),
            ("up", "stairs", ""),
        ]
        assert 0.75 == told.forward[0].time_s < told.forward[1].time_s
        assert page.run("document.querySelector('#list .state').textContent") == "✓ whole"
        page.run(
            "(() => { const turn = document.querySelectorAll('#reverse .direction')[1]; turn.value = 'left';"
            " turn.dispatchEvent(new Event('input', { bubbles: true })); })()"
        )
        page.wait(
            "document.querySelectorAll('#reverse .step')[1].textContent.includes('reverse_turns_differ')"
        )
        assert page.run("document.querySelector('#list .state').textContent") == "! problems"
        wrong = folder.annotations.load(clip, "ana")
        assert wrong and wrong.reverse and [s.direction for s in wrong.reverse] == ["down", "left"]
        page.run("(window.stale = true, location.reload())")
        page.wait("!window.stale && document.querySelectorAll('.step').length === 4")
        shown = [
            page.run(f"[...document.querySelectorAll('{way} .landmark')].map((field) => field.value)")
            for way in ways
        ]
        assert shown == [[HOSTILE, "stairs"], ["stairs", HOSTILE]]
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.show(width, scheme=scheme)
            assert page.run("document.documentElement.scrollWidth <= innerWidth"), width
            page.picture(tmp_path / f"{width}_{scheme}.png", whole=True)
        page.run("document.querySelector('#propose').click()")
        page.wait("!desk.saving && document.querySelector('#list .state').textContent === '✓ whole'")
        page.run("goTo(1)")
        page.wait("!video.seeking")
        page.press("b")
        page.wait("video.currentTime < 0.5")
        assert not page.complaints
        assert all(url.startswith(address.partition("?")[0]) for url in page.requests), page.requests
