"""Qwen3-VL, which has the times of its frames in words, through fine-tuning, GRPO, merging and the evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from family_checkpoints import family_checkpoint
from grpo_runs import grpo_flags
from sft_runs import sft_flags
from video_runs import World, make_trainer

from egost.model_adapters.engine import Ask, GenerationArguments, Reply
from egost.model_adapters.transformers_engine import TransformersEngine
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release
from egost.training import TrainingError, grpo, sft
from egost.training.checkpoint_manifest import FINAL, merge
from egost.training.run_log import LOG_FILE, read_log
from egost.training.video_inputs import PixelLimits, VideoRenderer, load_processor

LIMITS = PixelLimits()


@pytest.fixture(scope="module")
def clips(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    release, cache = Release("mini", (world.root,), "test"), tmp_path_factory.mktemp("cache")
    return [
        get_clip(release.clip_path(row.sample), parse_protocol("uniform8"), cache=cache) for row in world.rows
    ]


@pytest.fixture(scope="module")
def timed(world: World, clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world as a tiny Qwen3-VL sees it."""
    checkpoint = family_checkpoint("qwen3_vl", tmp_path_factory.mktemp("qwen3"))
    renderer = VideoRenderer(load_processor(checkpoint, LIMITS), load_prompt("think"), LIMITS)
    shown = tuple(renderer.render(row.sample, clip) for row, clip in zip(world.rows, clips, strict=True))
    return World(world.root, checkpoint, world.rows, shown, renderer.processor)


def test_training_shows_what_the_evaluation_shows(timed: World, clips: list[Clip]) -> None:
    import torch

    prompt = load_prompt("think")
    engine = TransformersEngine(str(timed.checkpoint), dtype="float32")
    renderer = VideoRenderer(timed.processor, prompt, LIMITS)
    for row, shown, clip in zip(timed.rows, timed.shown, clips, strict=True):
        asked = engine.inputs(prompt.render(row.sample), clip.frames())
        assert asked["input_ids"][0].tolist() == list(shown.prompt_ids)
        assert torch.equal(asked["video_grid_thw"], shown.video_grid_thw)
        # Both resize 112 pixels to 128, one in bytes and one in numbers: half a level of 255 apart, on average.
        assert (asked["pixel_values_videos"] - shown.pixel_values_videos).abs().mean() < 1 / 255
        assert renderer.prompt_length(row.sample, clip) == len(shown.prompt_ids)
    # A second a frame: the pairs of frames stand at 0.5, 2.5, 4.5 and 6.5 s.
    words = timed.processor.tokenizer.decode(timed.shown[0].prompt_ids)
    assert [f"<{second} seconds>" in words for second in ("0.5", "2.5", "4.5", "6.5", "8.5")] == [
        True
    ] * 4 + [False]


def test_a_clip_that_was_encoded_once_is_the_clip(timed: World, tmp_path: Path) -> None:
    import torch

    trainer = make_trainer(timed, tmp_path, rows=(0, 1))
    for encode_once in (True, False):
        trainer.encode_once = encode_once
        logits = []
        for shown in timed.shown[:2]:
            ids = torch.tensor([shown.prompt_ids])
            with torch.no_grad():
                logits.append(
                    trainer.model(input_ids=ids, **trainer._video(trainer.model, [shown], ids)).logits
                )
        if encode_once:
            kept = logits
    for own, plain in zip(kept, logits, strict=True):
        assert torch.allclose(own, plain, atol=1e-5)
    trainer.encode_once = True
    trainer.train()
    deep = trainer.model.model.visual.deepstack_merger_list
    before = family_weights(timed.checkpoint, "visual.deepstack_merger_list.0.linear_fc2.weight")
    assert not torch.equal(deep[0].linear_fc2.weight, before), (
        "what is seen in the first layers is trained too"
    )


def test_rollouts_by_vllm_are_refused(timed: World, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"use_vllm is set, and the model is a Qwen3-VL.*Leave use_vllm out"
    ):
        make_trainer(timed, tmp_path, vllm=(None, None))


def family_weights(checkpoint: Path, name: str) -> Any:
    from safetensors.torch import load_file

    [found] = [
        value for key, value in load_file(checkpoint / "model.safetensors").items() if key.endswith(name)
    ]
    return found


def test_from_fine_tuning_to_an_answer(
    timed: World, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from grpo_process import EvenShare

    monkeypatch.setenv("EGOST_MINI_DATA", str(timed.root))
    monkeypatch.setattr(grpo, "Rewards", EvenShare)
    lora = ["--use_peft", "--lora_target_modules", "q_proj", "v_proj"]
    sft.main([*sft_flags(timed, tmp_path / "sft", max_steps=2), *lora])
    merge(tmp_path / "sft" / "run" / "checkpoint-2", tmp_path / "merged")
    by_command, by_the_run = (
        family_weights(folder, "layers.1.self_attn.q_proj.weight")
        for folder in (tmp_path / "merged", tmp_path / "sft/run" / FINAL)
    )
    assert torch.allclose(by_command, by_the_run, atol=1e-6)
    grpo.main(grpo_flags(replace(timed, checkpoint=tmp_path / "merged"), tmp_path / "grpo", max_steps=2))
    log = read_log(tmp_path / "grpo" / "run" / LOG_FILE)
    assert len(log) == 2 and all(float(row["grad_norm"]) > 0 for row in log)
    engine = TransformersEngine(str(tmp_path / "grpo" / "run" / FINAL), dtype="float32")
    ask = Ask("one", "Where?", clips[0], GenerationArguments(4))
    [(_, reply)] = engine.answer([ask])
    assert isinstance(reply, Reply) and reply.completion_tokens
