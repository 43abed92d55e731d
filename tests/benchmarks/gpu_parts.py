"""What `gpu_check.py` measures, part by part, each in a process of its own.

python gpu_parts.py NAME FOLDER SIZE      prints the figures as JSON, in its last line
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Size:
    """How much is done, and how patiently.

    frames: a protocol. completion, reply: most tokens. asked: questions of a task in parity. patience: what all limits
    of time are multiplied by; a CPU may have other work.
    """

    shape: str
    clips: int
    frames: str
    completion: int
    reply: int
    asked: int
    patience: float


SIZES = {
    size.shape: size
    for size in (
        Size("7B", 12, "uniform8+392x364", 256, 16, 2, 1),
        Size("0.5B", 2, "uniform8", 32, 4, 1, 10),
        Size("tiny", 2, "uniform8", 8, 4, 1, 10),
    )
}


@dataclass(frozen=True)
class Part:
    """One measurement. needs: packages. gpu: whether it works on a GPU alone."""

    what: str
    needs: tuple[str, ...]
    limit_s: float
    measure: Callable[[Path, Size], dict[str, Any]]
    gpu: bool = False


def made(folder: Path, size: Size) -> dict[str, Any]:
    """The checkpoint, the clips and the rows that all other parts use."""
    from adapters import large_checkpoint

    from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
    from egost.tasks.mini_world import write_mini_release
    from egost.tasks.release.release import Release
    from egost.training.rows.training_rows import TrainingRow, write_training_rows

    write_mini_release(folder / "mini", clips=size.clips, seed=1, progress=False)
    release = Release("mini", (folder / "mini",), "gpu-check")
    asked = [s for s in release.index.samples if s.task == "direction" and s.way == "forward"][:2]
    hashes = [hashlib.sha256(release.clip_path(sample).read_bytes()).hexdigest() for sample in asked]
    rows = [
        TrainingRow(s, "Back the other way, each turn is swapped.", h)
        for s, h in zip(asked, hashes, strict=True)
    ]
    write_training_rows(folder / "rows.jsonl", rows)
    if size.shape == "tiny":
        tiny_checkpoint(folder / "checkpoint")
    else:
        large_checkpoint(tiny_checkpoint(folder / "tiny"), folder / "checkpoint", size.shape)
    return {"weights_gib": (folder / "checkpoint" / "model.safetensors").stat().st_size / 2**30}


def evaluated(adapter: str, model_args: str, batch: int) -> Callable[[Path, Size], dict[str, Any]]:
    """Questions a second and the share outside the model, by one of lmms-eval's adapters or ours."""

    def measure(folder: Path, size: Size) -> dict[str, Any]:
        from adapters import measure as by_adapter

        path = folder / "checkpoint"
        own = "max_model_len=4096,enforce_eager=True," + ("dtype=float32" if on_cpu() else "dtype=bfloat16")
        if on_cpu() and adapter.startswith("vllm"):
            own += ",block_size=32"
        stock = f"max_frame_num=8,nframes=8,max_new_tokens={size.reply}"
        place = "device_map=cpu" if on_cpu() else "device_map=cuda"
        args = model_args.format(checkpoint=path, vllm=own, stock=stock, place=place)
        record, replies = by_adapter(adapter, args, batch, size.reply, within_s=0 if on_cpu() else 10)
        return {
            "samples_per_s": record["samples"] / record["seconds"],
            "outside": record["outside_clock"],
            "peak_gib": _peak_gib(),
            **({"cached": record["cached"]} if "cached" in record else {}),
            "samples": record["samples"],
            "replies": replies,
        }

    return measure


LORA = ("--lora_r", "8", "--lora_alpha", "8", "--lora_target_modules", "q_proj", "k_proj", "v_proj", "o_proj")
SFT = ("--config", "st_r1_7b_cot_sft")
GRPO = ("--config", "st_r1_7b_grpo", "--use_peft", "true", *LORA)


