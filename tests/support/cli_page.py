"""docs/cli.md, made from the commands themselves: python tests/support/cli_page.py > docs/cli.md"""

from __future__ import annotations

import html
import re

import click
import typer
from typer.cli import get_docs_for_click

from egost.main import GROUPS, app

HEAD = """# Commands

This page is made from the commands themselves (`python tests/support/cli_page.py > docs/cli.md`): it says what
the help of each command says. Settings that hold for all commands are in [settings](settings.md).
"""


def cli_page() -> str:
    """The page, in Markdown."""
    command = typer.main.get_command(app)
    text = html.unescape(get_docs_for_click(obj=command, ctx=click.Context(command), name="egost"))
    text = re.sub(r"^\* `--help`: .*\n", "", text[text.index("\n## ") :], flags=re.MULTILINE)
    text = re.sub(r"^\*\*Options\*\*:\n\n(?!\*)", "", text, flags=re.MULTILINE)
    text = re.sub(r"^Example: (.+)$", r"Example: `\1`", text, flags=re.MULTILINE)
    groups = "".join(
        f"| {group} | {', '.join(f'[{name}](#egost-{name})' for name in names.split())} |\n"
        for group, names in GROUPS.items()
    )
    return f"{HEAD}\n| | commands |\n|---|---|\n{groups}{text.rstrip()}\n"


if __name__ == "__main__":
    print(cli_page(), end="")
