"""Fine-tuning as a person runs it: read, planned, killed, gone on with, and its checkpoint used."""

from __future__ import annotations

import itertools
import json
import re
import signal
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from sft_runs import CONFIGS, LORA, sft_flags
from typer.testing import CliRunner
from video_runs import World, in_a_process

from egost.commands.train import recipe_class
from egost.main import app
from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.model_names import MINI_BASE
from egost.tasks.errors import EgostError, ReleaseError
from egost.tasks.release.release import open_release
from egost.tasks.release.trained_on import MANIFEST
from egost.training import TrainingError, sft
from egost.training.checkpoint_manifest import FINAL, merge, read_manifest
from egost.training.rows.training_rows import TrainingRow, write_training_rows


@pytest.fixture
def flags(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("EGOST_MINI_DATA", str(world.root))
    open_release.cache_clear()
    return sft_flags(world, tmp_path)


run = partial(in_a_process, "sft_process:main")


def test_a_killed_run_goes_on_as_the_unbroken_one(flags: list[str], tmp_path: Path) -> None:
    # Adapters with dropout: what is drawn has to go on, too. Their final model is merged.
    import torch
    from transformers import Qwen2VLForConditionalGeneration

    from egost.training.resumable_run import MARK, whole_checkpoints
    from egost.training.run_log import LOG_FILE, read_log

    flags = [*flags, *LORA]
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
    for name in ("loss", "token_accuracy", "learning_rate", "grad_norm"):
        assert [float(row[name]) for row in broken] == pytest.approx(
            [float(row[name]) for row in whole], rel=1e-6
        ), name
    tokens = [int(float(row["tokens"])) for row in broken]
    assert tokens == [int(float(row["tokens"])) for row in whole]
    assert all(0 < one < later for one, later in itertools.pairwise(tokens)), "it counts from the start"
    same = [
        Qwen2VLForConditionalGeneration.from_pretrained(folder / FINAL)
        for folder in (tmp_path / "unbroken", output)
    ]
    for (name, one), other in zip(same[0].named_parameters(), same[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8, msg=name)
    with pytest.raises(TrainingError, match=r"holds another run: settings\.sft\.max_grad_norm differ"):
        sft.main([*flags, "--max_grad_norm", "0.5"])


def test_adapters_are_merged_into_a_checkpoint_that_replies_alike(
    flags: list[str], world: World, tmp_path: Path
) -> None:
    # The first step of the warm-up has no rate.
    import torch
    from peft import PeftModel
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    from egost.training.run_log import LOG_FILE, read_log

    steps = ["--max_steps", "2", "--save_steps", "2", "--learning_rate", "0.01"]
    sft.main([*flags, *LORA, *steps, "--report_to", "tensorboard"])
    output, target = tmp_path / "run", tmp_path / "merged"
    assert list(output.rglob("events.out.tfevents*"))
    assert [row["step"] for row in read_log(output / LOG_FILE)] == ["1", "2"]
    adapter = output / "checkpoint-2"
    result = CliRunner().invoke(app, ["train", "merge", str(adapter), str(target)])
    assert result.exit_code == 0, result.output

    base = Qwen2VLForConditionalGeneration.from_pretrained(world.checkpoint)
    inputs = world.shown[0].tensors()
    with torch.no_grad():
        before = base(**inputs).logits
        adapted = PeftModel.from_pretrained(base, str(adapter)).eval()(**inputs).logits
        for folder in (target, output / FINAL):
            merged = Qwen2VLForConditionalGeneration.from_pretrained(folder)
            assert not any("lora" in name for name in merged.state_dict())
            torch.testing.assert_close(merged(**inputs).logits, adapted, rtol=1e-4, atol=1e-5)
            processor = AutoProcessor.from_pretrained(folder)
            assert processor.chat_template == world.processor.chat_template
            assert merged.generation_config.eos_token_id == [927, 925]
    assert (before - adapted).abs().max() > 1e-3
    assert (target / MANIFEST).read_bytes() == (adapter / MANIFEST).read_bytes()
    assert not list(tmp_path.glob("*.part"))

    with pytest.raises(TrainingError, match=r"merged is there already"):
        merge(adapter, target)
    with pytest.raises(TrainingError, match=r"whole checkpoint, which needs no merging"):
        merge(target, tmp_path / "again")
    with pytest.raises(TrainingError, match=r"was trained on tiny \(sha256:.*, but .*merged is sha256:"):
        merge(adapter, tmp_path / "again", str(target))


def test_a_checkpoint_knows_its_rows_and_those_of_its_base(
    flags: list[str], world: World, tmp_path: Path
) -> None:
    first = tmp_path / "first.jsonl"
    write_training_rows(first, world.rows[:1])
    once = ["--rows", str(first), "--max_steps", "1", "--save_strategy", "no"]
    sft.main([*flags, *once])
    base = tmp_path / "run" / FINAL
    second = tmp_path / "second.jsonl"
    write_training_rows(second, world.rows[1:])
    onto = ["--model_name_or_path", str(base), "--output_dir", str(tmp_path / "two")]
    sft.main([*flags, *once, *onto, "--rows", str(second), "--seed", "7"])
    found = read_manifest(tmp_path / "two" / FINAL)
    assert found is not None
    ids = [row.sample.id for row in world.rows]
    assert [row.sample for row in found.rows] == [*ids[1:], ids[0]]
    assert [row.clip_sha256 for row in found.rows][-1] == world.rows[0].clip_sha256
    assert {(row.world, row.method) for row in found.rows} == {("mini", "sft")}
    assert (found.method, found.base, found.world, found.seed) == ("sft", "final", "mini", 7)
    assert found.base_revision == checkpoint_identity(base).revision
    assert found.release_revision == open_release("mini").revision
    assert found.settings["sft"]["learning_rate"] == 1e-3
    assert {"torch", "transformers", "trl", "peft"} <= set(found.packages)
    (tmp_path / "two" / FINAL / MANIFEST).write_text("{}")
    with pytest.raises(ReleaseError, match="does not say what the checkpoint was trained on"):
        read_manifest(tmp_path / "two" / FINAL)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*sft.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read(config: Path) -> None:
    # A machine without a GPU plans what it could not run.
    given = ["--config", str(config), "--rows", "r", "--model_name_or_path", "m", "--dry-run"]
    recipe, args, model = sft.parse(given)
    cot = "cot" in config.stem
    assert recipe.chain_of_thought is cot
    assert recipe.prompt == ("think" if cot else "direct")
    assert recipe.world == ("mini" if config.stem.startswith("mini") else "official")
    assert args.warmup_steps == 0.1
    assert model.use_peft is model.load_in_4bit is (recipe.world == "official")


def test_a_shipped_recipe_is_found_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rest = ["--rows", "r", "--model_name_or_path", "m", "--dry-run"]
    whole = sft.parse(["--config", str(CONFIGS / "mini_cot_sft.yaml"), *rest])[0]
    for words in (["--config", "mini_cot_sft"], ["--config", "mini_cot_sft.yaml"], ["--config=mini_cot_sft"]):
        assert sft.parse([*words, *rest])[0] == whole
    # A file of the person's own wins.
    (tmp_path / "mini_cot_sft.yaml").write_text("prompt: direct\noutput_dir: out\n")
    assert sft.parse(["--config", "mini_cot_sft.yaml", *rest])[0].prompt == "direct"
    with pytest.raises(TrainingError, match=r"nowhere is no file.*mini_cot_sft, mini_grpo.*st_r1_7b_cot_sft"):
        sft.parse(["--config", "nowhere", *rest])


@pytest.mark.parametrize("command", ["sft", "grpo"])
def test_help_lists_the_flags_of_the_recipe(command: str) -> None:
    done = CliRunner().invoke(app, ["train", command, "--help"])
    recipe, configuration = recipe_class(command)
    assert done.exit_code == 0
    for one in fields(recipe):
        assert f" --{one.name} " in done.output, one.name
    for flag in ("model_name_or_path", "learning_rate", "output_dir", "use_peft"):
        assert f" --{flag} " in done.output, flag
    assert f"fields of TRL's {configuration} and ModelConfig" in done.output


def test_mini_base_is_taught_by_its_short_name(flags: list[str], tmp_path: Path) -> None:
    named = [*flags, "--model_name_or_path", "mini-base", "--max_steps", "1", "--save_strategy", "no"]
    planned = CliRunner().invoke(app, ["train", "sft", "mini_cot_sft", *named[2:], "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert not (tmp_path / "run").exists(), "a plan writes nothing"
    done = CliRunner().invoke(app, ["train", "sft", "mini_cot_sft", *named[2:]])
    assert done.exit_code == 0, done.output
    found = read_manifest(tmp_path / "run" / FINAL)
    assert found is not None
    assert (found.base, found.base_revision) == ("mini_base", checkpoint_identity(MINI_BASE).revision)
    assert len(found.rows) == 3


@pytest.mark.parametrize("command", ["sft", "grpo"])
def test_rows_that_are_not_there_are_said_before_torch_is_imported(command: str) -> None:
    done = CliRunner().invoke(
        app, ["train", command, f"mini_{command}", "--rows", "nowhere/rows.jsonl", "--dry-run"]
    )
    assert done.exit_code == 2
    assert (
        done.output
        == "egost: there is no file nowhere/rows.jsonl. Make the rows: egost train data --out FOLDER\n"
    )


def test_a_dry_run_shows_what_would_be_taught(flags: list[str], world: World, tmp_path: Path) -> None:
    rest = flags[2:]
    one_epoch = ["--max_steps", "-1", "--num_train_epochs", "1"]
    command = ["train", "sft", "mini_cot_sft", *rest, *one_epoch, *LORA, "--dry-run"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "optimizer steps: 3 of 1 x 1 rows on 1 process(es)" in result.output
    [launch] = re.findall(r"accelerate launch --config_file (\S+) -m egost\.training\.sft", result.output)
    assert Path(launch).is_file()
    # 4 pairs of frames of 140 x 112 pixels, 28 x 28 a token.
    assert "<|vision_start|><|video_pad|> x 80<|vision_end|>The video was filmed" in result.output
    assert f">>>{world.rows[0].solution}<|im_end|><<<" in result.output
    # 4 layers: q and o are 128 x 128, k and v 128 x 64, each with 4 rows in and out.
    assert f"of which {4 * 4 * (2 * 256 + 2 * 192) / 1e6:.2f} M are trained" in result.output
    assert not (tmp_path / "run").exists()


def test_a_model_is_named_as_for_egost_run(flags: list[str]) -> None:
    command = ["train", "sft", "mini_cot_sft", *flags[2:], "--dry-run", "--model_name_or_path"]
    embedded = CliRunner().invoke(app, [*command, "mini-base"])
    assert embedded.exit_code == 0 and "optimizer steps" in embedded.output, embedded.output
    misspelt = CliRunner().invoke(app, [*command, "qwen2vl-7b"])
    assert misspelt.exit_code == 2 and "Did you mean qwen2-vl-7b" in misspelt.output


def test_rows_are_taught_without_their_reasoning_where_asked(flags: list[str]) -> None:
    plain = ["--config", str(CONFIGS / "mini_sft.yaml"), *flags[2:]]
    recipe, _, model = sft.parse(plain)
    data = sft.load_data(recipe, model.model_name_or_path)
    tokenizer = data.renderer.processor.tokenizer
    assert tokenizer.decode(sft.answer_ids(data, 0)) == data.rows[0].sample.answer + "<|im_end|>"
    assert "<think>" not in data.renderer.text(data.rows[0].sample)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--rows", ""], "names no rows"),
        (["--max_length", "100"], "3 of 3 rows are longer than max_length"),
        (["--load_in_4bit"], r"loads the model in 4 bits, which needs .*not found here"),
        (["--packing"], "packing or padding_free is set"),
        (["--nonsense", "1"], "nonsense"),
        (["--learning_rate", "much"], "learning_rate"),
        (["--config", "nowhere.yaml"], "the recipe cannot be read"),
    ],
)
def test_a_wrong_recipe_is_named(
    flags: list[str], extra: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    kept = flags[2:] if extra[0] == "--config" else flags
    with pytest.raises(TrainingError, match=says):
        sft.main([*kept, *extra])


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 5_000, b"a: [", b"- a", b"7", b"text", b"\0" * 50, b"rows: \xff", b"!!python/object/apply:os.system [1]",
        b"? [1, 2]\n: 3", b"5: 6", b"learning_rate: {a: 1}", b"rows: [a, b]", b"&a [*a]", b"env: 5", b"env: {a: [1]}",
        b"rows: 2024-01-01", b"a: " + b"9" * 5_000, b"config: other.yaml",
    ],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_a_recipe_of_strangers_ends_with_one_message(
    flags: list[str], tmp_path: Path, content: bytes
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_bytes(content)
    with pytest.raises(EgostError, match=r"the recipe |the file of rows|rows") as raised:
        sft.main(["--config", str(config), "--output_dir", str(tmp_path / "out")])
    assert "Traceback" not in str(raised.value)


def test_a_config_with_an_unknown_key_ends_with_one_message(flags: list[str], tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(Path(flags[1]).read_text() + "lora_rank: 8\n")
    result = CliRunner().invoke(app, ["train", "sft", str(config), *flags[2:]])
    assert result.exit_code == 2
    assert "egost: the recipe cannot be read" in result.output
    assert "lora_rank" in result.output


def test_rows_without_reasoning_are_not_taught_as_such(
    flags: list[str], world: World, tmp_path: Path
) -> None:
    row = world.rows[1]
    write_training_rows(
        tmp_path / "rows.jsonl", [world.rows[0], TrainingRow(row.sample, "", row.clip_sha256)]
    )
    with pytest.raises(TrainingError, match=rf"1 of 2 rows .* for example {row.sample.id}"):
        sft.main(flags)


def test_a_killed_save_of_the_final_model_leaves_none(flags: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "run" / f"{FINAL}.part"
    broken.mkdir(parents=True)
    (broken / "model.safetensors").write_bytes(b"half")
    sft.main([*flags, "--max_steps", "1", "--save_strategy", "no"])
    assert not broken.exists()
    assert json.loads((tmp_path / "run" / FINAL / "config.json").read_text())["model_type"] == "qwen2_vl"
