"""The functions and values that the task YAMLs name with `!function`, and nothing else.

Lower-case functions are called by lmms-eval for each sample. The names in `_MADE_WHEN_READ` are values:
lmms-eval resolves `!function` by attribute access, so they are made anew whenever a YAML is read and carry
what this run really uses (release, protocol, prompt, judge) into the results JSON.

An error that a user can fix leaves here as `SystemExit` with its one message, see `exits_with_message`.
"""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from lmms_eval.api.filter import Filter
from loguru import logger

from egost.tasks import provenance
from egost.tasks.as_published import published_generation
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.errors import CacheError, ClipError, SettingError, exits_with_message, say_once
from egost.tasks.json_text import encodable
from egost.tasks.judging.choose import chosen_judge, cost_increments
from egost.tasks.judging.judge import JudgeStopped, RouteItem
from egost.tasks.prompts import Prompt, chosen_prompt, load_prompt
from egost.tasks.release.release import open_release
from egost.tasks.sample import Sample, Way, World
from egost.tasks.scoring.generation_notes import noted_generation
from egost.tasks.scoring.scores import (
    NO_REPLY,
    Response,
    Score,
    as_metrics,
    judge_stopped,
    route_items,
    score_choice,
    score_route,
)
from egost.tasks.scoring.scores import count_scored as count_scored
from egost.tasks.scoring.scores import count_with_reason as count_with_reason
from egost.tasks.scoring.scores import mean_of_scored as mean_of_scored
from egost.tasks.scoring.scores import total as total


def official_docs(placeholder: Dataset) -> Dataset:
    """The samples of the official release for the task that the placeholder's split names."""
    return _docs("official", placeholder)


def mini_docs(placeholder: Dataset) -> Dataset:
    """The samples of the mini world for the task that the placeholder's split names."""
    return _docs("mini", placeholder)


@exits_with_message
def _docs(world: World, placeholder: Dataset) -> Dataset:
    task, way = str(placeholder.split).split("_")
    return Dataset.from_list([{"world": world, **s.to_doc()} for s in open_release(world).samples(task, way)])


@exits_with_message
def doc_to_visual(doc: dict[str, Any]) -> list[str]:
    """The clip's canonical frames as the path of one video; nothing where the clip has none.

    A sample without frames is still asked, since lmms-eval has no way to leave a request out; its reply
    is not looked at and the sample is unscored with the clip's reason.
    """
    clip = _clip(doc)
    return [str(clip.path)] if isinstance(clip, Clip) else []


@exits_with_message
def doc_to_text(doc: dict[str, Any], kwargs: dict[str, Any] | None = None) -> str:
    """The question in the wording of the chosen prompt, between a task's own `pre_prompt` and `post_prompt`, if any.

    kwargs: what a task's `lmms_eval_specific_kwargs` give the model.
    """
    sample, own = _sample(doc), kwargs or {}
    if sample.task == "route":
        _asked[doc["world"], sample.way].setdefault(sample.id, sample)
    return f"{own.get('pre_prompt', '')}{_prompt(own).render(sample)}{own.get('post_prompt', '')}"


_asked: defaultdict[tuple[str, str], dict[str, Sample]] = defaultdict(dict)
_unjudged: dict[tuple[str, str], list[RouteItem]] = {}
_starting = threading.Lock()


class MarkMissing(Filter):  # type: ignore[misc]
    """A filter of lmms-eval that turns a reply that is none (an adapter gave up) into a failed generation.

    lmms-eval would make an empty text of it, which is a reply and would be scored. Its writer of samples stops at half
    a surrogate pair, and drops all samples behind it: such a text of somebody else's adapter is mended, and said.
    """

    def apply(self, resps: list[list[Any]], docs: object) -> list[list[str]]:
        replies = [[r if isinstance(r, str) else NO_REPLY for r in (found or [None])] for found in resps]
        whole = [[encodable(reply) for reply in found] for found in replies]
        if mended := sum(a != b for a, b in zip(replies, whole, strict=True)):
            logger.warning(
                f"egost: {mended} responses held surrogates; each half of a pair has U+FFFD in its place"
            )
        return whole


