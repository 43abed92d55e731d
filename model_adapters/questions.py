"""Which questions a command asks a model outside lmms-eval: those that an evaluation of the same tasks would ask."""

from __future__ import annotations

from dataclasses import dataclass

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.tasks.clips.clips import Clip, build_clips
from egost.tasks.clips.protocols import chosen_protocol
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release.release import Release, open_release
from egost.tasks.release.trained_on import without_trained_on
from egost.tasks.sample import Sample
from egost.tasks.task_names import named_tasks


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
