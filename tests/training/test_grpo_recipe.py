"""The recipe as a person runs it: read, planned, killed, gone on with, and its checkpoint used."""

from __future__ import annotations

import json
import signal
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import yaml
from grpo_runs import CONFIGS, grpo_flags
from typer.testing import CliRunner
from video_runs import World, in_a_process

from egost.main import app
from egost.model_adapters.engine import AdapterError
from egost.tasks.release.release import open_release
from egost.tasks.release.trained_on import MANIFEST
from egost.training import TrainingError, grpo
from egost.training.checkpoint_manifest import FINAL


@pytest.fixture
def flags(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a run of 5 steps on two rows, saved every 2 steps."""
    monkeypatch.setenv("EGOST_MINI_DATA", str(world.root))
    open_release.cache_clear()
    return grpo_flags(world, tmp_path)


run = partial(in_a_process, "grpo_process:main")


def test_a_killed_run_goes_on_as_the_unbroken_one(flags: list[str], tmp_path: Path) -> None:
    import torch
    from transformers import Qwen2VLForConditionalGeneration

    from egost.training.resumable_run import MARK, whole_checkpoints
    from egost.training.run_log import LOG_FILE, read_log

    unbroken = run(0, "never", [*flags, "--output_dir", str(tmp_path / "unbroken")])
    assert unbroken.returncode == 0, unbroken.stderr[-2000:]
    output = tmp_path / "run"
    assert run(3, "step", flags).returncode == -signal.SIGKILL
    assert [folder.name for folder in whole_checkpoints(output)] == ["checkpoint-2"]
    assert run(4, "save", flags).returncode == -signal.SIGKILL
    assert (output / "checkpoint-4").is_dir()
    assert not (output / "checkpoint-4" / MARK).exists()
    last = run(0, "never", flags)
    assert last.returncode == 0, last.stderr[-2000:]
    assert "checkpoint-4 was being written when its run ended; it is removed." in last.stdout
    assert "checkpoint-2." in last.stdout

    whole, broken = read_log(tmp_path / "unbroken" / LOG_FILE), read_log(output / LOG_FILE)
    assert [row["step"] for row in broken] == ["1", "2", "3", "4", "5"]
    for name in ("loss", "reward", "kl", "entropy", "grad_norm", "completion_length"):
        assert [float(row[name]) for row in broken] == pytest.approx(
            [float(row[name]) for row in whole], rel=1e-6
        ), name
    assert len({row["reward"] for row in whole}) > 2

    same = [
        Qwen2VLForConditionalGeneration.from_pretrained(folder / FINAL)
        for folder in (tmp_path / "unbroken", output)
    ]
    for (name, one), other in zip(same[0].named_parameters(), same[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8, msg=name)
    record = json.loads((output / FINAL / MANIFEST).read_text())
    assert [row["sample"] for row in record["rows"]] == [
        json.loads(line)["sample"]["id"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()
    ]
    with pytest.raises(TrainingError, match=r"holds another run: settings\.grpo\.beta differ"):
        grpo.main([*flags, "--beta", "0.2"])


def test_a_run_ends_with_a_checkpoint_that_an_evaluation_loads(
    flags: list[str], world: World, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    from egost.training.run_log import LOG_FILE, read_log

    lora = ["--use_peft", "--lora_target_modules", "q_proj", "v_proj", "--max_steps", "1"]
    grpo.main([*flags, *lora, "--report_to", "tensorboard"])
    final = tmp_path / "run" / FINAL
    model = Qwen2VLForConditionalGeneration.from_pretrained(final)
    processor = AutoProcessor.from_pretrained(final)
    assert processor.chat_template == world.processor.chat_template
    assert model.generation_config.eos_token_id == [927, 925]
    assert not any("lora" in name for name in model.state_dict())
    with torch.no_grad():
        assert model(**world.shown[0].tensors()).logits.isfinite().all()
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))
    assert [row["step"] for row in read_log(tmp_path / "run" / LOG_FILE)] == ["1"]


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*grpo.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read(config: Path) -> None:
    # A machine without a GPU refuses bf16, and knows no such thing as the devices of the 7B run.
    given = ["--config", str(config), "--model_name_or_path", "m", "--rows", "r", "--bf16", "false"]
    recipe, args, _ = grpo.parse(given)
    assert recipe.world == yaml.safe_load(config.read_text())["world"]
    assert args.reward_weights == [1.0, 0.0, 1.0]
    assert (args.loss_type, args.scale_rewards, args.num_generations) == ("grpo", "group", 8)


def test_a_dry_run_says_what_would_be_done(flags: list[str], tmp_path: Path) -> None:
    name, config, *rest = flags
    assert name == "--config"
    result = CliRunner().invoke(app, ["train", "grpo", config, *rest, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "optimizer steps: 5 (1 prompts x 4 completions sampled at a time)" in result.output
    assert "<|vision_start|><|video_pad|><|vision_end|>The video was filmed" in result.output
    assert "its own solution earns 1.00" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--rows", ""], "names no rows"),
        (["--max_prompt_length", "100"], "2 of 2 prompts are longer than max_prompt_length"),
        (["--softmax_temperature", "0"], "softmax_temperature is 0.0"),
        (["--config", "nowhere.yaml"], "the recipe cannot be read"),
        (
            ["--use_vllm", "true", "--vllm_enable_sleep_mode", "true"],
            "vllm_enable_sleep_mode cannot be honoured",
        ),
        (
            ["--use_vllm", "true", "--load_in_4bit", "true", "--dry_run", "true"],
            "which vLLM cannot be handed",
        ),
        (["--use_vllm", "true", "--smallest_pixels", "784"], "vLLM knows 3136 only"),
        (["--use_vllm", "true", "--loss_type", "vespo"], "expected one of token_truncate, token_mask"),
    ],
)
def test_a_wrong_recipe_is_named(flags: list[str], extra: list[str], says: str) -> None:
    kept = flags[2:] if extra[0] == "--config" else flags
    with pytest.raises(TrainingError, match=says):
        grpo.main([*kept, *extra])


def test_a_run_goes_on_with_a_server_elsewhere(flags: list[str]) -> None:
    from egost.training.resumable_run import run_manifest

    records = []
    for url in ("http://a:1", "http://b:2"):
        server = ["--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", url]
        recipe, args, model = grpo.parse([*flags, *server])
        data = grpo.load_data(recipe, model.model_name_or_path)
        records.append(run_manifest("grpo", recipe, args, model, data.shown))
    assert not records[0].differs_from(records[1])


def test_vllm_in_one_of_several_processes_is_refused(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import GRPOConfig

    monkeypatch.setattr(GRPOConfig, "world_size", 2)
    with pytest.raises(TrainingError, match=r"there are 2 processes.*--vllm_mode server"):
        grpo.parse([*flags, "--use_vllm", "true"])


def _not_installed(name: str) -> str:
    raise PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "vLLM in this process, with 30% of its GPU's memory"),
        (["--vllm_mode", "server", "--vllm_server_base_url", "http://a:1"], "vLLM at http://a:1"),
    ],
)
def test_a_dry_run_says_who_samples(
    flags: list[str], more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grpo.main([*flags, "--dry_run", "true", "--use_vllm", "true", *more])
    assert f"sampled by: {says}" in capsys.readouterr().out


def test_rollouts_without_a_vllm_are_named(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as absent:
        absent.setattr("egost.model_adapters.vllm_engine.version", _not_installed)
        with pytest.raises(AdapterError, match="vLLM is not installed"):
            grpo.main([*flags, "--use_vllm", "true"])
    nowhere = [
        "--vllm_mode",
        "server",
        "--vllm_server_base_url",
        "http://127.0.0.1:9",
        "--vllm_server_timeout",
        "0.2",
    ]
    with pytest.raises(AdapterError, match=r"no server is up at http://127\.0\.0\.1:9 "):
        grpo.main([*flags, "--use_vllm", "true", *nowhere])


def test_a_clip_that_is_not_the_rows_own_is_named(flags: list[str], world: World, tmp_path: Path) -> None:
    line = json.loads(world.rows[0].to_line())
    (tmp_path / "rows.jsonl").write_text(json.dumps(line | {"clip_sha256": "0" * 64}) + "\n")
    with pytest.raises(TrainingError, match=r"1 of 1 rows cannot be shown to a model\..*is another file"):
        grpo.main(flags)


def test_another_trl_is_refused(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egost.training.recipe.version", lambda _: "1.17.0")
    with pytest.raises(TrainingError, match=r"TRL 1\.17\.0 is installed"):
        grpo.main(flags)


def test_a_run_says_once_that_completions_are_cut(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grpo.main([*flags, "--max_steps", "2", "--save_strategy", "no"])
    said = [line for line in capsys.readouterr().out.splitlines() if "were cut off at 6 tokens" in line]
    from egost.training.run_log import LOG_FILE, read_log

    cut = [float(row["clipped_ratio"]) for row in read_log(tmp_path / "run" / LOG_FILE)]
    first = next(step for step, share in enumerate(cut, 1) if share > 0.2)
    assert len(said) == 1 and f"{cut[first - 1]:.0%} of the completions of step {first} " in said[0]
