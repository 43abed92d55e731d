"""`make train-demo`: ST-R1 from its data to its table on the mini world, on a CPU.

    make train-demo                      # or: egost train demo; --quick for some minutes of the same in small

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
from egost.tasks.sample import WAYS
from egost.training import TrainingError
from egost.training.checkpoint_manifest import FINAL
from egost.training.demo import controls
from egost.training.demo.controls import DIRECT_TOKENS, Control, controls_file
from egost.training.demo.demo_steps import Command, Step, run_steps
from egost.training.recipe import CONFIGS
from egost.training.rows.build_rows import ROWS

KINDS = ("direction", "landmark")
"""What is trained and evaluated: the questions that are asked about every walk."""

TASKS = tuple(f"egost_mini_{kind}_{way}" for kind in KINDS for way in WAYS)

AT_ONCE = 2
"""Steps that run side by side: a model this small gains little from a second thread."""

TRAIN_SEED, TEST_SEED = 630, 3582
"""Seeds of the walks; the splits `train` and `test` share no map whatever the seeds."""

_WITHOUT_REASONING = ("--prompt", "direct", "--max_completion_length", str(DIRECT_TOKENS))

MAPS = "pretraining_maps.txt"
"""File of a checkpoint with the map of each film that it was pre-trained on, one a line (see `map_mark`)."""

Split = Literal["train", "test"]
Name = Literal["base", "sft", "st_cot", "sft_grpo", "st_r1"]


@dataclass(frozen=True)
class DemoSize:
    """How much a demo does.

    train_clips, test_clips: walks. rows: the nested subsets of training rows that fine-tuning and GRPO learn from.
    fewer_sft, fewer_grpo: flags that make a run shorter than its recipe. reply_tokens: most of a reply that reasons.
    batch: questions that are asked at once.
    """

    train_clips: int
    test_clips: int
    rows: tuple[int, int]
    fewer_sft: tuple[str, ...]
    fewer_grpo: tuple[str, ...]
    reply_tokens: int
    batch: int


FULL = DemoSize(
    train_clips=210,
    test_clips=250,
    rows=(504, 630),
    fewer_sft=(),
    # A step of 32 completions that reason takes about 3 s on one core.
    fewer_grpo=("--per_device_train_batch_size", "32", "--max_steps", "300"),
    reply_tokens=192,
    batch=16,
)
"""500 questions a task, both ways together; rows of Table 3's subsets."""

QUICK = DemoSize(
    train_clips=8,
    test_clips=10,
    rows=(8, 16),
    fewer_sft=("--max_steps", "6", "--per_device_train_batch_size", "4", "--learning_rate", "1e-3"),
    fewer_grpo=("--max_steps", "3", "--per_device_train_batch_size", "8", "--max_completion_length", "24"),
    reply_tokens=24,
    batch=16,
)


@dataclass(frozen=True)
class Paradigm:
    """A checkpoint of the table. name: for files; label: Table 3's. prompt: how it was taught to be asked.

    rows: number of training rows that it has seen.
    """

    name: Name
    label: str
    prompt: Literal["direct", "think"]
    checkpoint: Path
    rows: int


