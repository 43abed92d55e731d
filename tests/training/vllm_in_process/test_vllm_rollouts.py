"""Rollouts by the real vLLM in the trainer's process: of the same prompt, with its clip, by the weights of the step."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from family_checkpoints import family_checkpoint
from release_files import write_video
from video_runs import World, logged, make_trainer

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.model_adapters.vllm_engine import VllmEngine, VllmSettings
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.prompts import load_prompt
from egost.tasks.release.release import Release
from egost.training import TrainingError
from egost.training.group_sampling import EngineSampler
from egost.training.video_inputs import PixelLimits, VideoRenderer, load_processor

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
ADAPTERS = {
    "full": None,
    "lora": {"r": 8, "lora_alpha": 64, "target_modules": TARGETS},
    "lora and a whole module": {"r": 8, "target_modules": TARGETS, "modules_to_save": ["merger"]},
}


@pytest.fixture(scope="module")
def clips(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    release, protocol = Release("mini", (world.root,), "test"), parse_protocol("uniform8")
    cache = tmp_path_factory.mktemp("cache")
    return [get_clip(release.clip_path(row.sample), protocol, cache=cache) for row in world.rows]


@pytest.fixture(scope="module")
def engine(world: World) -> Iterator[VllmEngine]:
    import torch
    from safetensors.torch import load_file

    settings = VllmSettings(dtype="float32", enforce_eager=True, max_num_seqs=8, max_model_len=1024)
    started = VllmEngine(checkpoint_identity(world.checkpoint), settings)
    states = random.getstate(), torch.get_rng_state()
    EngineSampler(started).take_weights(load_file(world.checkpoint / "model.safetensors").items(), "")
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    yield started
    started.close()


def asked(world: World, clips: list[Clip]) -> Callable[[int], Ask]:
    def ask(row: int) -> Ask:
        sample = world.rows[row].sample
        return Ask(sample.id, load_prompt("think").render(sample), clips[row], GenerationArguments(0))

    return ask


def gap(trainer: Any, world: World) -> float:
    """How far the log-probabilities that vLLM tells are from those of the trainer's model with the video, at most."""
    import torch

    from egost.training.video_grpo import _rollout

    trainer.rows, trainer.shown = [0, 0, 1, 1], {row: world.shown[row] for row in (0, 1)}
    trainer.encoder.forget()
    sampled = _rollout([], trainer)
    gaps = []
    for row, prompt, ids, told in zip(
        trainer.rows, sampled["prompt_ids"], sampled["completion_ids"], sampled["logprobs"], strict=True
    ):
        whole = torch.tensor([prompt + ids])
        video = trainer._video(trainer.model, [world.shown[row]], whole)
        with torch.no_grad():
            logits = trainer.model(input_ids=whole, attention_mask=torch.ones_like(whole), **video).logits
        logits = logits[0, len(prompt) - 1 : -1] / trainer.args.temperature
        logits[:, trainer.suppressed] = -torch.inf
        own = logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]
        gaps.append((own - torch.tensor(told)).abs().max().item())
    return max(gaps)


