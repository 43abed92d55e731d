"""The release: its 26 question files and its clips, read into samples, and what it is called.

`release.py` is the way in; `hub.py` and `archives.py` get the files, `trained_on.py` keeps trained rows out.
"""

from egost.tasks.sample import World

CONSTRUCTED = " constructed "
"""In the revision of a release that `egost construct publish` made: the tasks run on it, but it is not the paper's."""

NOT_RECORDED = "local"
"""The revision of a folder that neither `egost data download` nor `egost construct publish` has written."""

BENCHMARK = "Ego-ST Bench"


def release_name(world: World | None, revision: str) -> str:
    """What a release is called: `BENCHMARK` only where its revision tells that it is the published one."""
    if world == "mini":
        return "mini world"
    if CONSTRUCTED in revision:
        return f"{revision.partition(CONSTRUCTED)[0]}, a benchmark of its own"
    if revision in ("", NOT_RECORDED):
        return "questions in the official layout, of no recorded release"
    return BENCHMARK


def world_label(world: World | None, revision: str) -> str:
    """The world of a run or a release for people: `official` is said of the published release alone."""
    name = release_name(world, revision)
    return str(world) if world == "mini" or name == BENCHMARK else name