@dataclass(frozen=True)
class Demo:
    """A demo in a folder: base: the checkpoint that all others are made from."""

    out: Path
    base: Path
    size: DemoSize

    @property
    def paradigms(self) -> tuple[Paradigm, ...]:
        """The rows of the table, in the order of Table 3."""
        fine_tuned, rewarded = self.size.rows
        return (
            Paradigm("base", "mini-base", "direct", self.base, 0),
            Paradigm("sft", "SFT", "direct", self.run("sft") / FINAL, fine_tuned),
            Paradigm("sft_grpo", "SFT+GRPO", "direct", self.run("sft_grpo") / FINAL, rewarded),
            Paradigm("st_cot", "ST-CoT", "think", self.run("st_cot") / FINAL, fine_tuned),
            Paradigm("st_r1", "ST-R1", "think", self.run("st_r1") / FINAL, rewarded),
        )

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

    @staticmethod
    def controls_of(name: Name) -> tuple[Control, ...]:
        """Which controls a checkpoint goes through; the last one must also not be led by another walk."""
        return ("blind", "other") if name == "st_r1" else ("blind",)

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
    """All steps, each after those that it needs."""
    size = demo.size
    fine_tuned, rewarded = (demo.rows(count) / ROWS for count in size.rows)
    few, many = (f"rows-{count}" for count in size.rows)
    steps = [
        *(_walks(demo, *planned) for planned in demo.planned_walks),
        *(_rows(demo, count) for count in size.rows),
        _training(demo, "st_cot", "mini_cot_sft", demo.base, fine_tuned, (few,)),
        _training(demo, "sft", "mini_sft", demo.base, fine_tuned, (few,)),
        _training(demo, "st_r1", "mini_grpo", demo.run("st_cot") / FINAL, rewarded, ("st_cot", many)),
        _training(demo, "sft_grpo", "mini_grpo", demo.run("sft") / FINAL, rewarded, ("sft", many)),
        *(_evaluation(demo, paradigm) for paradigm in demo.paradigms),
        _controls(demo),
    ]
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
    return Step(f"walks-{split}", (), root, "egost_mini.json", lambda: Command(words, {}))


def _rows(demo: Demo, count: int) -> Step:
    out, root = demo.rows(count), demo.walks("train")
    words = _egost(
        *("train", "data", "--world", "mini", "--root", root, "--tasks", "direction,landmark"),
        *("--rows", count, "--out", out),
    )
    return Step(f"rows-{count}", ("walks-train",), out, "README.md", lambda: Command(words, {}))


def _training(demo: Demo, name: Name, config: str, base: Path, rows: Path, needs: tuple[str, ...]) -> Step:
    size, method = demo.size, "grpo" if "grpo" in config else "sft"
    words = _egost(
        *("train", method, CONFIGS / f"{config}.yaml", "--model_name_or_path", base, "--rows", rows),
        *("--output_dir", demo.run(name), "--disable_tqdm", "true"),
        *(size.fewer_sft if method == "sft" else size.fewer_grpo),
        *(_WITHOUT_REASONING if name == "sft_grpo" else ()),
    )
    made = f"{FINAL}/{MANIFEST}"
    return Step(name, needs, demo.run(name), made, lambda: Command(words, _quiet(demo, "train")))


def _evaluation(demo: Demo, paradigm: Paradigm) -> Step:
    needs = ("walks-test",) if paradigm.name == "base" else ("walks-test", paradigm.name)

    def command() -> Command:
        tokens = demo.size.reply_tokens if paradigm.prompt == "think" else DIRECT_TOKENS
        further = ("--batch_size", str(demo.size.batch), "--gen_kwargs", f"max_new_tokens={tokens}")
        options = RunOptions(
            ",".join(TASKS), engine="hf", output=demo.evaluation(paradigm.name), extra=further
        )
        # Settings of the shell must not change the demo's figures.
        planned = plan_run(
            model_named(str(paradigm.checkpoint)),
            options,
            {"EGOST_PROMPT": paradigm.prompt, "EGOST_PROTOCOL": "uniform8"},
        )
        return Command(planned.command, {**_quiet(demo, "test"), **planned.settings})

    where = demo.evaluation(paradigm.name)
    return Step(f"evaluate-{paradigm.name}", needs, where, "**/*_results.json", command)


def _controls(demo: Demo) -> Step:
    asked = [
        f"{p.name}:{p.prompt}:{control}:{p.checkpoint}"
        for p in demo.paradigms
        for control in demo.controls_of(p.name)
    ]
    words = (
        *(controls.__file__, "--out", str(demo.controls)),
        *("--tasks", ",".join(TASKS), "--tokens", str(demo.size.reply_tokens)),
        *("--batch", str(demo.size.batch), *asked),
    )
    needs = ("walks-test", *(p.name for p in demo.paradigms if p.name != "base"))
    last = demo.paradigms[-1].name
    made = controls_file(demo.controls, last, demo.controls_of(last)[-1]).name
    return Step("controls", needs, demo.controls, made, lambda: Command(words, _quiet(demo, "test")))
