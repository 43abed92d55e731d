"""A leaderboard as Markdown, CSV, LaTeX, JSON or an HTML page, or one model's figures as the hub reads them.

Markdown, LaTeX and HTML show a `Sheet`: a table as texts in rows and columns. CSV and JSON hold the figures themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Literal

from egost.results.leaderboard.rows import OWN_PROTOCOL
from egost.results.leaderboard.sheets import HOW, Field, Sheet, remarks, sheet
from egost.results.leaderboard.tables import Board, Leaderboard
from egost.results.run_header import RunError
from egost.tasks.json_text import without_nan
from egost.tasks.release.hub import QUESTIONS_REPO
from egost.tasks.text_files import csv_text

Format = Literal["md", "csv", "tex", "html", "json", "hub"]
FORMATS: tuple[Format, ...] = ("md", "csv", "tex", "html", "json")
"""Those that show all tables, each the ending of its files."""

_COMMIT = re.compile("[0-9a-f]{7,40}")
_CHOICES = ("direction", "landmark", "action")
"""How the columns begin that no judge scores."""

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#])")
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
}


def written(board: Leaderboard, form: Format) -> str:
    """The leaderboard in a format. Raises RunError where CSV is asked to hold several tables."""
    return _WRITERS[form](board)


def format_of(path: Path) -> Format | None:
    """The format that a file's name asks for; None for another name."""
    suffix = path.suffix.lower().removeprefix(".")
    return "hub" if suffix in ("yaml", "yml") else next((form for form in FORMATS if suffix == form), None)


# --- Markdown ----------------------------------------------------------------------------------------


def _markdown(board: Leaderboard) -> str:
    parts = [_markdown_table(sheet(b)) for b in board.boards]
    if notes := [f"- {in_markdown(text)}" for text in remarks(board)]:
        parts.append("\n".join(notes))
    return "\n\n".join(parts) + "\n"


def _markdown_table(shown: Sheet) -> str:
    lines = [[_markdown_field(field) for field in line.fields] for line in shown.lines]
    blocks = [
        f"## {in_markdown(shown.title)}",
        aligned(shown.head, lines, words=shown.words),
    ]
    if shown.how:
        rows = [[in_markdown(text) for text in row] for row in shown.how]
        blocks += ["How the runs were made:", aligned(HOW, rows, words=len(HOW))]
    notes = [f"- <sup>{mark}</sup> {in_markdown(text)}" for mark, text in shown.footnotes]
    notes += [f"- {in_markdown(text)}" for text in shown.notes]
    notes += [f"- Refused: {in_markdown(text)}" for text in shown.left_out]
    return "\n\n".join([*blocks, "\n".join(notes)])


def _markdown_field(field: Field) -> str:
    text = in_markdown(field.text)
    if text and field.best:
        text = f"**{text}**"
    if text and field.struck:
        text = f"~~{text}~~"
    span = f" ({field.span})" if field.span else ""
    marks = f"<sup>{','.join(field.marks)}</sup>" if field.marks else ""
    return f"{text}{span}{marks}"


