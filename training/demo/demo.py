"""`make paper-mini`: the paper's experiments on the mini world, on a CPU, from the data to the tables.

    make paper-mini                      # or: egost train demo; --quick for some minutes of the same in small

Walks are rendered for training and for the test, rows are built with reverse thinking, a base checkpoint is fine-tuned
on them with and without reasoning, GRPO goes on from both, and each checkpoint is evaluated by the plain lmms-eval
command, with its controls (paper, section 5.3 and Table 3). For Table 4, ST-R1 is made again on walks of several
sources without one of them. Every step is a command, with a record in the folder's `steps/`; the same demo again does
the steps that are missing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console

from egost.model_adapters.model_names import model_named
from egost.model_adapters.run_plan import RunOptions, plan_run
from egost.tasks.mini_world.walks import ClipPlan, plan_clip
from egost.tasks.release.trained_on import MANIFEST
from egost.tasks.sample import TASK_KINDS, WAYS
from egost.training import TrainingError
from egost.training.checkpoint_manifest import FINAL
from egost.training.demo import controls
from egost.training.demo.controls import Control, controls_file
from egost.training.demo.demo_steps import Command, Step, run_steps
from egost.training.recipe import CONFIGS
from egost.training.rows.build_rows import ROWS
from egost.training.rows.training_rows import SUBSETS, HoldOut

TASKS = tuple(f"egost_mini_{kind}_{way}" for kind in TASK_KINDS for way in WAYS)

AT_ONCE = 2
"""Steps that run side by side: a model this small gains little from a second thread."""

HELD_OUT: tuple[HoldOut, ...] = get_args(HoldOut)
"""Sources that Table 4 leaves out of the training, one at a time."""

TRAIN_SEED, TEST_SEED = 630, 3582
"""Seeds of the walks; the splits `train` and `test` share no map whatever the seeds."""

CHOICES_TO_A_ROUTE = 5
"""Rows of multiple choice, which Table 3 counts, for each row behind them that tells a route."""

MAPS = "pretraining_maps.txt"
"""File of a checkpoint with the map of each film that it was pre-trained on, one a line (see `map_mark`)."""

Split = Literal["train", "test"]
Method = Literal["base", "sft", "sft_grpo", "st_cot", "st_r1"]


@dataclass(frozen=True)
class DemoSize:
    """How much a demo does.

    train_clips, test_clips: walks. source_clips: walks of several sources to train on, for Table 4; 0: it is not made.
    rows: the nested subsets of training rows that ST-R1 learns from; the other paradigms learn from the last.
    letters: whether fine-tuning and GRPO on letters alone are done, too. fewer_sft, fewer_grpo: flags that make a run
    shorter than its recipe. reply_tokens: most of a reply. batch: questions at once.
    """

    train_clips: int
    test_clips: int
    source_clips: int
    rows: tuple[int, ...]
    letters: bool
    fewer_sft: tuple[str, ...]
    fewer_grpo: tuple[str, ...]
    reply_tokens: int
    batch: int


FULL = DemoSize(
    train_clips=210,
    test_clips=250,
    # Two thirds of them are left where a source is held out.
    source_clips=330,
    rows=SUBSETS,
    letters=True,
    fewer_sft=(),
    # A step of 32 completions that reason takes about 3 s on one core.
    fewer_grpo=("--per_device_train_batch_size", "32", "--num_train_epochs", "2"),
    reply_tokens=192,
    batch=64,
)
"""Questions on 250 unseen walks; rows of Table 3's subsets."""

QUICK = DemoSize(
    train_clips=8,
    test_clips=10,
    source_clips=0,
    rows=(8, 16),
    letters=False,
    fewer_sft=("--max_steps", "6", "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"),
    fewer_grpo=("--max_steps", "3", "--per_device_train_batch_size", "8", "--max_completion_length", "24"),
    reply_tokens=24,
    batch=16,
)


@dataclass(frozen=True)
class Walks:
    """A mini release. generator: 1 has corridors alone, 2 has walks of three sources."""

    split: Split
    clips: int
    seed: int
    generator: int = 1

    @property
    def name(self) -> str:
        """For files and steps."""
        return self.split if self.generator == 1 else f"{self.split}-{self.generator}"


@dataclass(frozen=True)
class Paradigm:
    """A checkpoint that is evaluated. label: Table 3's. prompt: how it was taught to be asked.

    rows: number of rows of multiple choice that it has seen. walks: name of those that it is asked about.
    hold_out: the source that its training left out.
    """

    method: Method
    label: str
    prompt: Literal["direct", "think"]
    checkpoint: Path
    rows: int
    walks: str = "test"
    hold_out: HoldOut | None = None

    @property
    def trained(self) -> str:
        """Name of the step that trains it."""
        return _run_name(self.method, self.rows, self.hold_out)

    @property
    def name(self) -> str:
        """For files and steps."""
        return self.trained if self.rows else f"{self.method}{self.walks.removeprefix('test')}"

    @property
    def controls(self) -> tuple[Control, ...]:
        """Which controls it goes through; ST-R1 must also not be led by another walk."""
        return ("blind", "other") if self.method == "st_r1" and not self.hold_out else ("blind",)


