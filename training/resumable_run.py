"""One training run from its start, or from where it was cut off, to a final checkpoint that is there whole.

Its callbacks write `log.csv`, mark checkpoints that are whole, and leave out steps with NaN.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from safetensors import SafetensorError
from transformers import PreTrainedModel, TrainerCallback

from egost.tasks.cache import write_whole, writing
from egost.tasks.progress import LineAMinute
from egost.training import TrainingError
from egost.training.checkpoint_manifest import FINAL, CheckpointManifest, new_manifest, read_manifest
from egost.training.recipe import RowsRecipe
from egost.training.run_log import CUT_SHARE, LOG_FILE, read_log
from egost.training.video_inputs import ShownRows

MARK = "egost_whole.json"
"""The last file of a checkpoint. A folder without it was being written when its run died."""

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


_WITHOUT_EFFECT = frozenset(
    {
        "output_dir",
        "logging_dir",
        "run_name",
        "report_to",
        "disable_tqdm",
        "logging_steps",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "model_init_kwargs",
        "resume_from_checkpoint",
        "local_rank",
        "push_to_hub",
        "hub_token",
        "hub_model_id",
        "vllm_server_base_url",
        "vllm_server_host",
        "vllm_server_port",
        "vllm_server_timeout",
        "vllm_gpu_memory_utilization",
        "vllm_max_model_length",
    }
)
"""Settings that a resumed run may change: where and how often files are written, where vLLM runs, and secrets."""


def train_resumably(
    method: Literal["sft", "grpo"],
    recipe: RowsRecipe,
    args: Any,
    model: Any,
    shown: ShownRows,
    make_trainer: Callable[[CheckpointManifest], Any],
) -> None:
    """Train a recipe from its start or from the last whole checkpoint of its folder, and write `final/`.

    args: the trainer's settings. model: TRL's ModelConfig. make_trainer: gets what a checkpoint records.
    Raises TrainingError where the folder holds a run of other rows or settings, which must not be mixed.
    """
    output = Path(args.output_dir)
    record = run_manifest(method, recipe, args, model, shown)
    found = read_manifest(output)
    if found and (differing := record.differs_from(found)):
        raise TrainingError(
            f"{output} holds another run: {', '.join(differing[:6])} differ. Give another --output_dir, or delete that "
            "folder to begin anew."
        )
    trainer = make_trainer(record)
    args = trainer.args
    with args.main_process_first(desc="looking for checkpoints"):
        if args.should_save:
            for broken in remove_unfinished(output):
                print(f"{broken} was being written when its run ended; it is removed.")
            record.write(output)
    last = whole_checkpoints(output)[-1:]
    if last and args.should_save:
        print(f"Going on from {last[0]}.")
    if last:
        restore_weights(trainer, last[0])
    trainer.add_callback(StepLines())
    trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
    save_final(trainer, output / FINAL, record)
    if args.should_save:
        print(f"Trained: {output / FINAL}. Figures: {output / LOG_FILE}")
    trainer.end()


def run_manifest(
    method: Literal["sft", "grpo"], recipe: RowsRecipe, args: Any, model: Any, shown: ShownRows
) -> CheckpointManifest:
    """What a checkpoint of a run records: its rows, its base, and every setting that changes the result.

    The manifest holds the rows' ids themselves, so that their file may be moved.
    """
    return new_manifest(
        method,
        model.model_name_or_path,
        model.model_revision,
        shown.rows,
        world=recipe.world,
        release_revision=shown.release.revision,
        seed=args.seed,
        settings={
            **{k: v for k, v in dataclasses.asdict(recipe).items() if k not in ("rows", "dry_run")},
            "model": {k: v for k, v in dataclasses.asdict(model).items() if v is not None},
            method: {name: value for name, value in args.to_dict().items() if name not in _WITHOUT_EFFECT},
        },
    )


def restore_weights(trainer: Any, checkpoint: Path) -> None:
    """Put a checkpoint's weights into the trainer's model.

    A checkpoint of transformers 5 names Qwen2-VL's weights otherwise than the model in memory does, and its Trainer
    resumes by the latter names without minding what is missing: nearly all weights would be the base's again.
    Adapters, DeepSpeed and FSDP are restored in ways of their own.
    """
    plain = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(plain, PreTrainedModel) and not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        saved = type(plain).from_pretrained(checkpoint, dtype=plain.dtype)
        plain.load_state_dict(saved.state_dict())


def save_final(trainer: Any, target: Path, record: CheckpointManifest) -> None:
    """Write the trained model with its processor and manifest, whole or not at all; adapters are merged into it.

    Adapters of a model that was loaded in 4 or 8 bits, or whose weights are spread over processes, cannot be merged
    here; they are written as they are, for `egost train merge` to put into the unquantised base.
    """
    plain = trainer.accelerator.unwrap_model(trainer.model)
    merges = hasattr(plain, "merge_and_unload") and not (
        getattr(plain, "is_loaded_in_4bit", False)
        or getattr(plain, "is_loaded_in_8bit", False)
        or trainer.is_deepspeed_enabled
        or trainer.is_fsdp_enabled
    )
    beside = target.with_name(target.name + ".part")
    if trainer.args.should_save:
        shutil.rmtree(beside, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    with writing(target, SafetensorError):
        if not merges:
            # Spread weights are gathered here, by all processes.
            trainer.save_model(str(beside))
        elif trainer.args.should_save:
            plain.merge_and_unload().save_pretrained(beside)
            trainer.processing_class.save_pretrained(beside)
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        record.write(beside)
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)


class CsvLog(TrainerCallback):  # type: ignore[misc]
    """Writes `log.csv` into the output folder: the step, then one column for each figure.

    columns: the file's columns, and for each the trainer's name of its figure; empty where a log has none.
    A run that resumes from a checkpoint drops the lines after it, so that the file is as an unbroken run's.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.columns = columns
        self._rows: list[Mapping[str, Any]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            path = Path(args.output_dir) / LOG_FILE
            self._rows = [row for row in read_log(path) if int(row["step"]) <= state.global_step]
            self._write(path)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        values = {column: (logs or {}).get(name) for column, name in self.columns.items()}
        # The summary at a run's end has none of a step's figures.
        is_step = any(value is not None for column, value in values.items() if column != "epoch")
        if state.is_world_process_zero and is_step:
            self._rows.append({"step": state.global_step, **values})
            self._write(Path(args.output_dir) / LOG_FILE)

    def _write(self, path: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *self.columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_whole(path, text.getvalue().encode())


class WholeCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint when all of it is written, then deletes the oldest ones beyond `keep`.

    keep: how many to keep; None keeps all. The Trainer's own `save_total_limit` would delete the last whole one
    before the new one is marked, and has to be None. finish: called with the folder before it is marked.
    """

    def __init__(self, keep: int | None, finish: Callable[[Path], None] | None = None) -> None:
        self.keep = keep
        self.finish = finish

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.finish:
            self.finish(folder)
        write_whole(folder / MARK, json.dumps({"step": state.global_step}).encode())
        if self.keep:
            for old in whole_checkpoints(Path(args.output_dir))[: -self.keep]:
                shutil.rmtree(old)


def whole_checkpoints(output: Path) -> list[Path]:
    """The whole checkpoints of a run, the oldest first."""
    found = [(int(m[1]), path) for path in _folders(output) if (m := _CHECKPOINT.fullmatch(path.name))]
    return [path for _, path in sorted(found) if (path / MARK).is_file()]


def remove_unfinished(output: Path) -> list[Path]:
    """Delete the checkpoints that were being written when their run died, and return their paths."""
    whole = set(whole_checkpoints(output))
    broken = [p for p in _folders(output) if _CHECKPOINT.fullmatch(p.name) and p not in whole]
    for folder in broken:
        shutil.rmtree(folder)
    return broken


class StepLines(TrainerCallback):  # type: ignore[misc]
    """Writes a line a minute into a log, where transformers' bar is one line without an end."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.lines = LineAMinute("training", "steps", state.max_steps, clock=self.clock)
        self.lines.done = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.lines.did()


class CutWarning(TrainerCallback):  # type: ignore[misc]
    """Says once in a run that many completions end by their length: such a one has no answer, and earns nothing."""

    def __init__(self) -> None:
        self.said = False

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        share = (logs or {}).get("completions/clipped_ratio", 0)
        if share > CUT_SHARE and not self.said and state.is_world_process_zero:
            self.said = True
            print(
                f"{share:.0%} of the completions of step {state.global_step} were cut off at "
                f"{args.max_completion_length} tokens, and a cut one has no answer. Give more --max_completion_length, "
                "or fine-tune on shorter reasoning; clipped_ratio in log.csv has the share of each step."
            )


class TokenCount(TrainerCallback):  # type: ignore[misc]
    """Goes on with SFTTrainer's count of tokens in a resumed run: TRL 1.16 keeps it in memory alone.

    The field of the Trainer's state that is for it lies in each checkpoint, and is not used by SFTTrainer.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer._total_train_tokens = state.num_input_tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        state.num_input_tokens_seen = self.trainer._total_train_tokens


class NonFiniteSteps(TrainerCallback):  # type: ignore[misc]
    """Leaves out an optimizer step whose gradient has NaN or infinity on any process, so that no weight is ruined.

    Without gradients the optimizer changes neither weights nor its own state; the schedule goes on.
    record: called with 1.0 for a step that is left out, else with 0.0.

    DeepSpeed steps inside its own backward pass, out of reach of a callback: see `VideoGRPOTrainer`.
    """

    def __init__(self, record: Callable[[float], None]) -> None:
        self.record = record

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients)
        bad = reduce((~torch.isfinite(norm)).float().reshape(1).to(args.device), "sum").item() > 0
        self.record(float(bad))
        if bad:
            optimizer.zero_grad(set_to_none=True)


def _folders(output: Path) -> list[Path]:
    return [path for path in output.iterdir() if path.is_dir()] if output.is_dir() else []