def in_markdown(text: str) -> str:
    """A text on one line that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A Markdown table whose columns are aligned: the first `words` of them to the left, the others to the right."""
    widths = [max(3, *(len(row[k]) for row in [head, *rows])) for k in range(len(head))]
    rule = ["-" * width if k < words else "-" * (width - 1) + ":" for k, width in enumerate(widths)]
    return "\n".join(
        "| "
        + " | ".join(
            text.ljust(width) if k < words else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in [head, rule, *rows]
    )


# --- LaTeX -------------------------------------------------------------------------------------------


def _latex(board: Leaderboard) -> str:
    notes = [f"% {' '.join(text.split())}" for text in remarks(board)]
    head = "% To be \\input into a document that loads graphicx."
    return "\n".join([head, *notes, *(_latex_table(sheet(b)) for b in board.boards)]) + "\n"


def _latex_table(shown: Sheet) -> str:
    rows = [[_latex_field(field) for field in line.fields] for line in shown.lines]
    lines = [
        r"\begin{table}[p]",
        r"\centering",
        rf"\caption{{{'Ego-ST Bench. ' if shown.title.startswith('Table ') else ''}{_in_latex(shown.title)}}}",
        r"\renewcommand{\arraystretch}{1.15}",
        *_tabular("l" * shown.words + "r" * (len(shown.head) - shown.words), shown.head, rows),
    ]
    if shown.how:
        how = [[_in_latex(text) for text in row] for row in shown.how]
        lines += [r"\par\medskip", *_tabular("l" * len(HOW), HOW, how)]
    lines += [r"\par\medskip", r"\begin{minipage}{\textwidth}\footnotesize\raggedright"]
    lines += [rf"$^{{\mathrm{{{mark}}}}}$\,{_in_latex(text)}\par" for mark, text in shown.footnotes]
    lines += [rf"{_in_latex(text)}\par" for text in shown.notes]
    lines += [rf"Refused: {_in_latex(text)}\par" for text in shown.left_out]
    if any(field.struck for line in shown.lines for field in line.fields):
        lines.append(r"In double brackets: refused.\par")
    return "\n".join([*lines, r"\end{minipage}", r"\end{table}"])


def _tabular(columns: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        rf"\resizebox{{\ifdim\width>\textwidth\textwidth\else\width\fi}}{{!}}{{\begin{{tabular}}{{{columns}}}",
        r"\hline",
        " & ".join(map(_in_latex, head)) + r" \\",
        r"\hline",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\hline",
        r"\end{tabular}}",
    ]


def _latex_field(field: Field) -> str:
    text = _in_latex(field.text)
    if field.best:
        text = rf"\textbf{{{text}}}"
    if field.struck:
        text = f"(({text}))"
    span = rf"\,{{\scriptsize ({field.span.replace('-', '--')})}}" if field.span else ""
    marks = rf"$^{{\mathrm{{{','.join(field.marks)}}}}}$" if field.marks else ""
    return f"{text}{span}{marks}"


def _in_latex(text: str) -> str:
    # A font of plain LaTeX has no sign beyond Latin; one that is missing stops the compiler.
    plain = " ".join(text.split()).encode("latin-1", "replace").decode("latin-1")
    return "".join(_LATEX.get(sign, sign) for sign in plain)


# --- CSV and JSON ------------------------------------------------------------------------------------


def _csv(board: Leaderboard) -> str:
    if len(board.boards) != 1:
        raise RunError(
            f"a CSV file holds one table, and {len(board.boards)} were asked for. Add --table 1 (2, 3 or 4), name runs "
            "on one release, and leave out --all where runs of both worlds are at hand; or take --format json."
        )
    rows = [_flat(row) for row in _plain_rows(board.boards[0])]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text(names, [{name: _in_csv(value) for name, value in row.items()} for row in rows])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: row[name] for name in ("model", "origin", "family", "date")} | dict(row["labels"])
    for column, cell in row["cells"].items():
        flat[column] = cell["percent"]
        flat |= {f"{column}_{name}": cell[name] for name in ("low", "high", "n", "of", "refused", "notes")}
    details = dict(row["details"] or {})
    floors = details.pop("floors", None) or {}
    shares = {name: details.pop(name, None) or {} for name in ("both_ways", "circular")}
    flat |= details
    for name, share in shares.items():
        if share:
            flat |= {name: share["value"], f"{name}_low": share["low"], f"{name}_high": share["high"]}
    if "chance" in shares["both_ways"]:
        flat["both_ways_chance"] = shares["both_ways"]["chance"]
    blind = (floors.get("blind") or {}).get("control")
    for name, value in (
        ("text", floors.get("text")),
        ("not_solved", floors.get("not_solved")),
        ("blind", blind),
    ):
        if value:
            middle = value.get("value", value.get("percent"))
            flat |= {name: middle, f"{name}_low": value["low"], f"{name}_high": value["high"]}
    return {**flat, "notes": row["notes"]}


