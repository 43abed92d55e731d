"""Runs the real lmms-eval command with a bug planted in it, several times, for the price of one import of the host.

    python planted_bugs.py JOBS.json     # [{"bug": "parser", "arguments": [...], "settings": {...}}, ...]

Each job is a process of its own, forked when everything is imported and nothing has been run.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from egost.tasks.clips import decode_process
from egost.tasks.clips import protocols as frames
from egost.tasks.response_text import last_answer
from egost.tasks.scoring import scores
from egost.tasks.scoring.choices import Choice


def other_frames() -> None:
    """Each frame is the one behind the right one."""
    right = frames.uniform
    frames.uniform = lambda n_frames, kept: [min(index + 1, n_frames - 1) for index in right(n_frames, kept)]


def other_frames_in_the_decoding_child() -> None:
    decode_process._COMMAND = decode_process._COMMAND.replace(
        "from egost.tasks", "import planted_bugs; planted_bugs.other_frames(); from egost.tasks"
    )


def parser_wants_tags() -> None:
    """A letter outside `<answer>` is not read."""
    right = scores.strict_choice
    scores.strict_choice = lambda reply, options: (
        right(reply, options) if last_answer(reply) else Choice(None, "no_declaration")
    )


def means_by_size() -> None:
    """A group weighs its tasks by their sizes."""
    from lmms_eval import evaluator_utils

    right = evaluator_utils.aggregate_subtask_metrics
    evaluator_utils.aggregate_subtask_metrics = lambda metrics, sizes, by_size: right(metrics, sizes, True)


IMPORTED = (
    "lmms_eval.__main__",
    "lmms_eval.evaluator",
    "lmms_eval.models.simple.qwen2_vl",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "transformers.models.qwen2_vl.processing_qwen2_vl",
    "egost.model_adapters.adapter",
)
"""What a run takes its time for, before it looks at a model."""

BUGS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "frames": other_frames_in_the_decoding_child,
    "parser": parser_wants_tags,
    "aggregation": means_by_size,
}


def main() -> None:
    jobs: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text())
    for module in IMPORTED:
        importlib.import_module(module)
    for job in jobs:
        if not (child := os.fork()):
            _run(job)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{job} ended with {os.waitstatus_to_exitcode(status)}")


def _run(job: dict[str, Any]) -> None:
    from lmms_eval.cli.dispatch import main as lmms_eval_command

    code = 0
    try:
        os.environ.update(job["settings"])
        BUGS[job["bug"]]()
        sys.argv[1:] = job["arguments"]
        lmms_eval_command()
    except SystemExit as end:
        code = 0 if end.code in (None, 0) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
