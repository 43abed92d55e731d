"""`egost data`: get, look at and check the release, or write the mini world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from egost.commands.front import Mini, Workers, asked_release, console, marked, says_what_to_do
from egost.tasks.errors import download_command

if TYPE_CHECKING:
    from egost.tasks.release.check import Status
    from egost.tasks.release.release import Release


@says_what_to_do
def download(
    to: Annotated[Path | None, typer.Option(help="A folder of your own instead of the hub's cache.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of the questions.")] = None,
    clips_revision: Annotated[str | None, typer.Option(help="Revision of the clips.")] = None,
) -> None:
    """Get the official release from the hub, at a pinned revision; run it again to go on."""
    from egost.tasks.release import hub

    got = hub.download(to, questions_revision=revision, clips_revision=clips_revision)
    console.print(f"questions at {got.revision}, clips at {got.clips_revision}, in:")
    for root in got.roots:
        console.print(f"  {root}")
    if to:
        console.print(f"Let the tasks find it: export EGOST_DATA={to.resolve()}")
    console.print("Next: egost data status, then egost clips build")


@says_what_to_do
def status(mini: Mini = False) -> None:
    """Say what of the release is there and what is missing (exit code 1 when something is)."""
    from egost.tasks.release import check as release_check

    release = asked_release(mini)
    found = release_check.status(release)
    _print_status(release, found)
    raise typer.Exit(0 if found.complete else 1)


@says_what_to_do
def verify(mini: Mini = False, workers: Workers = None) -> None:
    """Check every question against its clip, decoding each of its frames (exit code 1 when a clip fails)."""
    from egost.tasks.clips.protocols import chosen_protocol
    from egost.tasks.release import check as release_check

    release = asked_release(mini)
    found = release_check.status(release)
    _print_status(release, found)
    if found.missing_question_files:
        raise typer.Exit(1)
    bad, odd = release_check.verify(release, chosen_protocol(), workers)
    for clip in bad:
        console.print(marked(clip.reason, f"{clip.path} ({clip.samples} samples): {clip.message}"))
    for one in odd:
        console.print(marked("note", f"{one.path}: {one.what}", "yellow"))
    console.print(
        f"{found.clips - len(bad)} of {found.clips + len(found.missing_clips)} clips give their frames"
    )
    raise typer.Exit(0 if found.complete and not bad else 1)


@says_what_to_do
def mini(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; set EGOST_MINI_DATA to it afterwards.")
    ] = None,
    clips: Annotated[int, typer.Option(min=4, help="Number of walks.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the walks; another one makes other walks.")] = 0,
    split: Annotated[str, typer.Option(help="train or test; the two share no map.")] = "test",
    generator: Annotated[
        int, typer.Option(help="1: mini-1, of corridors; 2: mini-2, of three sources that look different.")
    ] = 1,
    workers: Workers = None,
) -> None:
    """Write the mini world: rendered walks with exact answers, in the official layout."""
    from egost.tasks.mini_world import write_mini_release
    from egost.tasks.release.release import mini_root

    root = write_mini_release(
        out or mini_root(), clips=clips, seed=seed, split=split, generator=generator, workers=workers
    )
    console.print(f"mini world: {clips} clips in {root}")
    if out:
        console.print(f"Let the tasks find it: export EGOST_MINI_DATA={root.resolve()}")


def _print_status(release: Release, found: Status) -> None:
    from egost.tasks.release import release_name
    from egost.tasks.release.layout import QUESTION_FILES

    roots = ", ".join(map(str, release.roots))
    console.print(f"{release_name(release.world, release.revision)}, revision {release.revision}, in {roots}")
    console.print(f"question files: {found.question_files} of {len(QUESTION_FILES)}")
    for name in found.missing_question_files:
        console.print(marked("  missing", name))
    if found.tasks:
        table = Table("task", "samples", "clips", "chance %")
        for task in found.tasks:
            chance = "" if task.chance is None else f"{task.chance:.1f}"
            table.add_row(task.task, str(task.samples), str(task.clips), chance)
        console.print(table)
        console.print("samples by source: " + ", ".join(f"{name} {n}" for name, n in found.sources.items()))
    for reason, n in found.excluded.items():
        console.print(f"left out: {n} entries ({reason})")
    if found.spare_clips is None:
        console.print(f"videos: {found.clips} there")
    else:
        missing = len(found.missing_clips)
        console.print(
            f"clips: {found.clips} there, {missing} missing, {found.spare_clips} without a question"
        )
    for name in found.missing_clips[:10]:
        console.print(marked("  missing", name))
    for path in release.unread_archives:
        console.print(
            marked("  not unpacked", f"{path}: unpack it with the program that it was made with", "yellow")
        )
    if not found.complete:
        how = "egost data mini" if release.world == "mini" else download_command()
        console.print(f"Get what is missing: {how}")
