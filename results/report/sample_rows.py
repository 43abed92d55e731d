"""What the page shows of each sample, as plain values that become its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from egost.results.records import SampleRecord
from egost.tasks.judging.judge import Judgement
from egost.tasks.sample import TASK_KINDS

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.IGNORECASE | re.DOTALL)
_THINKING_WITHOUT_START = re.compile(r"^(?:(?!<think).)*?</think(?:ing)?>", re.IGNORECASE | re.DOTALL)


def sample_rows(a: Sequence[SampleRecord], b: Sequence[SampleRecord] | None) -> list[dict[str, Any]]:
    """One row for each sample: of one run in the run's order, of two with the greatest changes first.

    a, b: records of either run; a sample that one of them lacks comes last. Changes of the same size stand in the order
    of the paper's tasks.
    """
    if b is None:
        return [{**_asked(record), "a": _answered(record), "b": None, "change": None} for record in a]
    first, second = ({record.sample.id: record for record in run} for run in (a, b))
    rows = [_pair(first.get(name), second.get(name)) for name in dict.fromkeys([*first, *second])]
    return sorted(rows, key=lambda row: (-_weight(row), _place(row["task"])))


def outcome(record: SampleRecord) -> str:
    """What became of a sample, in one word.

    `right` (100 %), `wrong` (0 %), `partly` (a route between), `invalid` (a reply that names no offered letter, which
    counts as wrong) or `unscored`.
    """
    if record.percent is None:
        return "unscored"
    if record.choice is not None and record.choice.letter is None:
        return "invalid"
    if record.percent in (0, 100):
        return "right" if record.percent else "wrong"
    return "partly"


def frame_hashes(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Hashes of the clips' pixels that the rows' runs saw, in the order of the rows."""
    return [
        row[run]["frames"]["sha"] for row in rows for run in ("a", "b") if row[run] and row[run]["frames"]
    ]


def folded(response: str) -> list[list[Any]]:
    """The response in pieces [is thinking, text], which joined are the response as it came."""
    found = [match.span() for match in _THINKING.finditer(response)]
    if opened_by_template := _THINKING_WITHOUT_START.match(response):
        found = [opened_by_template.span(), *(span for span in found if span[0] >= opened_by_template.end())]
    pieces: list[list[Any]] = []
    end = 0
    for start, stop in found:
        pieces += [[False, response[end:start]], [True, response[start:stop]]]
        end = stop
    return [piece for piece in [*pieces, [False, response[end:]]] if piece[1]]


def _pair(a: SampleRecord | None, b: SampleRecord | None) -> dict[str, Any]:
    known = a or b
    assert known
    change = None
    if a and b and a.percent is not None and b.percent is not None:
        change = b.percent - a.percent
    return {
        **_asked(known),
        "a": _answered(a) if a else None,
        "b": _answered(b) if b else None,
        "change": change,
    }


def _weight(row: dict[str, Any]) -> float:
    """How early a sample of two runs comes: flips, then what one of them has no score for, then the rest."""
    if row["change"] is not None:
        return float(abs(row["change"]))
    if row["a"] and row["b"]:
        return 0.5 if row["a"]["outcome"] != row["b"]["outcome"] else 0.0
    return -1.0


def _place(task: str) -> int:
    """Of a task's kind in the order of the paper's Table 1."""
    return next(place for place, kind in enumerate(TASK_KINDS) if f"_{kind}_" in task)


def _asked(record: SampleRecord) -> dict[str, Any]:
    sample = record.sample
    return {
        "id": sample.id,
        "task": record.task,
        "source": sample.source,
        "clip": record.cluster,
        "question": sample.question,
        "options": sample.options,
        "answer": sample.answer,
        "route": sample.task == "route",
    }


def _answered(record: SampleRecord) -> dict[str, Any]:
    return {
        "outcome": outcome(record),
        "percent": record.percent,
        "compat": record.compat,
        "unscored": record.unscored,
        "clip_error": record.clip_error,
        "prompt": record.prompt,
        "response": folded(record.response),
        "letter": record.choice.letter if record.choice else None,
        "how": record.choice.how if record.choice else None,
        "judged": _judged(record),
        "frames": _frames(record),
        "generation": _generation(record),
    }


def _judged(record: SampleRecord) -> dict[str, Any] | None:
    if record.judgement is None:
        return None
    if isinstance(record.judgement, Judgement):
        judged = record.judgement
        return {
            "judge": judged.snapshot or judged.judge,
            "scores": [judged.direction, judged.landmark, judged.semantic],
            "text": judged.reasons,
            "repeats": judged.repeats,
            "votes": [(vote.judge, vote.scores or vote.failed) for vote in judged.votes],
        }
    failed = record.judgement
    return {"judge": failed.judge, "failure": failed.reason, "text": failed.text}


def _frames(record: SampleRecord) -> dict[str, Any] | None:
    if (seen := record.frames) is None:
        return None
    return {
        "sha": seen.pixels_sha256,
        "times": [round(seconds, 2) for seconds in seen.timestamps],
        "indices": seen.indices,
        "protocol": seen.protocol,
        "told": f"{seen.width} x {seen.height} pixels, of {seen.n_frames} frames in {seen.duration:.1f} s",
    }


def _generation(record: SampleRecord) -> dict[str, Any] | None:
    if (made := record.generation) is None:
        return None
    return {
        "engine": made.engine,
        "finish": made.finish_reason,
        "truncated": made.truncated,
        "tokens": [made.prompt_tokens, made.completion_tokens, made.video_tokens],
        "failure": made.failure,
    }