class StartJudging(Filter):  # type: ignore[misc]
    """A filter of lmms-eval by which all routes of a task are judged at once, as soon as one is to be scored.

    `process_results` sees one sample at a time, from 4 threads; a filter sees all responses at once, but
    without their samples. lmms-eval calls `doc_to_text` for the first sample when it loads the task, then for the
    requests in their order, and a chat model again later. So the samples asked about are theirs when the numbers
    agree. Where they do not, only the head start is lost; `process_route` asks for its own pair. Nothing is judged
    where nothing is scored (`--predict_only`).
    """

    def __init__(self, world: World, way: Way) -> None:
        self.key = (world, way)

    def apply(self, resps: list[list[str]], docs: object) -> list[list[str]]:
        asked = [*_asked.pop(self.key, {}).values()]
        if len(asked) in (len(resps), len(resps) + 1):
            samples = asked[-len(resps) :]
            responses = [
                Response.read(r[0].strip(), _clip({"world": self.key[0], **s.to_doc()}))
                for r, s in zip(resps, samples, strict=True)
            ]
            _unjudged[self.key] = route_items(samples, responses)
        return resps


@exits_with_message
def process_choice(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Metrics of one multiple-choice sample."""
    sample, clip = _sample(doc), _clip(doc)
    score = score_choice(sample, Response.read(results[0], clip))
    return _as_metrics(doc["world"], sample, score, clip)


@exits_with_message
def process_route(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Metrics of one route sample, scored by the judge that `EGOST_JUDGE` names."""
    sample, clip = _sample(doc), _clip(doc)
    judge = chosen_judge(doc["world"])
    try:
        with _starting:
            judge.start(_unjudged.pop((doc["world"], sample.way), ()))
        [score] = score_route([sample], [Response.read(results[0], clip)], judge)
    except (JudgeStopped, CacheError) as error:
        # The responses took hours and lmms-eval has not saved them yet: the run goes on, without a score.
        score = judge_stopped(sample, judge, error)
        say_once(
            "ERROR", f"{error} These routes are unscored; a saved run can be judged again: egost judge RUN"
        )
    return {**_as_metrics(doc["world"], sample, score, clip), **cost_increments(judge)}


def _as_metrics(world: World, sample: Sample, score: Score, clip: Clip | ClipError) -> dict[str, Any]:
    metrics = as_metrics(sample, score, clip, noted_generation(world, sample.id))
    # Of a plain number lmms-eval would make a standard error; this one it only writes.
    return {**metrics, "n_scored": np.int64(metrics["n_scored"])}


def _prompt(kwargs: dict[str, Any]) -> Prompt:
    if kwargs.get("prompt", chosen_prompt()) != chosen_prompt():
        raise SettingError(
            f"a task's lmms_eval_specific_kwargs ask for the prompt '{kwargs['prompt']}', but the results and the "
            f"length of the replies follow EGOST_PROMPT ('{chosen_prompt()}'). Set EGOST_PROMPT={kwargs['prompt']}"
        )
    return load_prompt(chosen_prompt())


def _sample(doc: dict[str, Any]) -> Sample:
    return Sample.from_doc({key: value for key, value in doc.items() if key != "world"})


def _clip(doc: dict[str, Any]) -> Clip | ClipError:
    try:
        return get_clip(open_release(doc["world"]).clip_path(_sample(doc)), chosen_protocol())
    except ClipError as error:
        return error


def _prompt_kwargs() -> dict[str, Any]:
    return {"default": {"prompt": chosen_prompt()}}


def _generation(kind: str) -> dict[str, Any]:
    limits = load_prompt(chosen_prompt()).max_new_tokens
    # A reply ends at the model's own end token: lmms-eval's default stop, a blank line, would cut thinking off.
    ours = {"max_new_tokens": getattr(limits, kind), "temperature": 0, "do_sample": False, "until": []}
    return {**ours, **published_generation()}


_MADE_WHEN_READ: dict[str, Callable[[], dict[str, Any]]] = {
    "prompt_kwargs": _prompt_kwargs,
    "choice_generation": functools.partial(_generation, "choice"),
    "route_generation": functools.partial(_generation, "route"),
    **{
        f"{world}_{kind}_metadata": functools.partial(provenance.task_metadata, world, kind)
        for world in ("official", "mini")
        for kind in ("choice", "route")
    },
}


def __getattr__(name: str) -> dict[str, Any]:
    if name not in _MADE_WHEN_READ:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return exits_with_message(_MADE_WHEN_READ[name])()
