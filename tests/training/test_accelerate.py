"""The shipped launch configurations, and two processes that train together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from grpo_runs import PROCESS, grpo_flags
from sft_runs import CONFIGS, sft_flags
from video_runs import World, even_share

from egost.training.checkpoint_manifest import FINAL, read_manifest

LAUNCHES = sorted((CONFIGS / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("config", LAUNCHES, ids=lambda path: path.stem)
def test_accelerate_reads_every_shipped_configuration(config: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    loaded = load_config_from_file(str(config))
    assert str(loaded.distributed_type).endswith("FSDP" if config.stem == "fsdp" else "DEEPSPEED")
    assert (loaded.num_processes, loaded.mixed_precision, loaded.use_cpu) == (4, "bf16", False)
    # As the command itself reads them.
    args = launch_command_parser().parse_args(["--config_file", str(config), "-m", "egost.training.sft"])
    args, _, _ = _validate_launch_command(args)
    if config.stem == "fsdp":
        assert args.use_fsdp
        assert args.fsdp_state_dict_type == "FULL_STATE_DICT"
    else:
        assert args.use_deepspeed
        assert str(args.zero_stage) == config.stem[-1]


def test_each_shipped_configuration_is_named_here() -> None:
    assert [path.stem for path in LAUNCHES] == ["fsdp", "zero2", "zero3"]


def launch(world: World, *module: str) -> subprocess.CompletedProcess[str]:
    """Two processes on a CPU, by `accelerate launch`."""
    launched = subprocess.run(
        [
            # Under `--cpu` alone one process starts.
            *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
            *("--main_process_port", "0", *module),
        ],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "ACCELERATE_USE_CPU": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "EGOST_MINI_DATA": str(world.root),
        },
        timeout=600,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    return launched


def test_two_processes_train_together(world: World, tmp_path: Path) -> None:
    from egost.training.run_log import LOG_FILE, read_log

    launched = launch(world, "-m", "egost.training.sft", *sft_flags(world, tmp_path, max_steps=2))
    output = tmp_path / "run"
    # Two rows a step, of three: the first step teaches more tokens than any row alone has.
    log = read_log(output / LOG_FILE)
    assert [row["step"] for row in log] == ["1", "2"]
    longest = max(len(sample.prompt_ids) for sample in world.shown)
    assert float(log[0]["tokens"]) > 1.5 * longest
    assert read_manifest(output / FINAL) is not None
    assert launched.stdout.count("Trained: ") == 1


def test_each_process_has_equation_2s_weights_of_its_own_group(world: World, tmp_path: Path) -> None:
    flags = grpo_flags(world, tmp_path, max_steps=1, save_strategy="no", advantage="softmax")
    launch(world, str(PROCESS), "0", "never", *flags)
    groups = [json.loads((tmp_path / "run" / f"advantages-{rank}.json").read_text()) for rank in (0, 1)]
    for group in groups:
        rewards = np.array(even_share(completion_ids=group["completions"]))
        weighed = np.exp((rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4))
        expected = 4 * weighed / weighed.sum() if np.ptp(rewards) else np.zeros(4)
        assert group["advantages"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert groups[0]["advantages"] != groups[1]["advantages"], "else the place of a process shows nothing"
