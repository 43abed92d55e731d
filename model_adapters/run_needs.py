"""What a run needs, looked at before anything heavy is imported: what is there, and what gets the rest.

for need in run_needs(model, plan, options, os.environ):
    print(need)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.known_models import KnownModel
from egost.model_adapters.run_plan import RunOptions, RunPlan
from egost.tasks.cache import cache_root, free_gib
from egost.tasks.errors import EgostError
from egost.tasks.sample import World
from egost.tasks.task_names import parse_task_name

Fetch = Literal["weights", "official", "mini"]

_API_KEYS = {"openai": ("OPENAI_API_KEY",), "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY")}

ROUTES_OF_PAPER = 2 * 789
"""Routes of the paper's release: two for each clip (section 3.1)."""

TOKENS_OF_A_JUDGEMENT = (840, 150)
"""About how many tokens go in and come out, counted on the mini world's routes; see docs/judge.md."""


@dataclass(frozen=True)
class Need:
    """One thing that a run needs.

    what: for example `weights`. found: what is there, or what is not. command: what gets it; empty where it is there.
    fetch: what `egost run` can get by itself.
    """

    what: str
    found: str
    command: str = ""
    fetch: Fetch | None = None

    def __str__(self) -> str:
        return f"{'MISSING ' if self.command else ''}{self.what}: {self.found}" + (
            f". Get it: {self.command}" if self.command else ""
        )


def run_needs(
    model: KnownModel, plan: RunPlan, options: RunOptions, environment: Mapping[str, str]
) -> list[Need]:
    """All that a planned run needs. Asks no network, and imports neither torch nor lmms-eval.

    environment: the settings that the run will have.
    """
    names = [found for name in options.tasks.split(",") if (found := parse_task_name(name.strip()))]
    weights = [*_weights(model, plan, environment)]
    needs = [*_engine(model, plan), *weights]
    for world in sorted({name.world for name in names}):
        kinds = {pair for name in names if name.world == world for pair in name.tasks}
        needs.append(_data(world, environment))
        routes = [f"{kind}_{way}" for kind, way in kinds if kind == "route"]
        if routes and "--predict_only" not in options.extra:
            needs.append(_judge(world, routes, options.limit, environment))
    return [*needs, *_machine(model, plan, loads=any(need.fetch == "weights" for need in weights))]


def _engine(model: KnownModel, plan: RunPlan) -> Iterator[Need]:
    try:
        yield Need("lmms-eval", version("lmms-eval"))
    except PackageNotFoundError:
        yield Need("lmms-eval", "not installed", "pip install .")
    if plan.adapter == "egost_vllm":
        from egost.model_adapters.vllm_engine import vllm_version

        try:
            yield Need("engine", f"vLLM {vllm_version()}")
        except AdapterError as error:
            others = [engine for engine in ("hf", "transformers") if engine in model.engines]
            without = f"; or without vLLM: --engine {others[0]}" if others else ""
            said, _, how = str(error).partition(". ")
            yield Need("engine", said, f"{how.rstrip('.')}{without}")


def _weights(model: KnownModel, plan: RunPlan, environment: Mapping[str, str]) -> Iterator[Need]:
    if model.availability == "api":
        keys = _API_KEYS[model.family]
        if "base_url=" in plan.model_args or any(environment.get(key, "").strip() for key in keys):
            yield Need("model", f"{model.model}, asked by its API")
        else:
            yield Need("key", f"{model.model} is asked by its API", f"export {' or '.join(keys)}=...")
        return
    if plan.adapter == "egost_server":
        yield Need("model", f"{model.model}, asked at its server")
        return
    size = f"{model.weights_gib:.1f} GiB" if model.weights_gib else "size not known"
    try:
        found = checkpoint_identity(model.model, model.revision)
        yield Need("weights", f"{found.name} in {found.folder}")
    except AdapterError:
        at = f" --revision {model.revision}" if model.revision else ""
        where = f"{model.model} is not in the hub's cache ({size})"
        yield Need("weights", where, f"hf download {model.model}{at}", "weights")


