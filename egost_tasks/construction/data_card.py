"""The data card of a published benchmark: what is in it, where it comes from, how it was checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

from egost.tasks.construction.cutting import CUTTING_VERSION
from egost.tasks.construction.drafts import Draft, drafts_sha256
from egost.tasks.construction.question_step import TEMPLATES
from egost.tasks.construction.workfolder import ClipRow

NO_LICENCE = "not given"


def card_of(
    name: str, revision: str, drafts: Sequence[Draft], clips: Mapping[str, ClipRow], report: Mapping[str, Any]
) -> dict[str, Any]:
    """The card as plain values.

    drafts: what is published. clips: the rows of their clips. report: of the calibration.
    """
    choices = [draft for draft in drafts if draft.options]
    seconds = [row.duration_s for row in clips.values()]
    licences: dict[str, set[str]] = {}
    for row in clips.values():
        licences.setdefault(row.source, set()).add(row.licence or NO_LICENCE)
    return {
        "name": name,
        "revision": revision,
        "questions_sha256": drafts_sha256(drafts),
        "questions": len(drafts),
        "clips": len(clips),
        "by_task": _counts(f"{draft.task}_{draft.way}" for draft in drafts),
        "by_source": _counts(clips[draft.clip].source for draft in drafts),
        "by_scene": _counts(draft.scene for draft in drafts),
        "by_number_of_options": _counts(str(len(draft.options)) for draft in choices),
        "by_right_letter": _counts(draft.answer for draft in choices),
        "by_writer": _counts(draft.writer for draft in drafts),
        "snapshots": sorted({draft.snapshot for draft in choices if draft.snapshot}),
        "clips_by_source": _counts(row.source for row in clips.values()),
        "clips_by_scene": _counts(row.scene for row in clips.values()),
        "lengths_s": {
            "shortest": min(seconds),
            "median": median(seconds),
            "longest": max(seconds),
            "total": round(sum(seconds), 3),
        },
        "licences": {source: sorted(found) for source, found in sorted(licences.items())},
        "annotators": len({draft.annotator for draft in drafts}),
        "agreements": [
            {name: value for name, value in agreement.items() if name != "annotators"}
            for agreement in report["agreements"]
        ],
        "left_out": {"dropped": report["dropped"], "waiting for a person": report["pending"]},
        "checks": report["cues"],
        "findings": [f"{cue['name']} ({cue['of']})" for cue in report["cues"] if cue["found"]],
        "versions": {
            "egost": version("egost"),
            "cutting": CUTTING_VERSION,
            "templates": TEMPLATES,
            "av": version("av"),
        },
    }


def card_text(card: Mapping[str, Any]) -> str:
    """The card for people, as Markdown."""
    lengths = card["lengths_s"]
    lines = [
        f"# {card['name']}",
        "",
        f"{card['questions']} questions about {card['clips']} first-person clips, in the layout of Ego-ST Bench "
        "(arXiv 2503.12542). It is not that benchmark: figures on it stand beside no published figure.",
        "",
        f"Revision: `{card['revision']}`. Clips of {lengths['shortest']:.1f} to {lengths['longest']:.1f} s, median "
        f"{lengths['median']:.1f} s, {lengths['total'] / 60:.1f} min in all.",
        "",
    ]
    tables = {
        "Task": "by_task",
        "Source": "by_source",
        "Scene": "by_scene",
        "Options of a choice": "by_number_of_options",
        "Right letter": "by_right_letter",
        "Writer": "by_writer",
    }
    for title, key in tables.items():
        lines += _table((title, "questions"), card[key].items())
    lines += _table(
        ("Source", "clips", "licence"),
        [(source, n, ", ".join(card["licences"][source])) for source, n in card["clips_by_source"].items()],
    )
    lines += ["## Checks", ""]
    lines += _table(
        ("Guesser without a frame", "of", "questions", "right", "interval", "chance", "gives answers away"),
        [_check_row(check) for check in card["checks"]],
    )
    if card["agreements"]:
        lines += _table(
            ("Two annotators", "clips", "steps", "Cohen's kappa", "same direction", "same landmark"),
            [
                (
                    number,
                    agreement["clips"],
                    agreement["steps"],
                    _figure(agreement["kappa"], 2),
                    _percent(agreement["same_direction"]),
                    _percent(agreement["same_landmark"]),
                )
                for number, agreement in enumerate(card["agreements"], 1)
            ],
        )
    versions = ", ".join(f"{name} {value}" for name, value in card["versions"].items())
    lines += [f"Made with: {versions}.", ""]
    return "\n".join(lines)


def _check_row(check: Mapping[str, Any]) -> tuple[object, ...]:
    interval = "too few clips"
    if check["accuracy"] is not None:
        interval = f"{_percent(check['low'])} to {_percent(check['high'])}"
    return (
        check["name"],
        check["of"],
        check["questions"],
        _percent(check["accuracy"]),
        interval,
        _percent(check["chance"]),
        "**yes**" if check["found"] else "no" if check["accuracy"] is not None else "not known",
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return [*(f"| {line} |" for line in lines), ""]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
