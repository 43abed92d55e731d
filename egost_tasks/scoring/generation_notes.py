"""How a response was made, as far as an adapter knows: noted by the adapter, read by the scorer.

lmms-eval hands a scorer the text of a response and nothing else. Our adapters and `process_results` run in one
process, so the rest takes this way into the sample's record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from egost.tasks.json_text import Count
from egost.tasks.sample import Sample, World

if TYPE_CHECKING:
    from egost.tasks.clips.clips import Clip


@dataclass(frozen=True)
class Generation:
    """How a response was made.

    engine, model, revision, settings: see `EngineIdentity` of the adapters.
    finish_reason: `stop`, `length`, a word of the API's own, or `unknown`; None where the generation failed.
    truncated: whether the response reached max_new_tokens; None where that cannot be known.
    prompt_tokens, completion_tokens, video_tokens: None where the engine does not say.
    journaled: whether the response came from the journal, so that nothing was asked.
    failure: None, or why there is no response, for people. snapshot: the model that an API says has answered.
    replaced: halves of surrogate pairs in the response, which have U+FFFD in their places.
    reasoning: the thinking, where it came apart from the response; None where it did not.
    cached_tokens: of the prompt's, those that vLLM's prefix cache had; None where the engine does not say.
    """

    engine: str
    model: str
    revision: str | None
    settings: Mapping[str, str | int | float | bool | None]
    finish_reason: str | None
    truncated: bool | None
    prompt_tokens: Count | None
    completion_tokens: Count | None
    video_tokens: Count | None
    journaled: bool
    failure: str | None
    snapshot: str | None = None
    replaced: Count = 0
    reasoning: str | None = None
    cached_tokens: Count | None = None

    def as_record(self) -> dict[str, Any]:
        """What a samples file holds; reasoning and cached tokens only where there are some."""
        told = asdict(self).items()
        return {n: v for n, v in told if n not in ("reasoning", "cached_tokens") or v is not None}


@dataclass(frozen=True)
class Answer:
    """What a model answered to a question that a control altered (see `egost.tasks.clips.controls`).

    task: registered name. sample: with its options as they were shown. rotation: by how many places they were moved on.
    prompt: the text asked. clip: what was shown; None: no video. reply: as `Response.read` takes it.
    """

    task: str
    world: World
    sample: Sample
    rotation: int
    prompt: str
    clip: Clip | None
    reply: str
    generation: Generation | None


_noted: dict[tuple[World, str], Generation] = {}


def note_generation(world: World, sample_id: str, generation: Generation) -> None:
    """Note how the response to a sample was made; a newer note replaces an older one."""
    _noted[world, sample_id] = generation


def noted_generation(world: World, sample_id: str) -> Generation | None:
    """What was noted of a sample; None where another adapter than ours asked."""
    return _noted.get((world, sample_id))