def _in_csv(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return "; ".join(value)
    return value


def _json(board: Leaderboard) -> str:
    content = {
        "tables": [
            {
                **{
                    name: getattr(b, name)
                    for name in ("number", "world", "title", "columns", "labels", "notes")
                },
                "rows": _plain_rows(b),
                "left_out": [
                    {"model": row.model, "date": row.date, "labels": row.labels, "refused": row.refused}
                    for row in b.left_out
                ],
            }
            for b in board.boards
        ],
        "not_read": [unreadable.reason for unreadable in board.unreadable],
        "other_world": board.other_world,
        "replaced": board.replaced,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain_rows(board: Board) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = [without_nan(asdict(row)) for row in board.rows]
    for row in plain:
        if details := row["details"]:
            details["floors"] = details.pop("without_seeing")  # the files' name for it
    return plain


# --- HTML --------------------------------------------------------------------------------------------


def _html(board: Leaderboard) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not for the other formats

    pages = Environment(
        loader=PackageLoader("egost.results.leaderboard", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = pages.get_template("page.html.jinja")
    # A private release, or the mini world, is not the benchmark.
    of_paper = any(shown.title.startswith("Table ") for shown in board.boards)
    return page.render(
        heading="Ego-ST Bench leaderboard" if of_paper else "Leaderboard",
        sheets=[sheet(b) for b in board.boards],
        how=HOW,
        remarks=list(remarks(board)),
    )


# --- The hub -----------------------------------------------------------------------------------------


def _hub(board: Leaderboard) -> str:
    """A file for `.eval_results/` of a model's repository on the Hugging Face hub: its figures in Table 1.

    Raises RunError for a run that is not of the benchmark, for figures of several models or runs, and where none is
    comparable.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    ours = [b for b in board.boards if b.number == 1 and b.title.startswith("Table ")]
    rows = [row for b in ours for row in b.rows if row.origin == "run"]
    refused = [f"{row.model}: {'; '.join(row.refused)}" for b in ours for row in b.left_out]
    if len(rows) != 1:
        found = f"found {len(rows)} ({', '.join(row.model for row in rows)})" if rows else "found none"
        raise RunError(
            "a file for the hub holds one run of the benchmark with figures in Table 1, for one model's repository; "
            f"{found}. Name its folder, without --table or with --table 1. The mini world and private releases have "
            f"no place on the hub.{''.join(f' Refused: {text}.' for text in refused)}"
        )
    [row], details = rows, rows[0].details
    assert details is not None
    release = details.release if _COMMIT.fullmatch(details.release) else None
    made = [
        *(
            "strict" if details.protocol == OWN_PROTOCOL else "compat",
            details.protocol,
            f"frames {details.frames}",
        ),
        *(f"prompt {details.prompt}", f"engine {details.engine}", f"egost {package_version('egost')}"),
    ]
    entries = [
        EvalResultEntry(
            dataset_id=QUESTIONS_REPO,
            task_id=column,
            value=round(cell.percent, 2),
            dataset_revision=release,
            date=row.date or None,
            notes="; ".join(
                [
                    f"percent, 95 % interval by clips {cell.low:.1f} to {cell.high:.1f}, {cell.n} of {cell.of} scored",
                    *made,
                    *(
                        [f"judge {details.judge}"]
                        if details.judge and not column.startswith(_CHOICES)
                        else []
                    ),
                    *cell.notes,
                    *row.notes,
                ]
            ),
        )
        for column, cell in row.cells.items()
        if cell.percent is not None and not cell.refused
    ]
    text: str = yaml.safe_dump(
        eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=120
    )
    return text


_WRITERS: Mapping[Format, Callable[[Leaderboard], str]] = {
    "md": _markdown,
    "csv": _csv,
    "tex": _latex,
    "html": _html,
    "json": _json,
    "hub": _hub,
}