def trained(method: str, *flags: str) -> Callable[[Path, Size], dict[str, Any]]:
    """Two steps of a paper's recipe: seconds, memory, and the shares of vision, sampling and handing over weights."""

    def measure(folder: Path, size: Size) -> dict[str, Any]:
        from adapters import Clock
        from grpo_vision import Stopwatch
        from transformers import TrainerCallback

        from egost.training.resumable_run import run_manifest

        way = import_module(f"egost.training.{method}")
        given = [
            *flags,
            *("--world", "mini", "--rows", str(folder / "rows.jsonl"), "--protocol", size.frames),
            *("--model_name_or_path", str(folder / "checkpoint"), "--output_dir", str(folder / "run")),
            *("--max_steps", "2", "--save_strategy", "no", "--disable_tqdm", "true"),
            *(("--max_completion_length", str(size.completion)) if method == "grpo" else ()),
            *(("--use_cpu", "true", "--bf16", "false", "--dtype", "float32") if on_cpu() else ()),
        ]
        recipe, args, model = way.parse(given)
        data = way.load_data(recipe, model.model_name_or_path)
        shown = getattr(data, "shown", data)
        trainer = way.make_trainer(
            recipe, args, model, data, run_manifest(method, recipe, args, model, shown)
        )
        clocks = {
            "vision": Stopwatch(trainer.accelerator.unwrap_model(trainer.model).get_base_model(), read=_now)
        }
        if method == "grpo":
            clocks["sampling"] = Clock(_now)
            trainer.rollout_func = clocks["sampling"].around(trainer.rollout_func)
            if trainer.use_vllm:
                clocks["handing_over"] = Clock(_now)
                handing = trainer.vllm_generation
                handing.sync_weights()  # vLLM starts here, which is no part of a step
                handing.sync_weights = clocks["handing_over"].around(handing.sync_weights)
        steps: list[float] = []

        class Steps(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                steps.append(-_now())

            def on_step_end(self, *_: Any, **__: Any) -> None:
                steps[-1] += _now()

        trainer.add_callback(Steps())
        trainer.train()
        trainer.end()
        gaps = [entry[GAP] for entry in trainer.state.log_history if GAP in entry]
        return {
            "step_s": steps,
            "peak_gib": _peak_gib(),
            **{name: clock.seconds / sum(steps) for name, clock in clocks.items()},
            **({"sampling_gap": max(gaps)} if gaps else {}),
            "prompt_tokens": shown.prompt_lengths()[0],
        }

    return measure


GAP = "sampling/sampling_logp_difference/mean"


def compared(folder: Path, size: Size) -> dict[str, Any]:
    """lmms-eval's own adapter against vLLM, both in bfloat16: `egost parity`."""
    from egost.model_adapters.parity.parity_run import engine_makers, run_parity
    from egost.model_adapters.questions import choose_questions

    makers = engine_makers("hf,vllm", str(folder / "checkpoint"), None, "bfloat16")
    questions = choose_questions("egost_mini", size.asked)
    [found] = run_parity(makers, questions.asks(list(questions.asked)), rounding_known=False)
    return {
        "questions": len(found.questions),
        "same_answers": found.identical_answers,
        "largest_gap": max(question.first_token.largest for question in found.questions),
        "verdict": found.verdict,
    }


OURS = "model={checkpoint},{vllm},fresh=True"
STOCK = "model={checkpoint},{vllm},{stock}"
_TRAINS = ("transformers", "trl", "peft")
_VLLM = ("vllm", "lmms_eval")
PARTS = {
    "checkpoint": Part("checkpoint and clips made here", ("transformers",), 120, made),
    "sft": Part(
        "SFT, LoRA of Table 6 on bfloat16 weights",
        _TRAINS,
        60,
        trained("sft", *SFT, "--load_in_4bit", "false"),
    ),
    "grpo": Part("GRPO, LoRA, G = 8, sampled by transformers", _TRAINS, 90, trained("grpo", *GRPO)),
    "qwen2_vl": Part(
        "lmms-eval's `qwen2_vl`",
        ("lmms_eval",),
        60,
        evaluated(
            "qwen2_vl",
            "pretrained={checkpoint},{place},max_num_frames=8,min_pixels=3136,max_pixels=602112",
            1,
        ),
    ),
    "egost_vllm": Part("`egost_vllm`", _VLLM, 90, evaluated("egost_vllm", OURS, 1)),
    "egost_vllm_uncached": Part(
        "`egost_vllm`, prefix cache off",
        _VLLM,
        90,
        evaluated("egost_vllm", f"{OURS},prefix_caching=False", 1),
    ),
    "vllm": Part("lmms-eval's `vllm` (8 images)", _VLLM, 90, evaluated("vllm", STOCK, 1000)),
    "vllm_generate": Part("lmms-eval's `vllm_generate`", _VLLM, 90, evaluated("vllm_generate", STOCK, 1000)),
    "grpo_vllm": Part(
        "GRPO, LoRA, G = 8, sampled by vLLM in the process",
        (*_TRAINS, "vllm"),
        120,
        trained("grpo", *GRPO, "--use_vllm", "true", "--vllm_gpu_memory_utilization", "0.4"),
    ),
    "parity": Part("parity of `hf` and vLLM in bfloat16", _VLLM, 90, compared),
    "sft_4bit": Part(
        "SFT, LoRA of Table 6 on 4 bits", (*_TRAINS, "bitsandbytes"), 60, trained("sft", *SFT), gpu=True
    ),
}


def measure_part() -> None:
    """Measure one part in this process and print its figures in the last line. Arguments: NAME FOLDER SIZE."""
    name, folder, size = sys.argv[1:]
    print(json.dumps(PARTS[name].measure(Path(folder), SIZES[size])))


def _now() -> float:
    """Seconds on the clock when all that a GPU was given is done; without a GPU, of CPU: others may use it, too."""
    if on_cpu():
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def on_cpu() -> bool:
    import torch

    return not torch.cuda.is_available()


def _peak_gib() -> float:
    if on_cpu():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    import torch

    return float(torch.cuda.max_memory_allocated() / 2**30)


if __name__ == "__main__":
    measure_part()
