"""`make paper-mini`: the paper's experiments on the mini world, on a CPU, from the data to the tables.

    make paper-mini                      # or: egost train demo; --quick for some minutes of the same in small

Walks are rendered for training and for the test, rows are built with reverse thinking, a base checkpoint is fine-tuned
on them with and without reasoning, GRPO goes on from both, and each checkpoint is evaluated by the plain lmms-eval
command, with its controls (paper, section 5.3 and Table 3). Every step is a command, with a record in the folder's
`steps/`; the same demo again does the steps that are missing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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
from egost.training.rows.training_rows import SUBSETS

TASKS = tuple(f"egost_mini_{kind}_{way}" for kind in TASK_KINDS for way in WAYS)

AT_ONCE = 2
"""Steps that run side by side: a model this small gains little from a second thread."""

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

    train_clips, test_clips: walks. rows: the nested subsets of training rows that ST-R1 learns from; the other
    paradigms learn from the last. letters: whether fine-tuning and GRPO on letters alone are done, too. fewer_sft,
    fewer_grpo: flags that make a run shorter than its recipe. reply_tokens: most of a reply. batch: questions at once.
    """

    train_clips: int
    test_clips: int
    rows: tuple[int, ...]
    letters: bool
    fewer_sft: tuple[str, ...]
    fewer_grpo: tuple[str, ...]
    reply_tokens: int
    batch: int


FULL = DemoSize(
    train_clips=210,
    test_clips=250,
    rows=SUBSETS,
    letters=True,
    fewer_sft=(),
    # A step of 32 completions that reason takes about 3 s on one core.
    fewer_grpo=("--per_device_train_batch_size", "32", "--num_train_epochs", "2"),
    reply_tokens=192,
    batch=16,
)
"""Questions on 250 unseen walks; rows of Table 3's subsets."""

QUICK = DemoSize(
    train_clips=8,
    test_clips=10,
    rows=(8, 16),
    letters=False,
    fewer_sft=("--max_steps", "6", "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"),
    fewer_grpo=("--max_steps", "3", "--per_device_train_batch_size", "8", "--max_completion_length", "24"),
    reply_tokens=24,
    batch=16,
)


@dataclass(frozen=True)
class Paradigm:
    """A checkpoint of the table. label: Table 3's. prompt: how it was taught to be asked.

    rows: number of rows of multiple choice that it has seen.
    """

    method: Method
    label: str
    prompt: Literal["direct", "think"]
    checkpoint: Path
    rows: int

    @property
    def name(self) -> str:
        """For files and steps."""
        return f"{self.method}_{self.rows}" if self.rows else self.method

    @property
    def controls(self) -> tuple[Control, ...]:
        """Which controls it goes through; ST-R1 must also not be led by another walk."""
        return ("blind", "other") if self.method == "st_r1" else ("blind",)


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

    def _trained(self, method: Method, label: str, prompt: Literal["direct", "think"], rows: int) -> Paradigm:
        return Paradigm(method, label, prompt, self.run(f"{method}_{rows}") / FINAL, rows)

    @property
    def planned_walks(self) -> tuple[tuple[Split, int, int], ...]:
        """Split, number and seed of the walks of each release."""
        return ("train", self.size.train_clips, TRAIN_SEED), ("test", self.size.test_clips, TEST_SEED)

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

    def walks(self, split: Split) -> Path:
        """Folder of a mini release."""
        return self.out / "walks" / split

    def rows(self, count: int) -> Path:
        """Folder of a subset of training rows with its data card."""
        return self.out / "rows" / str(count)


def make_demo(demo: Demo, console: Console) -> dict[str, float]:
    """Run the steps that are missing, and return the seconds of each. Raises EgostError."""
    demo = replace(demo, out=demo.out.absolute(), base=demo.base.absolute())
    check_maps(demo)
    return run_steps(demo_steps(demo), demo.out, at_once=AT_ONCE, console=console)


