"""One training run from its start, or from where it was cut off, to a final checkpoint that is there whole."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel

from egost.training import TrainingError
from egost.training.recipe import RowsRecipe
from egost.training.runs.callbacks import LOG_FILE, remove_unfinished, whole_checkpoints
from egost.training.runs.checkpoint_manifest import FINAL, CheckpointManifest, new_manifest, read_manifest
from egost.training.video.video_inputs import ShownRows

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
