"""Sample records made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from egost.results.records import SampleRecord
from egost.tasks.clips.manifest import ClipManifest
from egost.tasks.judging.judge import Judgement
from egost.tasks.sample import Sample
from egost.tasks.scoring.choices import Choice

FRAMES = ClipManifest(
    source="x.mp4",
    source_sha256="0" * 64,
    protocol="uniform8",
    n_frames=80,
    counted_by="packets",
    expected_frames=80,
    complete=True,
    indices=(0, 11, 22, 33, 45, 56, 67, 79),
    timestamps=(0.0, 1.1, 2.2, 3.3, 4.5, 5.6, 6.7, 7.9),
    duration=8.0,
    width=112,
    height=112,
    source_width=112,
    source_height=112,
    rotation=0,
    pixels_sha256="f" * 64,
    decoder="pyav",
    decoder_version="15.1.0",
)


def choice_record(
    key: int, percent: float | None = 100.0, task: str = "direction_forward", **changes: Any
) -> SampleRecord:
    """A multiple-choice sample about a clip of its own, `sun3d_KEY.mp4`; the right answer of three is B."""
    kind, way = task.split("_")
    sample = Sample(f"Part3/{task}/{key}", kind, way, 3, f"sun3d_{key}.mp4", "Which?", ("x", "y", "z"), "B")  # type: ignore[arg-type]
    letter = {100.0: "B", 0.0: "A", None: None}[percent]
    made = SampleRecord(
        task=f"egost_{task}",
        world="official",
        sample=sample,
        prompt="Which? A. x B. y C. z",
        response=str(letter),
        percent=percent,
        compat=percent or 0.0,
        unscored="generation_failed" if percent is None else None,
        choice=Choice(letter, "letter") if letter else None,
        judgement=None,
        frames=FRAMES,
        clip_error=None,
        generation=None,
    )
    return replace(made, **changes)


def route_record(key: int, scores: tuple[int, int, int], way: str = "forward") -> SampleRecord:
    """A route description with the judge's scores."""
    base = choice_record(key)
    name = f"Part3/route_{way}/{key}"
    judged = Judgement(name, *scores, "because", "judge-1")
    sample = replace(base.sample, id=name, task="route", way=way, options=(), answer="Go left.")
    return replace(
        base,
        task=f"egost_route_{way}",
        sample=sample,
        response="Left.",
        percent=judged.percent,
        compat=judged.percent,
        choice=None,
        judgement=judged,
    )
