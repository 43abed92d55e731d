"""`egost regress`: hold a run against its baseline, for CI."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egost.commands.front import console, say, says_what_to_do
from egost.tasks.errors import visible

if TYPE_CHECKING:
    from egost.results.gate.regression import Change, Drop, MovedSample, Stage, Verdict

_MEANING: dict[Stage, str] = {
    "data": "other questions, answers or clip files: another release, a changed file, --limit, EGOST_TRAINED_ON.",
    "frames": "other frames of the same files: the sampling, EGOST_PROTOCOL, EGOST_DECODER, the decoder's version.",
    "prompt": "the same frames, asked otherwise: the wording, EGOST_PROMPT, --gen_kwargs.",
    "model": "asked the same, another reply: the weights, the engine, its packages, the machine.",
    "scoring": "the same reply, another score: the parser, the judge.",
    "aggregation": "the samples' scores do not give the figures: the means, their weights, what they leave out.",
}

_SHOWN = 3
_WIDTH = 70


class Format(StrEnum):
    text = "text"
    json = "json"
    junit = "junit"


@says_what_to_do
def regress(
    run: Annotated[Path, typer.Argument(help="An --output_path of lmms-eval; its newest run counts.")],
    baseline: Annotated[Path, typer.Option(help="File of the baseline; --update writes it.")],
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Points by which a score may fall. Without it, every response must be what it was. With it, "
            "responses may differ; data, frames, prompts and scoring may not.",
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Show what has moved and make the run the baseline.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Show all samples that moved, not {_SHOWN} a stage.")
    ] = False,
    form: Annotated[
        Format,
        typer.Option("--format", help="For programs: json (all that moved), junit (for a CI's pages)."),
    ] = Format.text,
) -> None:
    """Say whether a run has moved away from its baseline, and what has moved it.

    Names data, frames, prompt, model, scoring or aggregation, and the samples. Exit code 0 when nothing has moved, or
    no further than --tolerance allows; 1 when it has; 2 when that is unknown.
    """
    from egost.results.gate.baseline import baseline_of
    from egost.results.gate.baseline_file import read_baseline, write_baseline
    from egost.results.gate.regression import regression
    from egost.results.run import read_run
    from egost.results.run_header import RunError

    if update and form != Format.text:
        raise typer.BadParameter("--update writes a baseline; leave --format out.")
    now = baseline_of(read_run(run))
    try:
        was = read_baseline(baseline)
    except RunError as error:
        if not update:
            raise
        _say(f"no comparison: {error}" if baseline.exists() else f"{baseline} is new")
    else:
        verdict = regression(was, now, None if update else tolerance)
        if form == Format.json:
            say(_as_json(verdict, tolerance))
        elif form == Format.junit:
            say(_as_junit(verdict, tolerance))
        else:
            for line in _report(verdict, tolerance, everything):
                _say(line)
        if not update:
            raise typer.Exit(int(verdict.failed))
    write_baseline(baseline, now)
    _say(f"{baseline}: {len(now.records)} samples of {len(now.tasks)} tasks are the baseline from now on")


def _say(line: str) -> None:
    console.print(line)


def _as_json(verdict: Verdict, tolerance: float | None) -> str:
    from egost.tasks.json_text import without_nan

    summary = {"failed": verdict.failed, "moved": verdict.moved, "tolerance": tolerance}
    return json.dumps(without_nan({**summary, **asdict(verdict)}), indent=1)


def _as_junit(verdict: Verdict, tolerance: float | None) -> str:
    """A case for each stage, and one for each score where a tolerance was given."""
    from xml.etree import ElementTree

    from egost.results.gate.regression import STAGES

    faults: dict[tuple[str, str], str] = {("stage", stage): "" for stage in STAGES}
    faults |= {("stage", stage): "\n".join(_of_stage(verdict, stage, False)) for stage in verdict.not_allowed}
    faults |= {("score", drop.name): _of_drop(drop) if drop.too_far else "" for drop in verdict.drops}
    faults |= {("score", task): "too many samples are unscored" for task in verdict.unpublishable}
    failures = str(sum(map(bool, faults.values())))
    suite = ElementTree.Element(
        "testsuite", name="egost regress", tests=str(len(faults)), failures=failures, errors="0"
    )
    for (kind, name), fault in faults.items():
        case = ElementTree.SubElement(suite, "testcase", classname=f"egost.{kind}", name=visible(name))
        if fault:
            failure = ElementTree.SubElement(case, "failure", message=_last_line(verdict, tolerance))
            failure.text = visible(fault)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode")


def _report(verdict: Verdict, tolerance: float | None, everything: bool) -> Iterator[str]:
    for stage in verdict.moved:
        yield from _of_stage(verdict, stage, everything)
        yield ""
    if verdict.figures:
        yield "figures"
        for figure in verdict.figures:
            yield f"  {figure.name} {figure.metric}: {_number(figure.was)} -> {_number(figure.now)}"
    if verdict.drops:
        yield f"scores, sample by sample, with 95 % intervals over clips; allowed: {tolerance:g} points down"
        still = [drop for drop in verdict.drops if not drop.difference.wins + drop.difference.losses]
        yield from (_of_drop(drop) for drop in verdict.drops if drop not in still)
        if still:
            yield f"  no score moved in {', '.join(drop.name for drop in still)}"
    for task in verdict.unpublishable:
        yield f"too many samples of {task} are unscored"
    if verdict.notes and verdict.moved:
        yield "also different"
        yield from (f"  {note}" for note in verdict.notes)
    yield _last_line(verdict, tolerance)


def _last_line(verdict: Verdict, tolerance: float | None) -> str:
    named = " and ".join(verdict.moved)
    compared = f"{verdict.compared} samples compared"
    if verdict.failed:
        return f"REGRESSION: {named or 'no stage'} moved ({compared})"
    if verdict.moved:
        return f"ok: {named} moved, within {tolerance:g} points ({compared})"
    return f"ok: nothing moved ({compared})"


def _of_stage(verdict: Verdict, stage: Stage, everything: bool) -> Iterator[str]:
    yield f"{stage.upper()}: {_MEANING[stage]}"
    for change in (*verdict.settings, *verdict.groups):
        if change.stage == stage:
            yield f"  {_of_change(change)}"
    if stage == "aggregation":
        for wrong in verdict.miscounts:
            yield (
                f"  {wrong.name} {wrong.metric}: stored {_number(wrong.stored)}, its samples give "
                f"{_number(wrong.counted)}"
            )
    yield from _of_samples("samples", [s for s in verdict.samples if s.stage == stage], everything)
    if stage == "scoring":
        yield from _of_samples(
            "replies of the baseline, scored again by what is installed", verdict.rescored, everything
        )


def _of_samples(what: str, samples: Sequence[MovedSample], everything: bool) -> Iterator[str]:
    if not samples:
        return
    yield f"  {len(samples)} {what}, of {len({sample.clip for sample in samples})} clips"
    shown = samples if everything else samples[:_SHOWN]
    for sample in shown:
        yield f"    {sample.task} {sample.sample}  {sample.clip}  {_pixels(sample)}"
        for change in sample.changes:
            if change.what != "pixels":
                yield f"      {_of_change(change)}"
    if len(shown) < len(samples):
        yield f"    and {len(samples) - len(shown)} more: --all"


def _pixels(sample: MovedSample) -> str:
    was, now = ("none" if pixels is None else pixels[:12] for pixels in sample.pixels)
    return f"frames {was}" if was == now else f"frames {was} -> {now}"


def _of_change(change: Change) -> str:
    was, now = _around_difference(change.was, change.now)
    return f"{change.what}: {was} -> {now}"


def _around_difference(was: str, now: str) -> tuple[str, str]:
    """Both texts where they begin to differ, on one line and quoted where they are longer than a word."""
    same = next(
        (i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now))
    )
    start = max(0, same - _WIDTH // 3) if max(len(was), len(now)) > _WIDTH else 0
    shown = []
    for text in (was, now):
        cut = text[start : start + _WIDTH]
        part = ("..." if start else "") + cut + ("..." if start + _WIDTH < len(text) else "")
        shown.append(part if part.isalnum() else repr(part))
    return shown[0], shown[1]


def _of_drop(drop: Drop) -> str:
    from egost.results.intervals import p_text

    gap = drop.difference
    too_far = "too far" if drop.too_far else ""
    return (
        f"  {drop.name}: {gap.value:+.1f} ({gap.low:+.1f} to {gap.high:+.1f}, p {p_text(gap.p_value)}), "
        f"{gap.wins} better, {gap.losses} worse of {gap.n}  {too_far}"
    ).rstrip()


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.2f}".rstrip("0").rstrip(".")
