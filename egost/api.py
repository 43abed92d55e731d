"""The Python API: what a notebook needs, from a release to a score. `egost` exports every public name of it.

    release = egost.open_release("mini")
    sample = egost.samples(release, "direction_reverse")[0]
    pixels, question = egost.frames(release, sample), egost.render_prompt(sample)
    score = egost.score(sample, "The answer is B.")

Settings hold as for the commands: see docs/settings.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from egost.results import run as runs
from egost.results.intervals import interval as interval
from egost.results.run import Run
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import chosen_protocol, parse_protocol
from egost.tasks.errors import ReleaseError
from egost.tasks.judging.choose import chosen_judge, get_judge
from egost.tasks.judging.judge import Judge, JudgeFailure, Judgement
from egost.tasks.prompts import chosen_prompt, load_prompt
from egost.tasks.release import release as releases
from egost.tasks.release.release import MINI_MANIFEST, Release, release_in
from egost.tasks.sample import TASK_KINDS, WAYS, Sample, World
from egost.tasks.scoring.scores import Response, Score, route_items, score_choice, score_route


def open_release(world_or_folder: World | str | Path = "official") -> Release:
    """The official release, the mini world, or the release in a folder in the official layout.

    world_or_folder: `official` (the folder in `EGOST_DATA`, else the hub's cache), `mini` (`EGOST_MINI_DATA`, else
        what `egost data mini` wrote), or a folder, for example one that `egost construct publish` wrote.
    Raises ReleaseError where there is no release, with the command that gets it.
    """
    if world_or_folder in get_args(World):
        return releases.open_release(world_or_folder)
    folder = Path(world_or_folder).expanduser()
    if not folder.is_dir():
        raise ReleaseError(
            f"there is no folder {folder}. open_release takes {' or '.join(map(repr, get_args(World)))}, or a folder "
            "with a release."
        )
    return release_in(folder, "mini" if (folder / MINI_MANIFEST).is_file() else "official")


def samples(release: Release, task: str) -> list[Sample]:
    """The samples of one of the eight tasks, in the order of the release.

    task: KIND_WAY, for example `route_forward` or `direction_reverse`.
    Raises ReleaseError for another name, and where questions or clips are missing.
    """
    kind, _, way = task.rpartition("_")
    if kind not in TASK_KINDS or way not in WAYS:
        known = ", ".join(f"{kind}_{way}" for kind in TASK_KINDS for way in WAYS)
        raise ReleaseError(f"there is no task {task!r}; expected one of {known}.")
    return release.samples(kind, way)


def frames(release: Release, sample: Sample, protocol: str | None = None) -> npt.NDArray[np.uint8]:
    """The frames that a model sees of a sample's clip: uint8 RGB [N, height, width, 3].

    protocol: a value of `EGOST_PROTOCOL`, such as `uniform8+cap151200`; None takes that of the environment.
    Decodes a clip once and keeps it in `EGOST_CACHE`. Raises ClipError where the clip is missing or gives no frames,
    with the reason; SettingError for another protocol.
    """
    chosen = chosen_protocol() if protocol is None else parse_protocol(protocol)
    return get_clip(release.clip_path(sample), chosen).frames()


def render_prompt(sample: Sample, prompt: str | None = None) -> str:
    """The text that a model is asked with the clip.

    prompt: `direct`, `think` or a YAML file; None takes `EGOST_PROMPT`. Raises SettingError for another one.
    """
    return load_prompt(chosen_prompt() if prompt is None else prompt).render(sample)


def score(sample: Sample, response: str, judge: str | Judge | None = None) -> Score:
    """The score of a model's response, by the scorer of the benchmark.

    `percent` of the result is the strict score, 0 to 100 (None where there is none: see `unscored`); `compat` is the
    score by the reference code's rules.
    judge: for a route, as in `judge_routes`; a multiple-choice sample needs none.
    Raises JudgeError where a route has no judge.
    """
    read = Response.read(response, None)
    if sample.task == "route":
        return score_route([sample], [read], _judge(judge))[0]
    return score_choice(sample, read)


def judge_routes(
    responses: Iterable[tuple[Sample, str]], judge: str | Judge | None = None
) -> Iterator[Judgement | JudgeFailure]:
    """Judge route descriptions: one judgement, or the reason why there is none, for each pair, in their order.

    responses: pairs of a route sample and what a model answered; all are sent at once, each result is given as soon
        as it is there.
    judge: `offline` (rules, no key, no network), `gpt-4o`, `openai:MODEL@BASE_URL`, `azure:DEPLOYMENT@ENDPOINT`, or a
        judge of your own; None takes `EGOST_JUDGE`.
    Raises JudgeError where there is no such judge or it lacks a key.
    """
    chosen = _judge(judge)
    pairs = list(responses)
    items = route_items([sample for sample, _ in pairs], [Response(text) for _, text in pairs])
    chosen.start(items)
    return (verdict for item in items for verdict in chosen([item]))


def read_run(folder: str | Path) -> Run:
    """The newest run in an `--output_path` of lmms-eval, saved with `--log_samples`, or the run of a results file.

    `figures` of the result are its tasks and groups, `records` its samples, `dataframe()` the samples as a pandas
    DataFrame. Raises RunError where no run has finished.
    """
    return runs.read_run(Path(folder).expanduser())


def _judge(judge: str | Judge | None) -> Judge:
    if judge is None:
        return chosen_judge("official")
    return get_judge(judge) if isinstance(judge, str) else judge
