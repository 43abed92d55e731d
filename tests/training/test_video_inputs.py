"""Training sees what an evaluation shows: the same tokens and the same pixels as lmms-eval's own adapter makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from family_checkpoints import family_checkpoint
from video_files import write_video
from video_runs import World, make_trainer

from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.prompts import load_prompt
from egost.training import TrainingError
from egost.training.video_inputs import PixelLimits, VideoRenderer, load_processor


class Recorder:
    """The adapter's own processor, which remembers what it made."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.made: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.made.append(self.processor(*args, **kwargs))
        return self.made[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)


@pytest.mark.parametrize("size", [(112, 112), (134, 102), (1000, 700)])
def test_lmms_eval_shows_the_same_tokens_and_pixels(
    world: World, tmp_path: Path, size: tuple[int, int]
) -> None:
    import torch
    from lmms_eval.api.instance import Instance
    from lmms_eval.models.simple.qwen2_vl import Qwen2_VL

    clip = get_clip(write_video(tmp_path / "clip.mp4", 24, size=size), parse_protocol("uniform8"))
    sample, prompt = world.rows[0].sample, load_prompt("think")
    adapter = Qwen2_VL(pretrained=str(world.checkpoint), device="cpu", device_map="cpu")
    adapter.processor = recorder = Recorder(adapter.processor)
    adapter.task_dict = {"task": {"split": [None]}}
    arguments = (
        prompt.render(sample),
        {"max_new_tokens": 1, "until": []},
        lambda _: [str(clip.path)],
        0,
        "task",
        "split",
    )
    adapter.generate_until(
        [Instance("generate_until", arguments, 0, {"task": "task", "doc_id": 0, "repeats": 1})]
    )
    [evaluated] = recorder.made

    renderer = VideoRenderer(world.processor, prompt, PixelLimits())
    shown = renderer.render(sample, clip)
    assert list(shown.prompt_ids) == evaluated["input_ids"][0].tolist()
    assert list(shown.mm_token_type_ids) == evaluated["mm_token_type_ids"][0].tolist()
    assert torch.equal(shown.video_grid_thw, evaluated["video_grid_thw"])
    assert torch.equal(shown.pixel_values_videos, evaluated["pixel_values_videos"])
    assert renderer.prompt_length(sample, clip) == len(shown.prompt_ids)


def test_a_frame_is_no_larger_than_allowed(world: World, tmp_path: Path) -> None:
    clip = get_clip(write_video(tmp_path / "clip.mp4", 24, size=(1000, 700)), parse_protocol("uniform8"))
    limits = PixelLimits(largest=151200)
    renderer = VideoRenderer(load_processor(world.checkpoint, limits), load_prompt("think"), limits)
    shown = renderer.render(world.rows[0].sample, clip)
    _, height, width = shown.video_grid_thw[0].tolist()
    assert 0.8 * 151200 < height * width * 14 * 14 <= 151200
    assert renderer.prompt_length(world.rows[0].sample, clip) == len(shown.prompt_ids)


def test_a_cap_of_the_protocol_and_one_of_the_training_show_the_same_size(
    world: World, tmp_path: Path
) -> None:
    source = write_video(tmp_path / "square.mp4", 24, size=(704, 704))
    trained, evaluated = (get_clip(source, parse_protocol(p)) for p in ("uniform8", "uniform8+cap151200"))
    assert (evaluated.manifest.width, evaluated.manifest.height) == (364, 364)
    limits = PixelLimits(largest=151200)
    sample, prompt = world.rows[0].sample, load_prompt("think")
    in_training = VideoRenderer(load_processor(world.checkpoint, limits), prompt, limits)
    # As in an evaluation: the processor has its own, larger limit.
    in_evaluation = VideoRenderer(world.processor, prompt, PixelLimits())
    shown = in_training.render(sample, trained), in_evaluation.render(sample, evaluated)
    assert [s.video_grid_thw[0].tolist() for s in shown] == [[4, 26, 26]] * 2, "676 tokens for 8 frames"
    assert (shown[0].pixel_values_videos - shown[1].pixel_values_videos).abs().mean() < 0.02


def test_samples_on_one_clip_show_one_video(world: World) -> None:
    turns, other, route = world.shown
    assert turns.video_key == route.video_key != other.video_key
    assert turns.prompt_ids != route.prompt_ids


def test_a_checkpoint_without_a_processor_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has no processor that can be loaded"):
        load_processor(tmp_path, PixelLimits())


def test_qwen2_5_vl_is_trained_too(world: World, tmp_path: Path) -> None:
    """Its positions ask how many seconds a step of the grid lasts; one encoding gives the plain repeat's loss."""
    checkpoint = family_checkpoint("qwen2_5_vl", tmp_path)
    processor = load_processor(checkpoint, PixelLimits())
    renderer = VideoRenderer(processor, load_prompt("think"), PixelLimits())
    clip = get_clip(write_video(tmp_path / "clip.mp4", 24), parse_protocol("uniform8"))
    shown = renderer.render(world.rows[0].sample, clip)
    assert shown.second_per_grid_ts is not None
    # 8 frames at 1 a second, two to a step, as vLLM and `egost run --engine hf` count.
    assert shown.second_per_grid_ts.tolist() == [2.0]

    theirs = World(world.root, checkpoint, world.rows[:1], (shown,), processor)
    trainer = make_trainer(theirs, tmp_path / "run")
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    losses = []
    for trainer.encode_once in (True, False):
        losses.append(trainer.compute_loss(trainer.model, batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5, abs=1e-6)
    trainer.train()
