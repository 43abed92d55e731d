"""`egost env`: what a bug report needs to know of a machine, and all settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from egost.commands.front import console, says_what_to_do
from egost.tasks.errors import EgostError, one_line
from egost.tasks.settings import SETTINGS, Setting


@says_what_to_do
def env(
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Print all settings with defaults and meanings, not only those that are set."
        ),
    ] = False,
) -> None:
    """Print versions, GPUs, caches and settings, without secrets, for a bug report."""
    from egost.tasks.provenance import commit, machine, package_versions

    for name, version in package_versions().items():
        console.print(one_line(f"{name}: {version or 'not installed'}"))
    console.print(f"commit of egost: {commit() or 'not known'}")
    for name, value in machine().items():
        console.print(one_line(f"{name}: {', '.join(value) or 'none' if isinstance(value, list) else value}"))
    for line in _places():
        console.print(one_line(line))
    for setting in SETTINGS:
        shown = _shown(setting)
        if everything:
            console.print(f"{setting.name}: {shown or f'not set; default: {setting.default}'}")
            console.print(f"  {setting.meaning} Values: {setting.values}.")
        elif shown:
            console.print(one_line(f"{setting.name}: {shown}"))
    if not everything:
        console.print("The other settings are not set; egost env --all explains all of them.")


def _places() -> list[str]:
    from egost.tasks.cache import cache_root, free_gib
    from egost.tasks.release import release_name
    from egost.tasks.release.release import open_release
    from egost.tasks.sample import World

    root = cache_root()
    lines = [f"cache: {root}, {free_gib(root):.0f} GiB free on its disk"]
    worlds: tuple[World, ...] = ("official", "mini")
    for world in worlds:
        try:
            found = open_release(world)
            name = release_name(world, found.revision)
            lines.append(
                f"{world} release: {name}, revision {found.revision}, in {', '.join(map(str, found.roots))}"
            )
        except EgostError:
            lines.append(f"{world} release: not there")
    return lines


def _shown(setting: Setting) -> str:
    """Its value in this process; empty where it is not set. A key is never shown, nor a URL that may hold one."""
    from egost.tasks.keys import may_hold_secret

    value = os.environ.get(setting.name, "")
    if value and (setting.secret or may_hold_secret(value)):
        return "set, not shown"
    return value.replace(str(Path.home()), "~") if value else ""