def _data(world: World, environment: Mapping[str, str]) -> Need:
    from egost.tasks.release import release_name
    from egost.tasks.release.check import status
    from egost.tasks.release.layout import QUESTION_FILES
    from egost.tasks.release.release import open_release

    get = "egost data mini" if world == "mini" else "egost data download"
    fetch: Fetch | None = world if world == "mini" or not environment.get("EGOST_DATA") else None
    try:
        release = open_release(world)
        found = status(release)
    except EgostError as error:
        size = (
            "40 walks, 3 MB, made here without a network"
            if world == "mini"
            else "26 question files and 789 clips"
        )
        return Need("data", f"{str(error).partition('. ')[0]} ({size})", get, fetch)
    name = f"{release_name(world, release.revision)}, {found.clips} clips in {release.roots[0]}"
    if found.missing_question_files:
        name += f", {len(found.missing_question_files)} of {len(QUESTION_FILES)} question files missing"
    elif found.missing_clips:
        name += f", {len(found.missing_clips)} clips missing"
    else:
        return Need("data", name)
    return Need("data", name, get, fetch)


def _judge(world: World, tasks: list[str], limit: float | None, environment: Mapping[str, str]) -> Need:
    """Who judges, and about what it costs."""
    from egost.tasks.judging.choose import Panel, chosen_judge, judge_names
    from egost.tasks.keys import may_hold_secret

    def costs(models: Iterable[str], repeats: int) -> str:
        return "; ".join(_cost(model, world, tasks, limit, repeats) for model in models)

    try:
        judge = chosen_judge(world)
    except EgostError as error:
        said, _, how = str(error).partition(". ")
        named = [name.partition("+")[0] for name in judge_names(environment.get("EGOST_JUDGE") or "gpt-4o")]
        shown = not any(map(may_hold_secret, named))
        return Need("judge", f"{said} ({costs(named, 1)})" if shown else said, how.rstrip("."))
    asked = [
        used.asked for one in (judge.judges if isinstance(judge, Panel) else (judge,)) if (used := one.usage)
    ]
    if not asked:
        return Need("judge", f"{judge.name}, by rules, free of charge")
    cost = costs(asked, int(environment.get("EGOST_JUDGE_REPEATS") or 1))
    return Need("judge", f"{judge.name}, {cost}; what is on the disk is not paid again")


def _cost(model: str, world: World, tasks: list[str], limit: float | None, repeats: int) -> str:
    """About what a model's judgements of a run cost, for people."""
    from egost.tasks.chat.usage import price_usd, prices_of

    number = _routes(world, tasks, limit) * repeats
    each = price_usd(model, *TOKENS_OF_A_JUDGEMENT)
    price = (
        "no price known" if each is None else f"about {each * number:.2f} USD at the prices of {prices_of()}"
    )
    return f"{number} judgements by {model}, {price}"


def _routes(world: World, tasks: list[str], limit: float | None) -> int:
    """How many routes a run judges at most."""
    from egost.tasks.release.release import open_release

    try:
        samples = open_release(world).index.samples
        counts = [sum(f"{s.task}_{s.way}" == task for s in samples) for task in tasks]
    except EgostError:
        counts = [ROUTES_OF_PAPER // 2 for _ in tasks]
    if limit is None:
        return sum(counts)
    return sum(min(count, math.ceil(count * limit) if limit < 1 else int(limit)) for count in counts)


def _machine(model: KnownModel, plan: RunPlan, loads: bool) -> Iterator[Need]:
    from egost.tasks.provenance import machine

    if model.memory_gib and plan.adapter in ("egost_vllm", "egost_journal", "egost_transformers"):
        gpus = ", ".join(machine()["gpus"]) or "none"
        yield Need("GPU", f"{gpus}; the model takes about {model.memory_gib:.0f} GiB")
    from huggingface_hub.constants import HF_HUB_CACHE

    size = model.weights_gib if loads and model.weights_gib else 0.0
    for what, place, takes in (
        ("egost's cache", cache_root(), 0.0),
        ("the hub's cache", Path(HF_HUB_CACHE), size),
    ):
        free = free_gib(place)
        short = free < takes
        yield Need(
            "disk",
            f"{free:.0f} GiB free for {what} ({place}){f', the weights take {takes:.1f} GiB' if short else ''}",
            "export HF_HOME=FOLDER of a larger disk" if short else "",
        )
