"""How a sample's reply was made, as far as an adapter knows: noted by the adapter, read by the scorer.

lmms-eval hands a scorer the text of a reply and nothing else. Our adapters and `process_results` run in one
process, so that the rest goes this way into the sample's record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from egost.tasks.sample import World


@dataclass(frozen=True)
class Generation:
    """How a reply was made.

    engine, model, revision, settings: see `EngineIdentity` of the adapters.
    finish_reason: `stop`, `length`, a word of the API's own, or `unknown`; None where the generation failed.
    truncated: whether the reply filled its room; None where that cannot be known.
    prompt_tokens, completion_tokens, video_tokens: None where the engine does not tell.
    journaled: whether the reply was there already, so that nothing was asked.
    failure: None, or why there is no reply, for people. snapshot: the model that an API says has replied.
    """

    engine: str
    model: str
    revision: str | None
    settings: Mapping[str, str | int | float | bool | None]
    finish_reason: str | None
    truncated: bool | None
    prompt_tokens: int | None
    completion_tokens: int | None
    video_tokens: int | None
    journaled: bool
    failure: str | None
    snapshot: str | None = None


_noted: dict[tuple[World, str], Generation] = {}


def note_generation(world: World, sample_id: str, generation: Generation) -> None:
    """Note how the reply to a sample was made; a newer note replaces an older one."""
    _noted[world, sample_id] = generation


def noted_generation(world: World, sample_id: str) -> Generation | None:
    """What was noted of a sample; None where another adapter than ours asked."""
    return _noted.get((world, sample_id))
