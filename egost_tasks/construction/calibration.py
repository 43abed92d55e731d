"""The fourth step: checks all drafts, one by one and as a set, and decides which can be published.

It also measures how far two annotators of the same clips agree: Cohen's kappa (Cohen, 1960) over their steps, matched
by time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from egost.tasks.chat.calls import chosen_pacing
from egost.tasks.construction.annotations import Annotation, Step, Steps
from egost.tasks.construction.checks import (
    BlindRun,
    Cue,
    Finding,
    Letters,
    blind_cue,
    check_draft,
    check_set,
    may_mean,
    solved_blind,
)
from egost.tasks.construction.drafts import (
    Draft,
    Review,
    as_decided,
    decisions_in,
    drafts_sha256,
    read_reviews,
    write_reviews,
    written_drafts,
)
from egost.tasks.construction.workfolder import WorkFolder, cost_of, write_lines, write_object

TOLERANCE_S = 2.0
"""Two steps can be the same one when their times differ by this many seconds or less. This project's own rule."""

_MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two annotators on the forward routes of the clips that both annotated.

    kappa: Cohen's, of the directions of their steps; a step that only one of them has counts as a category of its own.
        None where all steps are of one category, since chance agreement is 1 then.
    same_direction: share of the steps with the same direction, 0 to 1. same_landmark: among the steps that both have
        and to which at least one gives a landmark, the share whose landmarks may mean the same; None without any.
    """

    annotators: tuple[str, str]
    clips: int
    steps: int
    kappa: float | None
    same_direction: float
    same_landmark: float | None


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    kept, dropped, pending: the drafts that can be published, those that cannot, and those that wait for a person; the
    last two with the reasons. cues: what the kept choices give away as a set. agreements: of each pair of annotators.
    unjudged: number of choices that the judge was asked about and could not judge, by reason.
    """

    kept: tuple[Draft, ...]
    dropped: tuple[tuple[Draft, tuple[Finding, ...]], ...]
    pending: tuple[tuple[Draft, tuple[Finding, ...]], ...]
    cues: tuple[Cue, ...]
    agreements: tuple[Agreement, ...]
    unjudged: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether there are drafts to publish and the set does not give its answers away."""
        return bool(self.kept) and not any(cue.found for cue in self.cues)


def calibrate(folder: WorkFolder, *, blind: Sequence[BlindRun] = (), judge: str | None = None) -> Calibration:
    """Check all drafts of a working folder, write the findings into it and return them.

    blind: runs of models that saw no frame, on a release that was published from this folder. judge: a server (see
    `model_calls.find_endpoint`) that is asked which options are right by the steps.
    A decision in `review.jsonl` counts while its draft is the same: an accepted or edited draft is kept although there
    are findings for review, but never although there are findings that drop it.
    Raises ConstructionError and CacheError.
    """
    with folder.step("calibration"):
        drafts = written_drafts(folder)
        decisions = decisions_in(read_reviews(folder))
        by_clip: dict[str, list[Annotation]] = defaultdict(list)
        for annotation in folder.annotations.all():
            by_clip[annotation.clip].append(annotation)
        current = {draft.id: as_decided(draft, decisions) for draft in drafts}
        runs = [(run.name, run.letters(list(current.values()))) for run in blind]
        findings = _findings(folder, current, by_clip, [letters for _, letters in runs])
        unjudged = _judge(folder, judge, current, by_clip, findings)
        kept, dropped, pending, reviewed = [], [], [], []
        for draft in drafts:
            found = findings[draft.id]
            decision = decisions.get(draft)
            drops = [finding for finding in found if finding.verdict == "drop"]
            if decision and decision.verdict == "reject":
                drops = [*drops, Finding("rejected", "drop", "a person rejected it.")]
            if drops:
                dropped.append((draft, tuple(drops)))
            elif found and not decision:
                pending.append((draft, tuple(found)))
            else:
                kept.append(current[draft.id])
            # A draft with a decision stays on the page, even where nothing is wrong with it any more.
            if decision or (found and not drops):
                reviewed.append(Review(draft, tuple((f.name, f.message) for f in found), decision))
        cues = check_set(kept)
        cues += [blind_cue(name, said, kept) for name, said in runs if any(d.id in said for d in kept)]
        result = Calibration(
            tuple(kept),
            tuple(dropped),
            tuple(pending),
            tuple(cues),
            tuple(agreements(a for found in by_clip.values() for a in found)),
            unjudged,
        )
        write_lines(
            folder.dropped, [{**asdict(d), "reasons": [asdict(f) for f in found]} for d, found in dropped]
        )
        write_reviews(folder, reviewed)
        write_lines(folder.kept, kept)
        cost = asdict(cost_of(folder.judge_replies))
        write_object(folder.calibration, {**_report(result, drafts), "judge": judge, "judge_cost": cost})
    return result


def _report(result: Calibration, drafts: Sequence[Draft]) -> dict[str, Any]:
    """The content of `calibration.json`, without the judge."""

    def by_task(found: Sequence[Draft]) -> dict[str, int]:
        return dict(sorted(Counter(f"{draft.task}_{draft.way}" for draft in found).items()))

    def reasons(found: Sequence[tuple[Draft, tuple[Finding, ...]]]) -> dict[str, int]:
        counts = Counter(name for _, findings in found for name in {f.name for f in findings})
        return dict(sorted(counts.items()))

    return {
        "questions_sha256": drafts_sha256(drafts),
        "kept_sha256": drafts_sha256(result.kept),
        "passed": result.passed,
        "drafts": by_task(drafts),
        "kept": by_task(result.kept),
        "dropped": reasons(result.dropped),
        "pending": reasons(result.pending),
        "cues": [asdict(cue) for cue in result.cues],
        "agreements": [asdict(agreement) for agreement in result.agreements],
        "unjudged": result.unjudged,
    }


def _findings(
    folder: WorkFolder,
    current: Mapping[str, Draft],
    by_clip: Mapping[str, list[Annotation]],
    runs: Sequence[Letters],
) -> dict[str, list[Finding]]:
    clips = folder.clips()
    findings = {}
    for name, draft in current.items():
        steps = by_clip.get(draft.clip, []) if draft.clip in clips else []
        doubt = solved_blind(runs, draft)
        findings[name] = check_draft(draft, steps, current) + ([doubt] if doubt else [])
    return findings


def _judge(
    folder: WorkFolder,
    judge: str | None,
    current: dict[str, Draft],
    by_clip: dict[str, list[Annotation]],
    findings: dict[str, list[Finding]],
) -> dict[str, int]:
    if judge is None:
        return {}
    # Here, since the client takes seconds to import and only the judge needs it.
    from egost.tasks.construction.model_calls import find_endpoint, judge_choices

    sound = [d for name, d in current.items() if not any(f.verdict == "drop" for f in findings[name])]
    steps = {(a.clip, a.annotator): a for found in by_clip.values() for a in found}
    endpoint = find_endpoint(judge, "--judge")
    objections, failed = judge_choices(sound, steps, endpoint, folder.judge_replies, chosen_pacing())
    for name, finding in objections.items():
        findings[name].append(finding)
    return dict(sorted(Counter(failed).items()))


def agreements(annotations: Iterable[Annotation]) -> list[Agreement]:
    """The agreement of each pair of annotators who share a clip."""
    by_clip: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        by_clip[annotation.clip].append(annotation)
    shared: dict[tuple[str, str], list[tuple[Annotation, Annotation]]] = defaultdict(list)
    for found in by_clip.values():
        for a, b in combinations(sorted(found, key=lambda annotation: annotation.annotator), 2):
            shared[a.annotator, b.annotator].append((a, b))
    return [_agreement(pair, clips) for pair, clips in sorted(shared.items())]


def matched(first: Steps, second: Steps) -> list[tuple[Step | None, Step | None]]:
    """The steps of two routes in pairs, in their order; None where one of them has no step at that time.

    The matching keeps the order, has as many pairs within `TOLERANCE_S` as possible and, among those, the nearest.
    """
    best: dict[tuple[int, int], tuple[int, float]] = {}
    for i in range(len(first), -1, -1):
        for j in range(len(second), -1, -1):
            options = [(0, 0.0)]
            if i < len(first):
                options.append(best[i + 1, j])
            if j < len(second):
                options.append(best[i, j + 1])
            if i < len(first) and j < len(second):
                apart = abs(first[i].time_s - second[j].time_s)
                if apart <= TOLERANCE_S:
                    count, nearness = best[i + 1, j + 1]
                    options.append((count + 1, nearness - apart))
            best[i, j] = max(options)
    pairs: list[tuple[Step | None, Step | None]] = []
    i = j = 0
    while i < len(first) or j < len(second):
        if i < len(first) and best[i, j] == best[i + 1, j]:
            pairs.append((first[i], None))
            i += 1
        elif j < len(second) and best[i, j] == best[i, j + 1]:
            pairs.append((None, second[j]))
            j += 1
        else:
            pairs.append((first[i], second[j]))
            i, j = i + 1, j + 1
    return pairs


def _agreement(annotators: tuple[str, str], clips: Sequence[tuple[Annotation, Annotation]]) -> Agreement:
    from sklearn.metrics import cohen_kappa_score  # 2.5 s of CPU

    pairs = [pair for a, b in clips for pair in matched(a.forward, b.forward)]
    said = [tuple(_MISSING if step is None else step.direction for step in pair) for pair in pairs]
    ours, theirs = [pair[0] for pair in said], [pair[1] for pair in said]
    named = [(a.landmark, b.landmark) for a, b in pairs if a and b and (a.landmark or b.landmark)]
    alike = [bool(a and b) and may_mean(a, b) for a, b in named]
    constant = len(set(ours) | set(theirs)) == 1
    return Agreement(
        annotators,
        len(clips),
        len(pairs),
        None if constant else float(cohen_kappa_score(ours, theirs)),
        sum(a == b for a, b in said) / len(said),
        sum(alike) / len(alike) if alike else None,
    )
