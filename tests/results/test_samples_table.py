"""A run's samples as a DataFrame: what a notebook opens a run for."""

from __future__ import annotations

import pandas as pd
import pytest
from report_record import choice_record, route_record

from egost.results.run import COLUMNS, Run, samples_table
from egost.tasks.scoring.choices import Choice
from egost.tasks.scoring.generation_notes import Generation

MADE = Generation("vllm", "org/model", None, {}, "length", True, 300, 8, None, False, None)


def test_one_row_a_sample_with_the_documented_columns() -> None:
    records = [
        choice_record(1, generation=MADE),
        choice_record(2, None),
        choice_record(3, 0.0, "landmark_reverse", choice=Choice(None, "ambiguous")),
        route_record(4, (5, 4, 0)),
    ]
    table = samples_table(records)
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COLUMNS
    assert list(table["sample_id"]) == [record.sample.id for record in records]
    first = table.iloc[0]
    assert (first["task"], first["kind"], first["way"]) == ("egost_direction_forward", "direction", "forward")
    assert (first["clip"], first["source"], first["n_options"]) == ("Part3/sun3d_1.mp4", "sun3d", 3)
    assert (first["choice"], first["answer"], first["score"], first["scored"]) == ("B", "B", 100.0, True)
    assert (first["truncated"], first["prompt_tokens"], first["completion_tokens"]) == (True, 300, 8)
    assert pd.isna(first["video_tokens"]) and pd.isna(first["direction"]) and pd.isna(first["reason"])
    unscored = table.iloc[1]
    assert pd.isna(unscored["score"]) and not unscored["scored"] and unscored["reason"] == "generation_failed"
    assert pd.isna(unscored["truncated"]) and pd.isna(table.iloc[2]["choice"])
    route = table.iloc[3]
    assert (route["direction"], route["landmark"], route["semantic"]) == (5, 4, 0)
    assert (route["n_options"], route["answer"], route["score"]) == (0, "Go left.", 60.0)


def test_no_samples_give_no_rows_but_all_columns() -> None:
    assert {name: str(dtype) for name, dtype in samples_table([]).dtypes.items()} == COLUMNS


def test_a_real_run_gives_its_figures(demo_run: Run) -> None:
    table = demo_run.dataframe()
    assert len(table) == len(demo_run.records)
    means = table.groupby("task")["score"].mean()
    for figure in demo_run.figures:
        if not figure.is_group:
            assert means[figure.name] == pytest.approx(figure.percent)
