"""The samples of a run as a pandas DataFrame, one row each: `read_run(path).dataframe()`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from egost.results.records import SampleRecord
from egost.tasks.judging.judge import Judgement

COLUMNS = {
    "task": "string",
    "kind": "category",
    "way": "category",
    "sample_id": "string",
    "clip": "string",
    "source": "category",
    "n_options": "int64",
    "question": "string",
    "answer": "string",
    "response": "string",
    "choice": "string",
    "score": "float64",
    "compat": "float64",
    "scored": "bool",
    "reason": "string",
    "direction": "Int64",
    "landmark": "Int64",
    "semantic": "Int64",
    "truncated": "boolean",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "video_tokens": "Int64",
}
"""The columns in their order, with their dtypes."""


def samples_table(records: Sequence[SampleRecord]) -> pd.DataFrame:
    """One row for each record, in their order, with the columns and dtypes of `COLUMNS`; what is unknown is NA.

    task: registered name (`egost_direction_reverse`); kind, way: its parts. sample_id: unique within a run.
    clip: part and file (`Part1/128.mp4`), the unit to cluster by; source: where it was recorded. n_options: 0 for a
    route. answer: the right letter, or the reference route. response: as it came, with its thinking.
    choice: the letter that the response names, NA for none. score: the headline score, 0 to 100, NaN where unscored;
    compat: by the reference code's rules. scored: whether there is a score; reason: why there is none.
    direction, landmark, semantic: the judge's scores of a route, 0 to 5. truncated: whether the response was cut at
    max_new_tokens. prompt_tokens, completion_tokens, video_tokens: as far as the engine tells them.
    """
    table = pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))
    return table.astype(COLUMNS)


def _row(record: SampleRecord) -> dict[str, Any]:
    sample, made = record.sample, record.generation
    judged = record.judgement if isinstance(record.judgement, Judgement) else None
    return {
        "task": record.task,
        "kind": sample.task,
        "way": sample.way,
        "sample_id": sample.id,
        "clip": record.cluster,
        "source": sample.source,
        "n_options": len(sample.options),
        "question": sample.question,
        "answer": sample.answer,
        "response": record.response,
        "choice": record.choice.letter if record.choice else None,
        "score": record.percent,
        "compat": record.compat,
        "scored": record.percent is not None,
        "reason": record.unscored,
        **{aspect: getattr(judged, aspect, None) for aspect in ("direction", "landmark", "semantic")},
        **{name: getattr(made, name, None) for name in ("truncated", "prompt_tokens", "completion_tokens")},
        "video_tokens": made.video_tokens if made else None,
    }
