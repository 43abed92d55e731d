"""What a run of GRPO would do, said beforehand: steps, tokens, memory, and the first prompt as the model sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.grpo import GrpoData, GrpoRecipe

_GIB = 2**30


def plan(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> str:
    """The plan as text. Nothing is trained and no weight is loaded."""
    lengths = data.prompt_lengths()
    shown = data.show(0)
    row = data.rows[0]
    video_tokens = sum(kind == 2 for kind in shown.mm_token_type_ids)
    per_step = args.generation_batch_size // args.num_generations
    return "\n".join(
        [
            f"rows: {len(data.rows)} of {recipe.world} ({data.release.revision})",
            f"optimizer steps: {optimizer_steps(args, len(data.rows))} ({per_step} prompts x {args.num_generations} "
            f"completions sampled at a time)",
            f"prompt tokens: {min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.0f} "
            f"(limit {recipe.max_prompt_length}); a completion at most {args.max_completion_length}",
            f"tokens an epoch, at most: "
            f"{sum(n + args.max_completion_length for n in lengths) * args.num_generations:,}",
            *memory_estimate(model, args),
            "",
            f"first row: {row.sample.id}, video of {video_tokens} tokens, grid {shown.video_grid_thw[0].tolist()}",
            shown.text,
            f"--- its own solution earns {_earned(data)} ---",
            row.solution,
        ]
    )


def optimizer_steps(args: Any, rows: int) -> int:
    """Optimizer steps of the run, as TRL's sampler makes them: groups that do not fill a batch are left out."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = rows // (args.generation_batch_size // args.num_generations)
    micro_steps = batches * args.steps_per_generation * args.num_iterations
    per_epoch = -(-micro_steps // args.gradient_accumulation_steps)
    return int(per_epoch * args.num_train_epochs)


def memory_estimate(model: Any, args: Any) -> list[str]:
    """Lines on the memory that weights, gradients and AdamW's two moments take, on one device, without activations."""
    parameters = count_parameters(model.model_name_or_path)
    width = 2 if model.dtype in ("bfloat16", "float16") else 4
    weights = parameters * width / _GIB
    said = f"memory: {parameters / 1e6:,.1f} M weights of {width} bytes, {weights:.2f} GiB"
    if model.use_peft:
        return [f"{said}; the reference shares them; adapters, activations and caches come on top"]
    reference = weights if args.beta else 0.0
    total = weights * 4 + reference
    return [
        f"{said}, and as much for gradients, twice for AdamW{', once for the reference' if reference else ''}: "
        f"{total:.2f} GiB in all, divided by the processes under ZeRO-3 or FSDP; activations and caches come on top"
    ]


def count_parameters(checkpoint: str) -> int:
    """Weights of a checkpoint, counted from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(checkpoint))
    return sum(weight.numel() for weight in model.parameters())


def _earned(data: GrpoData) -> str:
    row = data.rows[0]
    reward = data.rewards.route if row.sample.task == "route" else data.rewards.accuracy
    [earned] = reward(completions=[row.solution], row=[0], log_metric=lambda _name, _value: None)
    return "no reward: it could not be scored" if earned is None else f"{earned:.2f}"
