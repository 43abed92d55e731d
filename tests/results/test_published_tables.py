"""The published figures are the paper's, and hang together as the paper says they do."""

from __future__ import annotations

import pytest

from egost.results.published_tables import ROUNDING, TABLES, TableNumber, published_table

MISPRINTED = {
    ("Qwen2-VL-7B", "avg_forward"),
    ("Qwen2.5-VL-7B", "avg_reverse"),
    ("Qwen2.5-VL-72B", "avg_forward"),
    ("LLaVA-OneVision-72B", "avg_reverse"),
}
"""Route means of Table 2 that differ by more than rounding from the means of their D, L and S."""


@pytest.mark.parametrize("number", TABLES)
def test_each_printed_mean_is_the_mean_of_its_parts_but_for_the_marked_ones(number: TableNumber) -> None:
    table = published_table(number)
    found = {
        (row.model, column)
        for row in table.rows
        for column in table.aggregates
        # A ten-thousandth more, for what binary fractions lose.
        if abs(table.recomputed(row, column) - row.figures[column]) > ROUNDING + 1e-4
    }
    marked = {(row.model, column) for row in table.rows for column in row.misprinted}
    assert found == marked == (MISPRINTED if number == 2 else set())


@pytest.mark.parametrize(("number", "rows", "columns"), [(1, 10, 10), (2, 10, 8), (3, 10, 8), (4, 4, 6)])
def test_all_rows_and_columns_are_there(number: TableNumber, rows: int, columns: int) -> None:
    table = published_table(number)
    assert (table.number, len(table.rows), len(table.columns)) == (number, rows, columns)
    assert f"Table {number}" in table.source
    assert all(0 < figure <= 100 for row in table.rows for figure in row.figures.values())


def test_the_averages_of_table_1_are_rounded_means_in_all_ten_rows() -> None:
    table = published_table(1)
    for row in table.rows:
        for column in ("avg_st", "avg_total"):
            # The parts have one decimal, so that a mean of them can end in 5 and be rounded either way.
            assert row.figures[column] == pytest.approx(table.recomputed(row, column), abs=0.0501), row.model


def test_the_routes_of_table_1_are_the_averages_of_table_2() -> None:
    aspects = {row.model: row.figures for row in published_table(2).rows}
    for row in published_table(1).rows:
        routes = (row.figures["route_forward"], row.figures["route_reverse"])
        assert routes == (aspects[row.model]["avg_forward"], aspects[row.model]["avg_reverse"])


def test_a_marked_mean_is_published_as_printed() -> None:
    [row] = [row for row in published_table(2).rows if row.model == "Qwen2-VL-7B"]
    assert row.figures["avg_forward"] == 31.0
    assert published_table(2).recomputed(row, "avg_forward") == pytest.approx(30.87, abs=0.01)


def test_closed_models_carry_the_day_they_were_asked() -> None:
    dates = {row.model: row.tested for row in published_table(1).rows}
    closed = {"Openai-o3-mini", "Gemini-2.0 Flash", "Gemini-1.5 Pro"}
    assert {model for model, day in dates.items() if day == "2025-03-07"} == closed
    assert {model for model, day in dates.items() if not day} == set(dates) - closed


def test_st_r1_of_all_rows_is_the_last_of_table_3() -> None:
    last = published_table(3).rows[-1]
    assert (last.model, last.labels["training"]) == ("ST-R1", "630/3582")
    assert (last.figures["avg_forward"], last.figures["avg_reverse"]) == (86.3, 86.1)
