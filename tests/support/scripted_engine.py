"""A real engine without a model: it answers from a script, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lmms_eval.api.instance import Instance

from egost.model_adapters.engine import Ask, EngineIdentity, Failure, Reply
from egost.tasks import utils
from egost.tasks.release.release import open_release


def say_where(ask: Ask) -> Reply | Failure:
    """A reply that tells which request it is for."""
    return Reply(f"{ask.sample} {ask.arguments.seed}", "stop", len(ask.prompt), 3, 32)


class ScriptedEngine:
    """Answers what `script` says, last ask first, as an engine does that works on many at once."""

    def __init__(self, script: Callable[[Ask], Reply | Failure] = say_where, revision: str = "1") -> None:
        self.script, self.revision = script, revision
        self.asked: list[Ask] = []
        self.closed = 0

    @property
    def identity(self) -> EngineIdentity:
        return EngineIdentity("script 1", "scripted", self.revision, {"dtype": "none"})

    def answer(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        self.asked.extend(asks)
        for place in reversed(range(len(asks))):
            yield place, self.script(asks[place])

    def close(self) -> None:
        self.closed += 1


def mini_requests(*tasks: str, repeats: int = 1, **gen_kwargs: Any) -> tuple[list[Instance], dict[str, Any]]:
    """The requests that lmms-eval makes of mini tasks (`direction_forward`), and its data sets by task."""
    requests, task_dict = [], {}
    kwargs = utils.prompt_kwargs["default"]
    for task in tasks:
        docs = [{"world": "mini", **s.to_doc()} for s in open_release("mini").samples(*task.split("_"))]
        name = f"egost_mini_{task}"
        task_dict[name] = {task: docs}
        generation = utils.route_generation if task.startswith("route") else utils.choice_generation
        for doc_id, doc in enumerate(docs):
            request = Instance(
                "generate_until",
                (
                    utils.doc_to_text(doc, kwargs),
                    {**generation, **gen_kwargs},
                    utils.doc_to_visual,
                    doc_id,
                    name,
                    task,
                ),
                0,
                {"task": name, "doc_id": doc_id, "repeats": repeats},
            )
            requests += [request] * repeats
    return requests, task_dict
