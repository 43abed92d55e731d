"""The page as people have it: in a real browser, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headless_chromium import Page, chromium_page, needs_chromium
from planted_run import HOSTILE, planted

from egost.results.report.page import report_page
from egost.results.run import Run

if TYPE_CHECKING:
    from demo_runs import DemoHome

pytestmark = needs_chromium

READY = "document.documentElement.dataset.ready === 'yes'"
COUNT = "document.getElementById('count').textContent"
CURRENT = "document.querySelector('#sample h3 a').textContent"
LISTED = "[...document.querySelectorAll('#list .id')].map(id => id.textContent)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, fresh_run: Run, demo_home: DemoHome) -> Path:
    """One run whose model does all to get out of its place."""
    folder = tmp_path_factory.mktemp("one")
    return written(folder, [planted(fresh_run, folder / "run")], demo_home)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, fresh_run: Run, demo_home: DemoHome) -> Path:
    folder = tmp_path_factory.mktemp("two")
    runs = [planted(fresh_run, folder / name, seed=seed, model=name) for seed, name in enumerate("ab")]
    return written(folder, runs, demo_home)


def written(folder: Path, runs: list[Run], home: DemoHome) -> Path:
    path = folder / "report.html"
    path.write_bytes(report_page(runs, home.cache, 5_000_000).html)
    return path


def opened(page: Page, path: Path, fragment: str = "") -> None:
    page.open(path, fragment)
    page.wait(READY)


def choose(page: Page, select: str, value: str) -> None:
    page.run(
        f"document.getElementById('{select}').value = {value!r};"
        f"document.getElementById('{select}').dispatchEvent(new Event('input', {{bubbles: true}}))"
    )


def samples(page: Page, condition: str) -> list[str]:
    found: list[str] = page.run(f"data.samples.filter(s => {condition}).map(s => s.id)")
    return found


def test_it_loads_without_a_complaint_or_a_request_and_shows_text_as_text(page: Page, one: Path) -> None:
    opened(page, one)
    [routed] = samples(page, "s.route")[:1]
    opened(page, one, f"#{routed}")
    assert page.complaints == []
    assert page.requests == [one.as_uri() + f"#{routed}"] or page.requests == [one.as_uri()]
    shown = page.run("document.querySelector('#sample .answer pre').textContent")
    # Half of a surrogate pair is no character.
    assert shown == f"Turn left at the red door. {HOSTILE}".replace("\ud800", "\ufffd")
    assert page.run("document.querySelectorAll('#sample b, #sample script, img[onerror]').length") == 0
    assert "owned" not in page.run("document.title")
    assert page.run("document.querySelectorAll('.frames img').length") == 8
    assert page.run(
        "[...document.querySelectorAll('.frames img')].every(i => i.complete && i.naturalWidth > 0)"
    )


def test_the_policy_stops_what_would_get_through(page: Page, one: Path) -> None:
    opened(page, one)
    refused = page.run(
        "(() => { try { document.getElementById('sample').innerHTML = '<b>x</b>'; return 'let through' } "
        "catch (error) { return error.name } })()"
    )
    assert refused == "TypeError"
    gone = page.run("fetch('https://example.org/').then(() => 'let through', error => error.name)")
    assert gone == "TypeError"
    page.complaints.clear()


def test_filters_and_search(page: Page, one: Path) -> None:
    opened(page, one)
    total = page.run("data.samples.length")
    assert page.run(COUNT) == f"{total} of {total} samples"
    wrong = samples(page, "s.a.outcome === 'wrong'")
    choose(page, "outcome-a", "wrong")
    assert page.run(LISTED) == wrong[:100]
    choose(page, "task", "egost_landmark_reverse")
    both = [name for name in wrong if "/landmark_reverse/" in name]
    assert page.run(LISTED) == both
    page.run("document.getElementById('filters').reset()")
    page.wait(f"{COUNT} === '{total} of {total} samples'")
    choose(page, "text", "RED door turn")
    assert page.run(COUNT) == f"{len(samples(page, 's.route'))} of {total} samples"
    choose(page, "text", "no such words anywhere")
    assert page.run(COUNT) == f"0 of {total} samples"
    # A link leads to its sample whatever the filters hide.
    target = wrong[-1]
    page.run(f"location.hash = {target!r}")
    page.wait(f"{CURRENT} === {target!r}")
    assert page.run(COUNT) == f"{total} of {total} samples"
    assert page.complaints == []


def test_the_right_pane_follows_the_filter(page: Page, one: Path) -> None:
    opened(page, one)
    wrong = samples(page, "s.a.outcome === 'wrong'")
    choose(page, "outcome-a", "wrong")
    assert page.run(CURRENT) == wrong[0]
    page.press("j")
    page.wait(f"{CURRENT} === {wrong[1]!r}")
    choose(page, "text", "no such words anywhere")
    assert page.run(CURRENT) == wrong[1], "there is none to go to"


def test_samples_are_in_sight_tables_fit_and_sort_by_a_click(page: Page, two: Path) -> None:
    page.show(1280)
    opened(page, two)
    assert page.run("document.getElementById('browser').getBoundingClientRect().top + scrollY") < 1000
    assert page.run("document.querySelectorAll('#summary > .statements > li').length") <= 3
    assert page.run(
        "[...document.querySelectorAll('.scroll')].every(s => s.scrollWidth <= s.clientWidth + 1)"
    )
    figures = (
        "[...document.querySelector('#figures table').tBodies[0].rows]"
        ".map(row => parseFloat(row.children[1].textContent))"
    )
    head = "document.querySelector('#figures thead th:nth-child(2)')"
    before = page.run(figures)
    page.run(f"{head}.click()")
    assert page.run(figures) == sorted(before, reverse=True)
    page.run(f"{head}.click()")
    assert page.run(figures) == sorted(before)
    assert page.run(f"{head}.ariaSort") == "ascending"
    assert page.complaints == []


def test_a_link_to_a_sample(page: Page, one: Path) -> None:
    opened(page, one)
    target = page.run("data.samples[data.samples.length - 1].id")
    opened(page, one, f"#{target}")
    assert page.run(CURRENT) == target
    assert page.run("document.querySelector('#sample h3 a').href") == f"{one.as_uri()}#{target}"
    assert page.run("document.querySelector('#list [aria-current]').textContent").count(target) == 1
    top = page.run("document.getElementById('browser').getBoundingClientRect().top")
    assert abs(top) < 200, "the browser of samples is in sight"
    opened(page, one, "#Part1/none/7")
    assert (
        page.run("document.getElementById('lost').textContent") == "This report has no sample Part1/none/7."
    )


def test_keys(page: Page, one: Path) -> None:
    opened(page, one)
    first, second = page.run("data.samples.slice(0, 2).map(s => s.id)")
    page.press("j")
    page.wait(f"{CURRENT} === {second!r}")
    page.press("k")
    page.wait(f"{CURRENT} === {first!r}")
    page.press("?")
    page.wait("document.getElementById('help').open")
    page.press("Escape")
    page.wait("!document.getElementById('help').open")
    page.press("/")
    page.wait("document.activeElement.id === 'text'")
    page.press("j")
    page.wait("document.getElementById('text').value === 'j'")
    assert page.run(CURRENT) == first, "a key in the search is a letter"
    page.press("Escape")
    page.wait("document.activeElement.id !== 'text'")


@pytest.mark.parametrize("width", [400, 1400])
def test_wide_and_narrow_light_and_dark(page: Page, two: Path, width: int, tmp_path: Path) -> None:
    backgrounds = {}
    for scheme in ("light", "dark"):
        page.show(width, 900, scheme)
        opened(page, two)
        assert page.run("document.documentElement.scrollWidth") <= width, (
            "the page itself never scrolls sideways"
        )
        backgrounds[scheme] = page.run("getComputedStyle(document.body).backgroundColor")
    assert backgrounds["light"] == "rgb(255, 255, 255)"
    assert backgrounds["dark"] != backgrounds["light"]
    # Beside each other where there is room, below each other where there is not.
    a, b = page.run("[...document.querySelectorAll('.answer')].map(e => e.getBoundingClientRect().left)")
    assert (a < b) == (width > 1000)


def test_two_runs_side_by_side(page: Page, two: Path) -> None:
    opened(page, two)
    flips = samples(page, "Math.abs(s.change) === 100")
    assert flips
    assert page.run(LISTED)[: len(flips)] == flips[:100]
    assert page.run("document.getElementById('change').value") == "flips"
    assert page.run(COUNT).startswith(f"{len(samples(page, 's.change !== 0'))} of ")
    assert page.run(CURRENT) == flips[0]
    assert page.run("document.getElementById('browser').getBoundingClientRect().top") < 300
    page.run("document.querySelector('#filters [type=reset]').click()")
    page.wait(
        f"document.getElementById('count').textContent.startsWith({str(page.run('data.samples.length'))!r})"
    )
    headings = page.run("[...document.querySelectorAll('.answer h4')].map(e => e.textContent.slice(-4))")
    assert headings == ["A: a", "B: b"]
    choose(page, "change", "lost")
    assert page.run(LISTED) == samples(page, "s.change < 0")[:100]
    assert page.complaints == []


def test_five_thousand_samples(page: Page, tmp_path: Path, fresh_run: Run, demo_home: DemoHome) -> None:
    counts: dict[str, Any] = fresh_run.results["n-samples"]
    times = -(-5000 // sum(count["effective"] for count in counts.values()))
    path = written(tmp_path, [planted(fresh_run, tmp_path / "run", times=times)], demo_home)
    opened(page, path)
    assert page.run("data.samples.length") >= 5000
    assert page.run("document.querySelectorAll('#list li').length") == 100
    last = page.run("data.samples[data.samples.length - 1].id")
    opened(page, path, f"#{last}")
    assert page.run(CURRENT) == last
    assert page.run("document.getElementById('later').disabled")
    page.run("document.getElementById('earlier').click()")
    assert page.run(LISTED)[-1] == page.run(
        "data.samples[Math.floor((data.samples.length - 1) / 100) * 100 - 1].id"
    )
    choose(page, "text", "red door")
    assert page.run(COUNT).startswith(f"{len(samples(page, 's.route'))} of ")
    assert page.complaints == []