@pytest.mark.parametrize("lora", ADAPTERS.values(), ids=ADAPTERS)
def test_it_samples_by_the_weights_of_the_step(
    world: World, clips: list[Clip], engine: VllmEngine, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    import torch
    from peft import LoraConfig

    trainer = make_trainer(
        world,
        tmp_path,
        rows=(0, 1),
        vllm=(EngineSampler(engine), asked(world, clips)),
        peft_config=lora and LoraConfig(**lora),
        max_steps=3,
        learning_rate=5e-3,
        temperature=0.7,
    )
    trainer.train()
    # As the trainer's own log has it: what differs are the tokens that are never sampled.
    assert max(logged(trainer, "sampling/sampling_logp_difference/mean")) < 0.05
    assert 0.8 < min(logged(trainer, "sampling/importance_sampling_ratio/min")) < 1

    assert gap(trainer, world) > 0.1, "the weights of the last step are not handed over yet"
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.vllm_generation.sync_weights()
    assert gap(trainer, world) < 1e-3
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(weight, before[name]), f"{name} is not as it was before it was handed over"


@pytest.mark.parametrize(
    ("lora", "most"),
    # transformers adds an adapter's part to each layer's result, and vLLM has it in the weight.
    [(ADAPTERS["full"], 1e-5), (ADAPTERS["lora"], 2e-4)],
    ids=["full", "lora"],
)
def test_twenty_steps_agree_each_and_leave_nothing_in_memory(
    world: World,
    clips: list[Clip],
    engine: VllmEngine,
    tmp_path: Path,
    lora: dict[str, Any] | None,
    most: float,
) -> None:
    from peft import LoraConfig
    from transformers import TrainerCallback

    gaps, held = [], []

    class AfterEachStep(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen = trainer.rows, trainer.shown
            trainer.vllm_generation.sync_weights()
            gaps.append(gap(trainer, world))
            trainer.rows, trainer.shown = seen
            trainer.encoder.forget()
            held.append(bytes_of_tensors())

    trainer = make_trainer(
        world,
        tmp_path,
        vllm=(EngineSampler(engine), asked(world, clips)),
        peft_config=lora and LoraConfig(**lora),
        max_steps=20,
        callbacks=[AfterEachStep()],
    )
    trainer.train()
    # The first steps' tokens are unlikely ones, of which 32 bits keep fewer digits.
    assert len(gaps) == 20 and max(gaps[:2]) < max(most, 1e-4) and max(gaps[2:]) < most
    # The first steps make what is made once: the optimiser's moments, vLLM's buffers.
    assert held[-1] == held[4]
    assert not (tmp_path / "rollout_weights").exists(), "nothing goes through the disk"
    assert len(logged(trainer, "vllm/weights_time")) == 20


def bytes_of_tensors() -> int:
    """Bytes of all tensors that live in this process."""
    import torch

    gc.collect()
    # Where several share their memory, it counts once.
    found = {
        of.untyped_storage().data_ptr(): of.untyped_storage().nbytes()
        for of in gc.get_objects()
        if type(of) in (torch.Tensor, torch.nn.Parameter)
    }
    return sum(found.values())


def test_it_sees_the_clip(world: World, clips: list[Clip], engine: VllmEngine, tmp_path: Path) -> None:
    wrong = [clips[1], clips[0], clips[2]]
    trainer = make_trainer(world, tmp_path, vllm=(EngineSampler(engine), asked(world, wrong)))
    trainer.vllm_generation.sync_weights()
    assert gap(trainer, world) > 1e-2


def test_another_prompt_than_the_trainer_s_is_refused(
    world: World, clips: list[Clip], engine: VllmEngine, tmp_path: Path
) -> None:
    from egost.training.video_grpo import _rollout

    trainer = make_trainer(world, tmp_path, vllm=(EngineSampler(engine), asked(world, clips)))
    trainer.vllm_generation.sync_weights()
    shown = world.shown[0]
    trainer.rows, trainer.shown = [0], {0: replace(shown, prompt_ids=(*shown.prompt_ids, 7))}
    with pytest.raises(TrainingError, match=f"another prompt of {world.rows[0].sample.id}"):
        _rollout([], trainer)


def test_a_timed_video_is_placed_where_the_trainer_has_it(world: World, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    checkpoint = family_checkpoint("qwen2_5_vl", tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                # So that positions matter to an untrained model.
                weight.mul_(5)
    model.save_pretrained(checkpoint)
    processor = load_processor(checkpoint, PixelLimits())
    renderer = VideoRenderer(processor, load_prompt("think"), PixelLimits())
    protocol = parse_protocol("uniform8")
    settings = VllmSettings(dtype="float32", enforce_eager=True, max_num_seqs=8, max_model_len=2048)

    def trained_on(side: int) -> tuple[Any, World]:
        paths = [write_video(tmp_path / f"{side}-{i}.mp4", size=(side, side), seed=i) for i in range(2)]
        clips = [get_clip(path, protocol, tmp_path) for path in paths]
        rows = world.rows[:2]
        shown = tuple(renderer.render(row.sample, clip) for row, clip in zip(rows, clips, strict=True))
        timed = World(world.root, checkpoint, rows, shown, processor)
        vllm = (EngineSampler(engine), asked(timed, clips))
        return make_trainer(timed, tmp_path / str(side), rows=(0, 1), vllm=vllm), timed

    with closing(VllmEngine(checkpoint_identity(checkpoint), settings)) as engine:
        for side in (364, 224):
            trainer, timed = trained_on(side)
            trainer.vllm_generation.sync_weights()
            assert gap(trainer, timed) < 1e-3
        other = tuple(replace(shown, second_per_grid_ts=torch.tensor([1 / 12])) for shown in timed.shown)
        assert gap(trainer, replace(timed, shown=other)) > 0.05, "other times are told apart"


def test_what_vllm_refuses_is_named(world: World, clips: list[Clip], engine: VllmEngine) -> None:
    import torch

    sampler = EngineSampler(engine)
    with pytest.raises(AdapterError, match=r"vLLM samples nothing \(.*greedy.*Run the same command again"):
        sampler.sample([(asked(world, clips)(0), {"n": 2, "temperature": 0.0})], "")
    with pytest.raises(AdapterError, match=r"does not take the weights of step 3 \(.*no_such_layer"):
        sampler.take_weights([("model.no_such_layer.weight", torch.zeros(2))], "step 3")