def _run_name(method: Method, rows: int, hold_out: HoldOut | None) -> str:
    return f"{method}_{rows}{_without(hold_out)}"


def _without(hold_out: HoldOut | None) -> str:
    return f"_without_{hold_out}" if hold_out else ""


@dataclass(frozen=True)
class Demo:
    """A demo in a folder: base: the checkpoint that all others are made from."""

    out: Path
    base: Path
    size: DemoSize

    @property
    def paradigms(self) -> tuple[Paradigm, ...]:
        """The rows of the table, in the order of Table 3."""
        most = self.size.rows[-1]
        letters: tuple[tuple[Method, str], ...] = (("sft", "SFT"), ("sft_grpo", "SFT+GRPO"))
        return (
            Paradigm("base", "mini-base", "direct", self.base, 0),
            *(self._trained(method, label, "direct", most) for method, label in letters if self.size.letters),
            self._trained("st_cot", "ST-CoT", "think", most),
            *(self._trained("st_r1", f"ST-R1 ({count})", "think", count) for count in self.size.rows[:-1]),
            self._trained("st_r1", "ST-R1", "think", most),
        )

    @property
    def out_of_domain(self) -> tuple[Paradigm, ...]:
        """What Table 4 is made of: the base, and ST-R1 without each source that is held out; empty where it is not."""
        if not self.size.source_clips:
            return ()
        base, *_, st_r1 = self.paradigms
        without = (
            replace(
                st_r1, checkpoint=self.run(_run_name("st_r1", st_r1.rows, source)) / FINAL, hold_out=source
            )
            for source in HELD_OUT
        )
        return tuple(replace(paradigm, walks="test-2") for paradigm in (base, *without))

    def _trained(self, method: Method, label: str, prompt: Literal["direct", "think"], rows: int) -> Paradigm:
        return Paradigm(method, label, prompt, self.run(_run_name(method, rows, None)) / FINAL, rows)

    @property
    def planned_walks(self) -> tuple[Walks, ...]:
        """The releases that are rendered."""
        one = (
            Walks("train", self.size.train_clips, TRAIN_SEED),
            Walks("test", self.size.test_clips, TEST_SEED),
        )
        if not self.size.source_clips:
            return one
        train, test = (replace(walks, generator=2) for walks in one)
        return *one, replace(train, clips=self.size.source_clips), test

    def run(self, name: str) -> Path:
        """Folder of a training run."""
        return self.out / "runs" / name

    def evaluation(self, name: str) -> Path:
        """Folder of a checkpoint's evaluation, as lmms-eval writes it."""
        return self.out / "evaluations" / name

    @property
    def controls(self) -> Path:
        """Folder of the checkpoints' replies without the clip, or to another one's."""
        return self.out / "controls"

    def walks(self, name: str) -> Path:
        """Folder of a mini release."""
        return self.out / "walks" / name

    def rows(self, count: int, hold_out: HoldOut | None = None) -> Path:
        """Folder of a subset of training rows with its data card."""
        return self.out / "rows" / f"{count}{_without(hold_out)}"


def make_demo(demo: Demo, console: Console) -> dict[str, float]:
    """Run the steps that are missing, and return the seconds of each. Raises EgostError."""
    demo = replace(demo, out=demo.out.absolute(), base=demo.base.absolute())
    check_maps(demo)
    return run_steps(demo_steps(demo), demo.out, at_once=AT_ONCE, console=console)


def check_maps(demo: Demo) -> None:
    """Raise TrainingError where the base checkpoint names a map of its pre-training that is walked here again."""
    named = demo.base / MAPS
    seen = set(named.read_text(encoding="utf-8", errors="replace").split()) if named.is_file() else set()
    for walks in demo.planned_walks:
        plans = (plan_clip(walks.seed, walks.split, number) for number in range(walks.clips)) if seen else ()
        if again := seen.intersection(map(map_mark, plans)):
            raise TrainingError(
                f"{len(again)} walks of the split {walks.split} have maps that {demo.base} was pre-trained on "
                f"({named}), for example {min(again)}. Take other seeds."
            )


def map_mark(walk: ClipPlan) -> str:
    """The first 64 bits of the hash of a walk's map, hexadecimal."""
    return walk.truth.map_hash[:16]


def demo_steps(demo: Demo) -> tuple[Step, ...]:
    """All steps, each after those that it needs: the largest ST-R1, then the rest of Table 3, then Table 4."""
    steps = [
        *(_walks(demo, planned) for planned in demo.planned_walks),
        *(_rows(demo, count) for count in reversed(demo.size.rows)),
        *(_rows(demo, demo.size.rows[-1], p.hold_out) for p in demo.out_of_domain if p.hold_out),
    ]
    for count in reversed(demo.size.rows):
        steps += [_training(demo, "st_cot", count), _training(demo, "st_r1", count)]
        asked = [paradigm for paradigm in reversed(demo.paradigms) if paradigm.rows == count]
        if count == demo.size.rows[-1]:
            asked += [paradigm for paradigm in demo.paradigms if not paradigm.rows]
            if demo.size.letters:
                steps += [_training(demo, "sft", count), _training(demo, "sft_grpo", count)]
        steps += [step for paradigm in asked for step in _asked(demo, paradigm)]
    for paradigm in demo.out_of_domain:
        if source := paradigm.hold_out:
            steps += [_training(demo, method, paradigm.rows, source) for method in ("st_cot", "st_r1")]
        steps += _asked(demo, paradigm)
    return tuple(steps)


