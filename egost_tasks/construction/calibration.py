"""The fourth step: checks all drafts, one by one and as a set, and decides which can be published."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from egost.tasks.construction.agreement import Agreement, agreements
from egost.tasks.construction.annotations import Annotation
from egost.tasks.construction.costs import cost_of
from egost.tasks.construction.drafts import Draft, drafts_sha256, written_drafts
from egost.tasks.construction.option_checks import Finding, check_draft
from egost.tasks.construction.review import (
    as_decided,
    decision_on,
    read_decisions,
    review_of,
    write_reviews,
)
from egost.tasks.construction.set_checks import BlindRun, Cue, Letters, blind_cue, check_set, solved_blind
from egost.tasks.construction.workfolder import WorkFolder, write_lines, write_object


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
    `openai_writer.find_endpoint`) that is asked which options are right by the steps.
    A decision in `review.jsonl` counts while its draft is the same: an accepted or edited draft is kept although there
    are findings for review, but never although there are findings that drop it.
    Raises ConstructionError, WriterError and CacheError.
    """
    with folder.step("calibration"):
        drafts = written_drafts(folder)
        decisions = read_decisions(folder)
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
            decision = decision_on(draft, decisions)
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
                reviewed.append(review_of(draft, found, decisions))
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
    # Here, since the client takes seconds to import and only a judge needs it.
    from egost.tasks.chat.calls import chosen_pacing
    from egost.tasks.chat.usage import Tally
    from egost.tasks.construction.openai_writer import find_endpoint
    from egost.tasks.construction.option_judge import judge_choices

    sound = [d for name, d in current.items() if not any(f.verdict == "drop" for f in findings[name])]
    steps = {(a.clip, a.annotator): a for found in by_clip.values() for a in found}
    endpoint = find_endpoint(judge, "--judge")
    objections, failed = judge_choices(sound, steps, endpoint, folder.judge_replies, chosen_pacing(), Tally())
    for name, finding in objections.items():
        findings[name].append(finding)
    return dict(sorted(Counter(item.reason for item in failed.values()).items()))
