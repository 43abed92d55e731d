"""The clips of a working folder, as the pages of construction ask for them."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

from aiohttp import web

from egost.tasks.construction.workfolder import ClipRow, WorkFolder


def clip_route(folder: WorkFolder) -> web.RouteDef:
    """`GET /clips/CLIP`: the videos of a working folder, by ranges."""

    async def reply(request: web.Request) -> web.StreamResponse:
        path = folder.clip_folder / asked_clip(folder, request).clip
        if Path(os.path.realpath(path)).parent != folder.clip_folder.resolve():
            raise web.HTTPForbidden(text=f"{path} leads out of its folder. Put the clip itself there.")
        if not path.is_file():
            raise web.HTTPNotFound(text=f"{path} is missing. Run: egost construct clips")
        return web.FileResponse(path)

    return web.get("/clips/{clip}", reply)


def clip_facts(row: ClipRow) -> dict[str, Any]:
    """What the player of a page needs to know of a clip."""
    rate = float(Fraction(row.rate))
    return {"clip": row.clip, "duration_s": row.duration_s, "frames_a_second": rate}


def asked_clip(folder: WorkFolder, request: web.Request) -> ClipRow:
    """The clip that a request names; only the names in `clips.jsonl` lead to a file."""
    row = folder.clips().get(request.match_info["clip"])
    if row is None or "/" in row.clip or "\\" in row.clip:
        raise web.HTTPNotFound(text=f"{folder.manifest} has no such clip.")
    return row
