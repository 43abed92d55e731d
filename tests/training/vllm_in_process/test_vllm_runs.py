"""GRPO whose rollouts the real vLLM samples, by the real commands: in the process, and by a server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from egost_serve import Served, start_serving
from grpo_runs import PROCESS, grpo_flags
from lmms_eval_command import environment
from video_runs import World

from egost.model_adapters.engine import AdapterError
from egost.model_adapters.server.server_engine import ServerEngine
from egost.training.checkpoint_manifest import FINAL


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "cache"


@pytest.fixture(scope="module")
def server(world: World, cache: Path) -> Iterator[Served]:
    served = start_serving(world.checkpoint, cache, "--rollouts")
    try:
        served.wait_until_ready()
        yield served
    finally:
        served.stop()


@pytest.fixture
def flags(world: World, tmp_path: Path) -> list[str]:
    """Flags of a run of 4 steps on two rows, saved every 2 steps."""
    return grpo_flags(world, tmp_path, max_steps=4, use_vllm="true")


def run(
    cache: Path, world: World, *arguments: str, launch: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *launch, str(PROCESS), *arguments],
        capture_output=True,
        text=True,
        env={**environment(cache), "OMP_NUM_THREADS": "1", "EGOST_MINI_DATA": str(world.root)},
        timeout=600,
    )


@pytest.fixture
def by_server(flags: list[str], server: Served) -> list[str]:
    return [*flags, "--vllm_mode", "server", "--vllm_server_base_url", server.url]


def test_a_run_with_vllm_in_the_process(flags: list[str], cache: Path, world: World, tmp_path: Path) -> None:
    from egost.training.handed_weights import FOLDER
    from egost.training.run_log import LOG_FILE, read_log

    lora = ["--use_peft", "--lora_target_modules", "q_proj", "v_proj", "--max_steps", "2"]
    done = run(cache, world, "0", "never", *flags, *lora)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr and "Loading safetensors" not in done.stderr
    log = read_log(tmp_path / "run" / LOG_FILE)
    assert max(float(row["sampling_gap"]) for row in log) < 0.05
    assert (tmp_path / "run" / FINAL / "model.safetensors").is_file()
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_killed_run_goes_on_as_the_unbroken_one(
    by_server: list[str], cache: Path, world: World, server: Served, tmp_path: Path
) -> None:
    from egost.training.resumable_run import whole_checkpoints
    from egost.training.run_log import LOG_FILE, read_log

    unbroken = run(cache, world, "0", "never", *by_server, "--output_dir", str(tmp_path / "unbroken"))
    assert unbroken.returncode == 0, unbroken.stderr[-3000:] + server.text[-3000:]
    assert run(cache, world, "3", "step", *by_server).returncode == -signal.SIGKILL
    assert [folder.name for folder in whole_checkpoints(tmp_path / "run")] == ["checkpoint-2"]
    last = run(cache, world, "0", "never", *by_server)
    assert last.returncode == 0, last.stderr[-3000:]
    whole, broken = (read_log(tmp_path / name / LOG_FILE) for name in ("unbroken", "run"))
    assert [row["step"] for row in broken] == ["1", "2", "3", "4"]
    for name in ("loss", "reward", "kl", "grad_norm", "sampling_gap"):
        assert [float(row[name]) for row in broken] == pytest.approx(
            [float(row[name]) for row in whole], rel=1e-4, abs=1e-6
        ), name
    # Under the policy but for the tokens that are never sampled: the server had the weights of each step.
    assert max(float(row["sampling_gap"]) for row in whole) < 0.05
    assert len({row["reward"] for row in whole}) > 1


def test_two_processes_share_a_server(
    by_server: list[str], cache: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egost.training.run_log import LOG_FILE, read_log

    launch = (
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    )
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    done = run(
        cache, world, "0", "never", *by_server, "--max_steps", "2", "--save_strategy", "no", launch=launch
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Both rows in each step, one in each process; the weights of the second step have arrived.
    log = read_log(tmp_path / "run" / LOG_FILE)
    assert [float(row["epoch"]) for row in log] == [1.0, 2.0]
    assert max(float(row["sampling_gap"]) for row in log) < 0.05


def test_its_server_is_not_evaluated(server: Served) -> None:
    with pytest.raises(AdapterError, match="started for the rollouts of a training"):
        ServerEngine([server.url])