def _asked(demo: Demo, paradigm: Paradigm) -> list[Step]:
    return [_evaluation(demo, paradigm), _controls(demo, paradigm)]


def _egost(*words: str | Path | int) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("egost")), *map(str, words))


def _quiet(demo: Demo, walks: str) -> dict[str, str]:
    return {
        "EGOST_MINI_DATA": str(demo.walks(walks)),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }


def _walks(demo: Demo, walks: Walks) -> Step:
    root = demo.walks(walks.name)
    words = _egost(
        *("data", "mini", "--out", root, "--clips", walks.clips),
        *("--seed", walks.seed, "--split", walks.split),
        *(("--generator", walks.generator) if walks.generator > 1 else ()),
    )
    expected = 5 + 0.2 * walks.clips
    return Step(f"walks-{walks.name}", (), root, "egost_mini.json", lambda: Command(words, {}), expected)


def _rows(demo: Demo, count: int, hold_out: HoldOut | None = None) -> Step:
    out, walks = demo.rows(count, hold_out), "train-2" if hold_out else "train"
    words = _egost(
        *("train", "data", "--world", "mini", "--root", demo.walks(walks), "--rows", count),
        *("--routes", count // CHOICES_TO_A_ROUTE, "--out", out),
        *(("--hold-out", hold_out) if hold_out else ()),
    )
    return Step(f"rows-{out.name}", (f"walks-{walks}",), out, "README.md", lambda: Command(words, {}), 8)


_BEFORE: dict[Method, Method] = {"sft_grpo": "sft", "st_r1": "st_cot"}
_RECIPES = {"sft": "mini_sft", "st_cot": "mini_cot_sft", "sft_grpo": "mini_grpo", "st_r1": "mini_grpo"}


def _training(demo: Demo, method: Method, count: int, hold_out: HoldOut | None = None) -> Step:
    name, rows = _run_name(method, count, hold_out), demo.rows(count, hold_out)
    before = _run_name(_BEFORE[method], count, hold_out) if method in _BEFORE else None
    base = demo.run(before) / FINAL if before else demo.base
    words = _egost(
        *("train", "grpo" if before else "sft", CONFIGS / f"{_RECIPES[method]}.yaml"),
        *("--model_name_or_path", base, "--rows", rows / ROWS),
        *("--output_dir", demo.run(name), "--disable_tqdm", "true"),
        *(demo.size.fewer_grpo if before else demo.size.fewer_sft),
        *(("--prompt", "direct") if method == "sft_grpo" else ()),
    )
    return Step(
        name,
        (before or f"rows-{rows.name}",),
        demo.run(name),
        f"{FINAL}/{MANIFEST}",
        lambda: Command(words, _quiet(demo, "train-2" if hold_out else "train")),
        20 + count * (1.8 if before else 0.7),
    )


def _evaluation(demo: Demo, paradigm: Paradigm) -> Step:
    def command() -> Command:
        tokens = f"max_new_tokens={demo.size.reply_tokens}"
        further = ("--batch_size", str(demo.size.batch), "--gen_kwargs", tokens)
        options = RunOptions(
            ",".join(TASKS), engine="hf", output=demo.evaluation(paradigm.name), extra=further
        )
        # Settings of the shell must not change the demo's figures.
        planned = plan_run(
            model_named(str(paradigm.checkpoint)),
            options,
            {"EGOST_PROMPT": paradigm.prompt, "EGOST_PROTOCOL": "uniform8", "EGOST_JUDGE": "offline"},
        )
        return Command(planned.command, {**_quiet(demo, paradigm.walks), **planned.settings})

    return Step(
        f"evaluate-{paradigm.name}",
        (f"walks-{paradigm.walks}", *((paradigm.trained,) if paradigm.rows else ())),
        demo.evaluation(paradigm.name),
        "**/*_results.json",
        command,
        30 + demo.size.test_clips,
    )


def _controls(demo: Demo, paradigm: Paradigm) -> Step:
    asked = [f"{paradigm.name}:{paradigm.prompt}:{one}:{paradigm.checkpoint}" for one in paradigm.controls]
    words = (
        *(controls.__file__, "--out", str(demo.controls)),
        *("--tasks", ",".join(TASKS), "--tokens", str(demo.size.reply_tokens)),
        *("--batch", str(demo.size.batch), *asked),
    )
    return Step(
        f"controls-{paradigm.name}",
        # Two processes must not ask one checkpoint with one journal.
        (f"evaluate-{paradigm.name}",),
        demo.controls,
        controls_file(demo.controls, paradigm.name, paradigm.controls[-1]).name,
        lambda: Command(words, _quiet(demo, paradigm.walks)),
        20 + demo.size.test_clips * len(paradigm.controls),
    )
