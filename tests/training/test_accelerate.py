"""The shipped launch configurations, and two processes that train together."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from grpo_runs import PROCESS, grpo_flags
from places import ROOT
from safetensors.numpy import load_file
from sft_runs import CONFIGS, sft_flags
from video_runs import World, even_share

from egost.training import TrainingError
from egost.training.checkpoint_manifest import FINAL, read_manifest
from egost.training.recipe import _check_launch, config_path
from egost.training.run_log import LOG_FILE, read_log

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
            "DeepSpeed was asked for together with use_cpu.*--use_cpu false.*--ddp_backend gloo"
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


@pytest.mark.parametrize(("asked", "way"), [("DEEPSPEED", "--ddp_backend gloo"), ("CPU", "--use_cpu true")])
def test_processes_that_would_each_train_alone_are_refused(
    asked: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers finds on a CPU without `use_cpu`, where a launcher has started two processes."""
    found = SimpleNamespace(
        device=SimpleNamespace(type="cpu"), fsdp_plugin_args=None, use_cpu=False, world_size=1
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", str(asked == "DEEPSPEED"))
    with pytest.raises(TrainingError, match=f"2 processes were launched, and this one found 1: .*{way}"):
        _check_launch(found)


def launch(
    world: World, *program: str, zero: Path | None = None, killed: bool = False
) -> subprocess.CompletedProcess[str]:
    """Two processes on a CPU, by `accelerate launch`; with DeepSpeed by the configuration `zero`, where it is given."""
    # Under `--cpu` alone one process starts.
    how = ("--config_file", str(zero)) if zero else ("--multi_gpu",)
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", *how, "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
            *("--main_process_port", "0", *program),
            *(("--use_cpu", "false", "--ddp_backend", "gloo") if zero else ()),
        ],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            **({} if zero else {"ACCELERATE_USE_CPU": "1"}),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "EGOST_MINI_DATA": str(world.root),
        },
        timeout=600,
    )
    assert (launched.returncode != 0) is killed, launched.stderr[-3000:]
    return launched


def test_two_processes_train_together(world: World, tmp_path: Path) -> None:
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


METHODS = {"sft": ("-m", "egost.training.sft"), "grpo": (str(PROCESS), "0", "never")}


def two_steps(method: str, world: World, folder: Path, **changes: object) -> list[str]:
    flags = sft_flags if method == "sft" else grpo_flags
    return flags(world, folder, max_steps=2, save_steps=1, seed=7, warmup_steps=0, **changes)


@pytest.fixture(scope="module")
def alone(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The log of two steps of each method by DDP, whose processes hold all weights."""
    logs = {}
    for method, program in METHODS.items():
        folder = tmp_path_factory.mktemp(method)
        launch(world, *program, *two_steps(method, world, folder))
        logs[method] = read_log(folder / "run" / LOG_FILE)
    return logs


@pytest.fixture(scope="module")
def deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for what DeepSpeed compiles when it first runs on a CPU, which takes more than a minute."""
    if find_spec("deepspeed") is None:
        pytest.skip("needs deepspeed: the extra train-gpu")
    with pytest.MonkeyPatch.context() as patch:
        built = os.environ.get("TORCH_EXTENSIONS_DIR", str(tmp_path_factory.mktemp("extensions")))
        patch.setenv("TORCH_EXTENSIONS_DIR", built)
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        yield


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
@pytest.mark.usefixtures("deepspeed")
def test_zero_trains_as_ddp_does(
    method: str, stage: str, alone: dict[str, list[dict[str, str]]], world: World, tmp_path: Path
) -> None:
    """Gradient norms and losses of two processes, which split the optimiser's states (2) or the weights, too (3).

    One run of GRPO is killed before its second step, and goes on from its checkpoint.
    """
    config, flags = CONFIGS / "accelerate" / f"{stage}.yaml", two_steps(method, world, tmp_path)
    if (method, stage) == ("grpo", "zero3"):
        launch(world, str(PROCESS), "1", "step", *flags, zero=config, killed=True)
    launched = launch(world, *METHODS[method], *flags, zero=config)
    log = read_log(tmp_path / "run" / LOG_FILE)
    for figure in ("grad_norm", "loss"):
        expected = [float(row[figure]) for row in alone[method]]
        assert [float(row[figure]) for row in log] == pytest.approx(expected, rel=1e-5, abs=1e-6), figure
    assert len(log) == 2 and read_manifest(tmp_path / "run" / FINAL) is not None
    assert launched.stdout.count("Trained: ") == 1
    # Gathered from both processes, and by the names that a checkpoint has.
    trained, untrained = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "run" / FINAL, world.checkpoint)
    )
    assert {name: weight.shape for name, weight in trained.items()} == {
        name: weight.shape for name, weight in untrained.items()
    }
