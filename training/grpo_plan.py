"""What a run of GRPO would do, said beforehand: steps, tokens, memory, and the first prompt as the model sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egost.training.runs.memory_plan import plan_memory

if TYPE_CHECKING:
    from egost.training.grpo import GrpoData, GrpoRecipe


def plan(recipe: GrpoRecipe, args: Any, model: Any, data: GrpoData) -> str:
    """The plan as text. Nothing is trained and no weight is loaded."""
    lengths = data.prompt_lengths()
    shown = data.show(0)
    row = data.rows[0]
    video_tokens = sum(kind == 2 for kind in shown.mm_token_type_ids)
    per_step = args.generation_batch_size // args.num_generations
    longest = max(lengths) + args.max_completion_length
    return "\n".join(
        [
            f"rows: {len(data.rows)} of {recipe.world} ({data.release.revision})",
            f"optimizer steps: {optimizer_steps(args, len(data.rows))} ({per_step} prompts x {args.num_generations} "
            f"completions sampled at a time)",
            f"sampled by: {_sampler(args)}",
            f"prompt tokens: {min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.0f} "
            f"(limit {recipe.max_prompt_length}); a completion at most {args.max_completion_length}",
            f"tokens an epoch, at most: "
            f"{sum(n + args.max_completion_length for n in lengths) * args.num_generations:,}",
            *plan_memory(model, args, longest, args.per_device_train_batch_size).lines(),
            *_reference(model, args),
            "",
            f"first row: {row.sample.id}, video of {video_tokens} tokens, grid {shown.video_grid_thw[0].tolist()}",
            shown.text,
            f"--- its own solution earns {_earned(data)} ---",
            row.solution,
        ]
    )


def _sampler(args: Any) -> str:
    from egost.training.grpo import vllm_server

    if not args.use_vllm:
        return "transformers"
    if args.vllm_mode == "server":
        return f"vLLM at {vllm_server(args)}"
    return f"vLLM in this process, with {args.vllm_gpu_memory_utilization:.0%} of its GPU's memory"


def optimizer_steps(args: Any, rows: int) -> int:
    """Optimizer steps of the run, as TRL's sampler makes them: groups that do not fill a batch are left out."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = rows // (args.generation_batch_size // args.num_generations)
    micro_steps = batches * args.steps_per_generation * args.num_iterations
    per_epoch = -(-micro_steps // args.gradient_accumulation_steps)
    return int(per_epoch * args.num_train_epochs)


def _reference(model: Any, args: Any) -> list[str]:
    if not args.beta or model.use_peft:
        return []
    return ["  the reference model takes as much as the weights once more"]


def _earned(data: GrpoData) -> str:
    row = data.rows[0]
    reward = data.rewards.route if row.sample.task == "route" else data.rewards.accuracy
    [earned] = reward(completions=[row.solution], row=[0], log_metric=lambda _name, _value: None)
    return "no reward: it could not be scored" if earned is None else f"{earned:.2f}"
