"""Clips that give an engine other frames than their manifest says: what parity has to catch."""

from __future__ import annotations

from dataclasses import replace

from egost.model_adapters.engine import Ask
from egost.tasks.clips.clips import Clip
from egost.tasks.clips.lossless import Frames


class ReversedClip(Clip):
    """The 8 frames in the wrong order."""

    def frames(self) -> Frames:
        return super().frames()[::-1].copy()


class ShortClip(Clip):
    """The last frame is lost; a processor fills it up to an even number, so that the grid is the same."""

    def frames(self) -> Frames:
        return super().frames()[:-1]


def broken(asks: list[Ask], kind: type[Clip]) -> list[Ask]:
    """The same asks about clips of a broken kind."""
    return [replace(ask, clip=kind(ask.clip.path, ask.clip.manifest)) for ask in asks if ask.clip]
