"""Questions that a command asks outside lmms-eval (parity, diagnose): the same that an evaluation would ask.

    questions = choose_questions("egost_mini_mcq")
    model = load_model(plan)
    for control in (None, "blind"):
        answers = ask(model, questions, control)

Adapter, prompt and journal are those of `egost run`: what a run has asked unaltered is not asked again, and a killed
control goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.model_adapters.lmms_requests import SampleRequest
from egost.model_adapters.registration import CLASSES
from egost.model_adapters.run_plan import RunPlan
from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.controls import FRAME_CONTROLS, Control, altered_clip, rotated
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release.release import Release, open_release
from egost.tasks.release.trained_on import without_trained_on
from egost.tasks.sample import Sample
from egost.tasks.scoring.generation_notes import Answer, noted_generation
from egost.tasks.task_names import named_tasks, task_name

if TYPE_CHECKING:
    from egost.model_adapters.adapter import EngineModel

_BATCH_SIZE = 1
"""As `egost run` has it: part of the journal's key where lmms-eval's own adapters answer."""


@dataclass(frozen=True)
class Question:
    """A question and the clip that is shown with it; None shows nothing."""

    sample: Sample
    clip: Clip | None


@dataclass(frozen=True)
class Questions:
    """The questions of some tasks.

    left_out: how many samples have no frames. limit: of samples a task. max_new_tokens: None is what the prompt says.
    """

    release: Release
    asked: tuple[Question, ...]
    left_out: int
    limit: int | None
    max_new_tokens: int | None

    def asks(self, asked: list[Question]) -> list[Ask]:
        """The greedy requests for some of the questions, which may be altered."""
        prompt = load_prompt(chosen_prompt())
        most = prompt.max_new_tokens
        return [
            Ask(
                f"{self.release.world}/{question.sample.id}",
                prompt.render(question.sample),
                question.clip,
                GenerationArguments(
                    self.max_new_tokens or (most.choice if question.sample.options else most.route)
                ),
            )
            for question in asked
        ]


def choose_questions(tasks: str, limit: int | None = None, max_new_tokens: int | None = None) -> Questions:
    """The questions of some tasks, as an evaluation of the noted model would ask them.

    tasks: names of ours with commas between, all of one world. limit: at most so many of each task, the first ones.
    Clips are decoded where that was not done yet. Raises SettingError, TrainedOnError, ReleaseError, and
    AdapterError where no clip gives frames.
    """
    world, named = named_tasks(tasks)
    release = open_release(world)
    samples = [
        sample
        for task, way in named
        for sample in without_trained_on(release, release.samples(task, way))[:limit]
    ]
    clips = build_clips([release.clip_path(sample) for sample in samples], chosen_protocol())
    asked = tuple(
        Question(sample, clip) for sample, clip in zip(samples, clips, strict=True) if isinstance(clip, Clip)
    )
    if not asked:
        raise AdapterError(
            f"none of the {len(samples)} questions of {tasks} has frames. Run: egost data verify"
        )
    return Questions(release, asked, len(samples) - len(asked), limit, max_new_tokens)


def load_model(plan: RunPlan, batch_size: int = _BATCH_SIZE) -> EngineModel:
    """The adapter of a plan, loaded. Raises AdapterError where that is not possible."""
    module, _, name = CLASSES[plan.adapter].rpartition(".")
    adapter: type[EngineModel] = getattr(import_module(module), name)
    try:
        return adapter.create_from_arg_string(
            plan.model_args, {"batch_size": batch_size, "max_batch_size": None, "device": plan.device}
        )
    except SystemExit as stopped:
        # What ends lmms-eval with one message is an error like any other here.
        raise AdapterError(str(stopped.code).removeprefix("egost: ")) from stopped


def ask(model: EngineModel, questions: Questions, control: Control | None) -> list[Answer]:
    """What the model answers under a control, in the order of the questions; None asks them as they are.

    `rotated` asks a multiple-choice question once for each of its other rotations. Routes are asked as they are, blind
    and shuffled alone.
    Raises AdapterError, CacheError.
    """
    asked = list(_altered(questions.asked, control))
    world = questions.release.world
    asks = questions.asks([question for question, _ in asked])
    requests = [
        SampleRequest(world, question.sample.id, request, 0, blind=control == "blind")
        for (question, _), request in zip(asked, asks, strict=True)
    ]
    replies = model.replies(requests, f"{control or 'as asked'}: ")
    return [
        Answer(
            task=task_name(world, question.sample.task, question.sample.way),
            world=world,
            sample=question.sample,
            rotation=rotation,
            prompt=request.ask.prompt,
            clip=question.clip,
            reply=reply.text,
            # A sample has one note: of its last rotation where it has several.
            generation=None if rotation else noted_generation(world, question.sample.id),
        )
        for (question, rotation), request, reply in zip(asked, requests, replies, strict=True)
    ]


def number_of_requests(questions: Questions, control: Control | None) -> int:
    """How many requests a control takes, those counted that are in the journal."""
    options = [len(question.sample.options) for question in questions.asked]
    if control in (None, "blind", "shuffled"):
        return len(options)
    return sum(max(0, n - 1) if control == "rotated" else n > 0 for n in options)


def _altered(questions: Sequence[Question], control: Control | None) -> Iterator[tuple[Question, int]]:
    for question in questions:
        if control not in (None, "blind", "shuffled") and not question.sample.options:
            continue
        if control is None:
            yield question, 0
        elif control == "blind":
            yield Question(question.sample, None), 0
        elif control == "rotated":
            for by in range(1, len(question.sample.options)):
                yield Question(rotated(question.sample, by), question.clip), by
        else:
            assert control in FRAME_CONTROLS and question.clip is not None
            yield Question(question.sample, altered_clip(question.clip, control)), 0