def check_maps(demo: Demo) -> None:
    """Raise TrainingError where the base checkpoint names a map of its pre-training that is walked here again."""
    named = demo.base / MAPS
    seen = set(named.read_text(encoding="utf-8", errors="replace").split()) if named.is_file() else set()
    for split, clips, seed in demo.planned_walks:
        maps = (map_mark(plan_clip(seed, split, number)) for number in range(clips)) if seen else ()
        if again := seen.intersection(maps):
            raise TrainingError(
                f"{len(again)} walks of the split {split} have maps that {demo.base} was pre-trained on ({named}), "
                f"for example {min(again)}. Take other seeds."
            )


def map_mark(walk: ClipPlan) -> str:
    """The first 64 bits of the hash of a walk's map, hexadecimal."""
    return walk.truth.map_hash[:16]


def demo_steps(demo: Demo) -> tuple[Step, ...]:
    """All steps, each after those that it needs; what the largest ST-R1 needs comes first."""
    most, *fewer = reversed(demo.size.rows)
    steps = [
        *(_walks(demo, *planned) for planned in demo.planned_walks),
        *(_rows(demo, count) for count in (most, *fewer)),
    ]
    for count in (most, *fewer):
        steps += [_training(demo, "st_cot", count), _training(demo, "st_r1", count)]
        if demo.size.letters and count == most:
            steps += [_training(demo, "sft", count), _training(demo, "sft_grpo", count)]
    for paradigm in demo.paradigms:
        steps += [_evaluation(demo, paradigm), _controls(demo, paradigm)]
    return tuple(steps)


def _egost(*words: str | Path | int) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("egost")), *map(str, words))


def _quiet(demo: Demo, split: Split) -> dict[str, str]:
    return {
        "EGOST_MINI_DATA": str(demo.walks(split)),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }


def _walks(demo: Demo, split: Split, clips: int, seed: int) -> Step:
    root = demo.walks(split)
    words = _egost("data", "mini", "--out", root, "--clips", clips, "--seed", seed, "--split", split)
    return Step(f"walks-{split}", (), root, "egost_mini.json", lambda: Command(words, {}), 5 + 0.2 * clips)


def _rows(demo: Demo, count: int) -> Step:
    out, root = demo.rows(count), demo.walks("train")
    words = _egost(
        *("train", "data", "--world", "mini", "--root", root, "--rows", count),
        *("--routes", count // CHOICES_TO_A_ROUTE, "--out", out),
    )
    return Step(f"rows-{count}", ("walks-train",), out, "README.md", lambda: Command(words, {}), 8)


_BEFORE: dict[Method, Method] = {"sft_grpo": "sft", "st_r1": "st_cot"}
_RECIPES = {"sft": "mini_sft", "st_cot": "mini_cot_sft", "sft_grpo": "mini_grpo", "st_r1": "mini_grpo"}


def _training(demo: Demo, method: Method, count: int) -> Step:
    name, before = f"{method}_{count}", _BEFORE.get(method)
    base = demo.run(f"{before}_{count}") / FINAL if before else demo.base
    words = _egost(
        *("train", "grpo" if before else "sft", CONFIGS / f"{_RECIPES[method]}.yaml"),
        *("--model_name_or_path", base, "--rows", demo.rows(count) / ROWS),
        *("--output_dir", demo.run(name), "--disable_tqdm", "true"),
        *(demo.size.fewer_grpo if before else demo.size.fewer_sft),
        *(("--prompt", "direct") if method == "sft_grpo" else ()),
    )
    return Step(
        name,
        (f"{before}_{count}" if before else f"rows-{count}",),
        demo.run(name),
        f"{FINAL}/{MANIFEST}",
        lambda: Command(words, _quiet(demo, "train")),
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
        return Command(planned.command, {**_quiet(demo, "test"), **planned.settings})

    return Step(
        f"evaluate-{paradigm.name}",
        ("walks-test", *((paradigm.name,) if paradigm.rows else ())),
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
        lambda: Command(words, _quiet(demo, "test")),
        20 + demo.size.test_clips * len(paradigm.controls),
    )
