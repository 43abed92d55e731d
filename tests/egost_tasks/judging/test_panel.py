"""Several judges that vote: the median counts, each one's scores are kept, and nobody's failure loses a sample."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from judge_server import JudgeServer, Triple, serve_judge
from places import ROOT
from typer.testing import CliRunner

from egost.main import app
from egost.results.run import read_run
from egost.tasks.as_published import departures
from egost.tasks.judging.choose import Panel, get_judge, judge_names, panel_spread
from egost.tasks.judging.judge import (
    Judge,
    JudgeError,
    JudgeFailure,
    Judgement,
    JudgeStopped,
    RouteItem,
    Vote,
)
from egost.tasks.judging.rubric import OfflineRubric

ITEMS = [RouteItem(f"s{i}", "Which way?", "Turn left at the sofa.", f"walk {i}", "forward") for i in range(4)]


@dataclass(frozen=True)
class Says:
    """A judge by hand: what it says of each item in turn, three scores or the reason of a failure."""

    name: str
    said: tuple[Triple | str, ...]
    compat: float | None = None
    usage: None = None

    def start(self, items: Sequence[RouteItem]) -> None:
        pass

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        of = dict(zip([item.sample_id for item in ITEMS], self.said, strict=False))
        return [
            JudgeFailure(item.sample_id, found, f"{self.name} is lost", self.name, 40.0)
            if isinstance(found := of[item.sample_id], str)
            else Judgement(item.sample_id, *found, f"{self.name}'s reasons", self.name, compat=self.compat)
            for item in items
        ]


def judged(*judges: Judge) -> list[Judgement | JudgeFailure]:
    return Panel(judges)(ITEMS)


def test_the_median_of_three_is_the_score_and_each_ones_is_kept() -> None:
    a, b, c = Says("a", ((5, 0, 2),) * 4), Says("b", ((1, 4, 2),) * 4), Says("c", ((3, 5, 0),) * 4)
    verdict = judged(a, b, c)[0]
    assert isinstance(verdict, Judgement)
    scores = (verdict.direction, verdict.landmark, verdict.semantic)
    assert scores == (3, 4, 2) and all(type(score) is int for score in scores)
    # (3 + 4 + 2) / 3 of 5.
    assert verdict.percent == pytest.approx(60)
    assert verdict.votes == (Vote("a", (5, 0, 2)), Vote("b", (1, 4, 2)), Vote("c", (3, 5, 0)))
    assert verdict.judge == "median of a & b & c"
    assert verdict.reasons == "a: a's reasons; b: b's reasons; c: c's reasons"


def test_two_judges_meet_half_way() -> None:
    verdict = judged(Says("a", ((5, 0, 2),) * 4), Says("b", ((2, 4, 2),) * 4))[0]
    assert isinstance(verdict, Judgement)
    assert (verdict.direction, verdict.landmark, verdict.semantic) == (3.5, 2, 2)
    assert verdict.percent == pytest.approx(50)


def test_one_judges_failure_loses_no_sample_and_is_counted() -> None:
    a = Says("a", ((4, 4, 4), "timeout", "refusal", "refusal"))
    b = Says("b", ((2, 2, 2), (5, 5, 5), "refusal", "bad_scores"))
    both, one, same, other = judged(a, b)
    assert isinstance(both, Judgement) and both.percent == pytest.approx(60)
    assert isinstance(one, Judgement) and one.percent == 100
    assert one.votes == (Vote("a", None, "timeout"), Vote("b", (5, 5, 5)))
    assert isinstance(same, JudgeFailure) and same.reason == "refusal" and same.compat == 40
    assert isinstance(other, JudgeFailure) and other.reason == "all_failed"
    assert "a: a is lost" in other.text and "b: b is lost" in other.text
    spread = panel_spread([both, one])
    assert spread is not None
    assert spread.means == {"a": pytest.approx(80), "b": pytest.approx(70)}
    assert spread.absent == {"a": {"timeout": 1}} and spread.samples == 1
    # 80 and 40 percent of one sample: their standard deviation is 40 / sqrt(2).
    assert spread.sample_sd == pytest.approx(40 / 2**0.5) and spread.same == 0


def test_the_spread_of_judges_that_always_agree_is_none() -> None:
    verdicts = judged(Says("a", ((4, 4, 4),) * 4), Says("b", ((4, 4, 4),) * 4))
    spread = panel_spread([v for v in verdicts if isinstance(v, Judgement)])
    assert spread is not None and (spread.sample_sd, spread.same) == (0, 1)
    [alone] = OfflineRubric()(ITEMS[:1])
    assert isinstance(alone, Judgement) and panel_spread([alone]) is None


def test_compat_is_the_median_of_the_public_codes_readings() -> None:
    a, b = Says("a", ((5, 5, 5),) * 4, compat=120.0), Says("b", ((3, 3, 3),) * 4)
    verdict = judged(a, b)[0]
    assert isinstance(verdict, Judgement) and verdict.compat == pytest.approx(90)


def test_a_half_is_a_score_of_a_panel_alone() -> None:
    with pytest.raises(JudgeError, match="whole number from 0 to 5"):
        Judgement("s", 3.5, 2, 2, "", "one judge")
    with pytest.raises(JudgeError, match="whole number from 0 to 5"):
        Judgement("s", 3.25, 2, 2, "", "a panel", votes=(Vote("a", (3, 2, 2)),))


@pytest.fixture
def servers() -> Iterator[Callable[..., JudgeServer]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serve_judge(**settings))


def test_judges_behind_servers_vote_with_rules(servers: Callable[..., JudgeServer]) -> None:
    one, two = servers(scores=lambda ask: (1, 2, 3)), servers(scores=lambda ask: (5, 4, 3))
    judge = get_judge(f"openai:m@{one.url}, openai:m@{two.url},offline")
    verdicts = judge(ITEMS)
    assert all(isinstance(v, Judgement) and len(v.votes) == 3 for v in verdicts)
    assert len(one.asks) == len(two.asks) == 4
    used = judge.usage
    assert used is not None and (used.calls, used.judged, used.tokens_in) == (8, 8, 8 * 900)
    assert [v.votes[0].scores for v in verdicts if isinstance(v, Judgement)] == [(1, 2, 3)] * 4


def test_a_server_that_refuses_is_absent_and_all_of_them_end_the_judging(
    servers: Callable[..., JudgeServer],
) -> None:
    good, bad = servers(), servers(script=lambda ask: "error:401")
    verdicts = get_judge(f"openai:m@{good.url},openai:m@{bad.url}")(ITEMS)
    assert all(isinstance(v, Judgement) for v in verdicts)
    assert {v.votes[1].failed for v in verdicts if isinstance(v, Judgement)} == {"judge_stopped"}
    with pytest.raises(JudgeStopped):
        get_judge(f"openai:m@{bad.url},openai:n@{bad.url}")(ITEMS)


def test_a_saved_run_is_judged_by_two_and_read_again(
    servers: Callable[..., JudgeServer], tmp_path: Path
) -> None:
    run = shutil.copytree(ROOT / "tests" / "saved" / "mini_run", tmp_path / "run")
    three = servers(scores=lambda ask: (3, 3, 3))
    done = CliRunner().invoke(app, ["judge", str(run), "--judge", f"offline,openai:m@{three.url}"])
    assert done.exit_code == 0, done.output
    # The rules give the six forward routes 0, so that half way to 60 is 30.
    assert "offline-rubric-3 0.0" in done.output and "60.0; standard deviation among judges" in done.output
    routes = [r for r in read_run(run).records if r.task == "egost_mini_route_forward"]
    assert [r.percent for r in routes] == [pytest.approx(30)] * 6
    assert all(
        isinstance(r.judgement, Judgement) and r.judgement.votes[1].scores == (3, 3, 3) for r in routes
    )
    again = CliRunner().invoke(app, ["report", str(run), "-o", str(tmp_path / "page.html")])
    assert again.exit_code == 0 and "median of offline-rubric-3" in (tmp_path / "page.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("gpt-4o", ("gpt-4o",)),
        ("gpt-4o, offline", ("gpt-4o", "offline")),
        ("gpt-4o+compat,azure:d@https://x.test/a,b", ("gpt-4o+compat", "azure:d@https://x.test/a,b")),
        ("openai:m@http://h/?,offliner", ("openai:m@http://h/?,offliner",)),
        ("offline,openai:org/m@http://h:1/v1,gpt-4o", ("offline", "openai:org/m@http://h:1/v1", "gpt-4o")),
    ],
)
def test_names_are_told_apart_by_commas_with_a_judge_behind_them(spec: str, names: tuple[str, ...]) -> None:
    assert judge_names(spec) == names


def test_a_judge_that_is_named_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JudgeError, match="offline-rubric-3 twice"):
        get_judge("offline,offline")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
        get_judge("offline,gpt-4o")


def test_a_panel_is_not_the_published_judge() -> None:
    assert departures("qwen", {"EGOST_JUDGE": "gpt-4o,openai:m@http://h/v1+compat"}) == {
        "EGOST_JUDGE": "gpt-4o+compat"
    }
    assert departures("qwen", {"EGOST_JUDGE": "azure:d@https://h+compat"}) == {}
