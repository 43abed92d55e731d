"""`egost clips`: decode clips into the cache, and check it."""

from __future__ import annotations

from typing import Annotated

import typer

from egost.commands.front import Mini, Workers, asked_release, console, marked, says_what_to_do

_Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL]...",
        help="Make the frames that these models are asked with (`egost models`); by default those of EGOST_PROTOCOL.",
        show_default=False,
    ),
]


@says_what_to_do
def build(models: _Models = None, mini: Mini = False, workers: Workers = None) -> None:
    """Decode the frames of all clips into the cache, on all cores; run it again to go on."""
    from egost.tasks.clips.clips import Clip, build_clips
    from egost.tasks.clips.protocols import chosen_protocol, parse_protocol
    from egost.tasks.release.check import present_samples

    protocols = [chosen_protocol()]
    if models:
        from egost.model_adapters.model_names import model_named

        protocols = [parse_protocol(name) for name in sorted({model_named(m).protocol for m in models})]
    release = asked_release(mini)
    paths = sorted({release.clip_path(s) for s in present_samples(release)})
    failed: dict[str, str] = {}
    for protocol in protocols:
        outcomes = build_clips(paths, protocol, workers=workers, also=protocols)
        good = sum(isinstance(outcome, Clip) for outcome in outcomes)
        console.print(f"{good} of {len(paths)} clips are in the cache ({protocol.name})")
        for path, outcome in zip(paths, outcomes, strict=True):
            if not isinstance(outcome, Clip):
                failed[f"{path}: {outcome}"] = outcome.reason
    for what, reason in failed.items():
        console.print(marked(reason, what))
    raise typer.Exit(1 if failed else 0)


@says_what_to_do
def verify(workers: Workers = None) -> None:
    """Check that every clip of the cache holds the frames that were decoded, and name those that do not."""
    from egost.tasks.clips.clips import changed_clips, clip_folder

    count, changed = changed_clips(workers)
    for path, error in changed.items():
        console.print(marked("changed", f"{path}: {error}"))
    console.print(
        f"{count - len(changed)} of {count} clips in {clip_folder()} hold the frames that were decoded"
    )
    raise typer.Exit(1 if changed else 0)
