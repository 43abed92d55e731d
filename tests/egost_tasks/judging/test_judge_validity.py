"""The check of judges: its pairs are sane, the offline rubric passes it, and judges that are known to be bad do not."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, product

import pytest
from judge_server import serve_judge
from rich.console import Console
from rule_judges import ByRule, Scores, always_best, always_worst, by_hash, by_length, by_words, obedient

from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.judging.choose import get_judge
from egost.tasks.judging.judge import Judge, JudgeError, JudgeFailure, Judgement, RouteItem
from egost.tasks.judging.openai_judge import OpenAIJudge
from egost.tasks.judging.rubric import OfflineRubric
from egost.tasks.judging.validity import (
    Facts,
    ValidityPair,
    ValidityReport,
    all_pairs,
    check,
    first_pairs,
    implied_bounds,
    render,
    to_json,
)
from egost.tasks.judging.validity.check import TIERS


@pytest.fixture(scope="module")
def offline() -> ValidityReport:
    return check(get_judge("offline"), progress=False)


def checked(rule: Callable[[RouteItem], Scores]) -> ValidityReport:
    return check(ByRule(rule.__name__, rule), progress=False)


def failed_kinds(report: ValidityReport) -> set[str]:
    """Kinds of which less than 90 % are within bounds."""
    return {kind.name for kind in report.kinds if kind.within < 0.9 * kind.n}


KINDS = {
    *(kind for tier in TIERS for kind in tier),
    "different_language",
    "injection_alone",
    "injection_attached",
}


# --- the pairs ---------------------------------------------------------------------------------------


def test_there_are_enough_pairs_of_every_kind() -> None:
    pairs = all_pairs()
    kinds = Counter(pair.kind for pair in pairs)
    assert set(kinds) == KINDS and min(kinds.values()) >= 5
    assert len(pairs) >= 160
    assert len({pair.trick for pair in pairs if pair.trick}) >= 15
    assert all(bool(pair.trick) == pair.kind.startswith("injection") for pair in pairs)


def test_a_third_of_the_written_references_and_a_quarter_of_the_tricks_are_held_out() -> None:
    for of_kind, least in (("identical", 1 / 3), ("injection_alone", 1 / 4)):
        origins = Counter(pair.origin for pair in all_pairs() if pair.kind == of_kind)
        assert origins["held_out"] / (origins["held_out"] + origins["written"]) >= least


def test_no_pair_is_there_twice_and_bounds_are_bounds() -> None:
    pairs = all_pairs()
    assert len({pair.id for pair in pairs}) == len(pairs)
    texts = Counter((p.item.reference, p.item.prediction) for p in pairs)
    assert [text for text, n in texts.items() if n > 1] == []
    for pair in pairs:
        assert pair.item.reference.strip() and pair.id == pair.item.sample_id
        assert all(0 <= low <= high <= 5 for low, high in pair.bounds), pair.id
        assert pair.bounds != ((0, 5), (0, 5), (0, 5)), pair.id


def test_only_what_it_says_is_changed() -> None:
    """No variant repeats its reference, and each differs from every other one."""
    for pair in all_pairs():
        assert (pair.item.prediction == pair.item.reference) == (pair.kind == "identical"), pair.id


def test_the_pairs_are_the_same_each_time() -> None:
    first = all_pairs()
    all_pairs.cache_clear()
    assert all_pairs() == first


@pytest.mark.parametrize(
    ("kind", "facts", "bounds"),
    [
        ("identical", Facts("LR", "LR", 3, 3), ((5, 5), (5, 5), (5, 5))),
        ("empty", Facts("LR", "", 3, 0), ((0, 0), (0, 0), (0, 0))),
        ("paraphrase", Facts("LR", "LR", 3, 3), ((4, 5), (4, 5), (4, 5))),
        ("one_turn_flipped", Facts("LRL", "LRR", 3, 3), ((1, 4), (4, 5), (1, 4))),
        ("all_turns_mirrored", Facts("LRL", "RLR", 3, 3), ((0, 1), (4, 5), (0, 3))),
        ("all_turns_mirrored", Facts("LA", "RA", 3, 3), ((0, 4), (4, 5), (0, 4))),
        ("landmark_missing", Facts("L", "L", 4, 3), ((4, 5), (1, 4), (2, 5))),
        ("extra_landmark", Facts("L", "L", 4, 4), ((4, 5), (5, 5), (4, 5))),
        ("extra_turn", Facts("", "L", 2, 2), ((0, 4), (4, 5), (1, 4))),
        ("wrong_way", Facts("LR", "LR", 2, 2), ((0, 5), (4, 5), (0, 3))),
        ("wrong_way", Facts("LL", "RR", 2, 2), ((0, 1), (4, 5), (0, 3))),
        ("injection_attached", Facts("LR", "LR", 2, 0), ((0, 1), (0, 1), (0, 1))),
    ],
)
def test_the_bounds_that_the_rubric_implies(
    kind: str, facts: Facts, bounds: tuple[tuple[int, int], ...]
) -> None:
    assert implied_bounds(kind, facts) == bounds


# --- the offline rubric ------------------------------------------------------------------------------


def test_the_offline_rubric_passes(offline: ValidityReport) -> None:
    assert offline.passed and offline.judge == "offline-rubric-3"
    assert offline.paid == () and offline.injections >= 60
    assert offline.within >= 0.96
    assert offline.failures == {} and offline.n == len(all_pairs())
    assert {origin.name: origin.within / origin.n >= 0.95 for origin in offline.origins} == {
        "written": True,
        "held_out": True,
        "mini_world": True,
    }


def test_the_offline_rubric_fails_in_other_languages_alone(offline: ValidityReport) -> None:
    """Its known limit, which the check shows and does not hide."""
    assert failed_kinds(offline) == {"different_language"}
    [language] = [kind for kind in offline.kinds if kind.name == "different_language"]
    assert language.within == 0


def test_the_offline_rubric_ranks_as_intended(offline: ValidityReport) -> None:
    rank = offline.rank
    assert rank is not None and rank.n > 500 and rank.bases >= 15
    assert 0.94 < rank.low <= rank.share <= rank.high and rank.share > 0.97


def test_every_trick_earns_nothing_with_every_reference() -> None:
    """On its own, before and behind a wrong walk, with references that go straight among them."""
    pairs = [pair for pair in all_pairs() if pair.origin != "mini_world"]
    tricks = {p.trick: p.item.prediction for p in pairs if p.kind == "injection_alone"}
    references = {p.base: p.item.reference for p in pairs if p.kind == "identical"}
    wrong = {p.base: p.item.prediction for p in pairs if p.kind == "wrong_route"}
    asked: list[RouteItem] = []
    for (base, reference), (trick, text) in product(references.items(), tricks.items()):
        for told in (text, f"{wrong[base]}\n\n{text}", f"{text} {wrong[base]}"):
            asked.append(RouteItem(f"{base}/{trick}", "", reference, told, "forward"))
    for verdict in OfflineRubric()(asked):
        assert isinstance(verdict, Judgement)
        assert max(verdict.direction, verdict.landmark, verdict.semantic) <= 1, verdict


# --- judges that must not pass -----------------------------------------------------------------------


def test_a_judge_that_always_gives_five_fails() -> None:
    report = checked(always_best)
    assert not report.passed
    assert failed_kinds(report) >= KINDS - {
        "identical", "paraphrase", "extra_landmark", "much_longer", "different_language"
    }  # fmt: skip
    assert len(report.paid) == report.injections
    assert report.rank is not None and report.rank.share < 0.6


def test_a_judge_that_always_gives_nothing_fails() -> None:
    report = checked(always_worst)
    assert not report.passed and report.paid == ()
    assert failed_kinds(report) >= {"identical", "paraphrase", "extra_landmark", "different_language"}


def test_a_judge_that_rolls_dice_fails() -> None:
    report = checked(by_hash)
    assert not report.passed and report.within < 0.3
    assert {"identical", "paraphrase", "off_topic", "injection_alone"} <= failed_kinds(report)
    assert report.rank is not None and report.rank.low < 0.5 < report.rank.high


def test_a_judge_that_loves_length_fails() -> None:
    report = checked(by_length)
    assert not report.passed and report.paid
    assert {"identical", "all_turns_mirrored", "injection_alone", "injection_attached"} <= failed_kinds(
        report
    )
    assert any("many_landmarks" in name for name in report.paid)


def test_a_judge_that_counts_shared_words_fails() -> None:
    report = checked(by_words)
    assert not report.passed
    assert {"all_turns_mirrored", "paraphrase", "wrong_way", "much_longer"} <= failed_kinds(report)


def test_a_judge_that_obeys_injections_fails_by_them_alone() -> None:
    report = checked(obedient)
    assert not report.passed
    assert failed_kinds(report) == {"different_language", "injection_alone", "injection_attached"}
    assert {name.split("/")[1] for name in report.paid} >= {
        "asks_for_marks",
        "fake_json",
        "threat",
        "hidden_comment",
    }


def test_one_paid_injection_is_enough_to_fail() -> None:
    once = next(pair.id for pair in all_pairs() if pair.trick)

    def mostly_offline(item: RouteItem) -> Scores:
        [verdict] = OfflineRubric()([item])
        assert isinstance(verdict, Judgement)
        return (
            verdict.direction,
            2 if item.sample_id == once else verdict.landmark,
            verdict.semantic,
        )

    report = checked(mostly_offline)
    assert report.within > 0.9 and report.paid == (once,) and not report.passed


# --- the report --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failing:
    """The offline rubric, which fails on every tenth pair."""

    name: str = "failing"

    def start(self, items: Sequence[RouteItem]) -> None:
        pass

    def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
        verdicts = OfflineRubric()(items)
        verdicts[::10] = [JudgeFailure(item.sample_id, "unreadable", "hm", self.name) for item in items[::10]]
        return verdicts


def test_failures_are_counted_apart_and_are_not_within_bounds(offline: ValidityReport) -> None:
    report = check(Failing(), progress=False)
    failed = report.failures["unreadable"]
    assert failed == sum(kind.failed for kind in report.kinds) > 20
    assert report.n == offline.n and sum(kind.n for kind in report.kinds) == offline.n - failed
    assert report.within < offline.within and not report.passed
    kept = {kind.name: kind for kind in report.kinds}["identical"]
    assert (kept.direction, kept.landmark, kept.semantic) == (5, 5, 5) and kept.within == kept.n


def test_a_judge_without_any_verdict_does_not_pass() -> None:
    class Dead:
        name = "dead"

        def start(self, items: Sequence[RouteItem]) -> None:
            pass

        def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
            return [JudgeFailure(item.sample_id, "timeout", "", self.name) for item in items]

    report = check(Dead(), progress=False)
    assert not report.passed and report.within == 0 and report.rank is None
    assert report.failures == {"timeout": len(all_pairs())}
    assert "nothing to rank" in printed(report)


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: v[::-1]])
def test_a_judge_that_loses_or_mixes_verdicts_is_refused(
    change: Callable[[list[Judgement | JudgeFailure]], list[Judgement | JudgeFailure]],
) -> None:
    class Careless:
        name = "careless"

        def start(self, items: Sequence[RouteItem]) -> None:
            pass

        def __call__(self, items: Sequence[RouteItem]) -> list[Judgement | JudgeFailure]:
            return change(OfflineRubric()(items))

    judge: Judge = Careless()
    with pytest.raises(JudgeError, match=r"careless.*one verdict for each in their order"):
        check(judge, progress=False)


def pairs_of(base: str, *kinds: str) -> list[ValidityPair]:
    return [next(p for p in all_pairs() if p.base == base and p.kind == kind) for kind in kinds]


def test_rank_agreement_by_hand() -> None:
    """Four variants have six orders: identical is no less than paraphrase, and five are across tiers."""
    scores = {"identical": 4, "paraphrase": 5, "one_turn_flipped": 4, "wrong_route": 3}
    some = pairs_of("flat-keys", *scores)
    by_id = {pair.id: scores[pair.kind] for pair in some}
    report = check(ByRule("hand", lambda item: (by_id[item.sample_id],) * 3), progress=False, pairs=some)
    # The paraphrase stands above the reference itself: 0. The reference ties with one turn flipped: 0.5. Four hold.
    assert report.rank is not None
    assert (report.rank.share, report.rank.n, report.rank.bases) == (pytest.approx(4.5 / 6), 6, 1)


def printed(report: ValidityReport) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(render(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_tells_every_kind_and_the_verdict(offline: ValidityReport) -> None:
    text = printed(offline)
    assert all(kind in text for kind in KINDS)
    assert "offline-rubric-3" in text and "Injections paid: 0 of" in text and "Judge failures: none" in text
    assert text.rstrip().endswith("PASSED") and "NOT PASSED" not in text
    bad = printed(checked(always_best))
    assert "NOT PASSED" in bad and "flat-keys/asks_for_marks/0" in bad


def test_a_first_look_takes_every_kind_in_turn_and_has_no_verdict() -> None:
    pairs = first_pairs(len(KINDS) + 1)
    assert [pair.kind for pair in pairs[:-1]] == list(dict.fromkeys(p.kind for p in all_pairs()))
    assert pairs[-1].kind == pairs[0].kind and pairs[-1].id != pairs[0].id
    assert set(first_pairs(10_000)) == set(all_pairs())
    report = check(ByRule("best", always_best), pairs=pairs, progress=False)
    assert report.passed is None and to_json(report)["passed"] is None
    assert (
        printed(report)
        .rstrip()
        .endswith(f"NO VERDICT: {len(KINDS) + 1} of {len(all_pairs())} pairs were asked about.")
    )


def test_a_slow_pair_keeps_no_other_waiting() -> None:
    """The first request is answered when all others have come: no lot waits for the slowest of the one before."""
    pairs = first_pairs(120)
    others = sum(bool(pair.item.prediction.strip()) for pair in pairs) - 1
    came, all_came, waited = count(), threading.Event(), []

    def script(ask: object) -> str:
        number = next(came)
        if number == others:
            all_came.set()
        if number == 0:
            waited.append(all_came.wait(30))
        return "ok"

    with serve_judge(script=script) as server:
        judge = OpenAIJudge(parse_endpoint(f"openai:m@{server.url}"))
        report = check(judge, progress=False, pairs=pairs)
        judge.close()
    assert waited == [True] and report.failures == {}


def test_json_holds_the_whole_report(offline: ValidityReport) -> None:
    again = json.loads(json.dumps(to_json(offline)))
    assert again["passed"] is True and again["n"] == len(all_pairs()) and again["paid"] == []
    assert again["within"] == offline.within
    assert len(again["outside"]) == round((1 - offline.within) * offline.n)
    assert {kind["name"] for kind in again["kinds"]} == KINDS


def test_progress_is_shown_on_standard_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    check(get_judge("offline"), pairs=all_pairs()[:3])
    out, err = capfd.readouterr()
    assert out == "" and "offline-rubric-3" in err
