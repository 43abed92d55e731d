"""The shipped launch configurations, and two processes that train together."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from grpo_runs import PROCESS, grpo_flags
from places import ROOT
from sft_runs import CONFIGS, sft_flags
from video_runs import World, even_share

from egost.training import TrainingError
from egost.training.checkpoint_manifest import FINAL, read_manifest
from egost.training.recipe import config_path

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


@pytest.mark.parametrize("config", LAUNCHES, ids=lambda path: path.stem)
@pytest.mark.parametrize("rank", [0, 1])
def test_the_two_machines_of_the_documents_are_launched(config: Path, rank: int) -> None:
    """Each line of docs/training.md, as accelerate's own launcher takes it apart; each shipped configuration."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if "--num_machines" in line]
    assert len(lines) == 2
    given = shlex.split(lines[rank].replace("zero3.yaml", config.name))[2:]
    assert given[1] == f"training/configs/accelerate/{config.name}"
    args, defaults, _ = _validate_launch_command(
        launch_command_parser().parse_args([given[0], str(ROOT / given[1]), *given[2:]])
    )
    args.main_process_port = 0  # Whatever is free here.
    if config.stem == "fsdp":
        prepare_multi_gpu_env(args)
    else:
        args.deepspeed_fields_from_accelerate_config = ",".join(
            defaults.deepspeed_config
        )  # as `launch_command`
        # Not by DeepSpeed's own launcher, which would need ssh from one to the other.
        command, _ = prepare_deepspeed_cmd_env(args)
        assert "deepspeed" not in (command or [])
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "4", rank)
    assert args.rdzv_endpoint.startswith("10.0.0.1:")
    assert args.module and args.training_script == "egost.training.grpo"
    assert config_path(args.training_script_args[1]).is_file()


@pytest.mark.parametrize(
    ("asked", "flags", "said"),
    [
        ("FSDP", ["--use_cpu", "true"], "FSDP was asked for, and accelerate has none on a CPU"),
        (
            "DEEPSPEED",
            ["--use_cpu", "true"],
            "DeepSpeed was asked for together with use_cpu.*--use_cpu false"
            if find_spec("deepspeed")
            else "DeepSpeed was asked for, and is not installed: pip install .*deepspeed",
        ),
    ],
)
def test_what_accelerate_would_leave_out_is_refused(
    asked: str, flags: list[str], said: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egost.training import grpo

    monkeypatch.setenv(f"ACCELERATE_USE_{asked}", "true")
    with pytest.raises(TrainingError, match=said):
        grpo.parse([*grpo_flags(world, tmp_path), *flags])
    # A plan trains nothing, and is made without a GPU.
    if asked == "FSDP":
        grpo.parse([*grpo_flags(world, tmp_path), *flags, "--dry_run", "true"])


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
