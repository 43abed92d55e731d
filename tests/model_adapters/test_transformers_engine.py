"""transformers on the canonical frames: what the model gets, what it answers, and its own log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from family_checkpoints import family_checkpoint
from release_files import write_video

from egost.model_adapters.engine import AdapterError, Ask, Failure, GenerationArguments, Reply
from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.release.release import open_release

if TYPE_CHECKING:
    from egost.model_adapters.parity.tracing import TracingTransformers
    from egost.model_adapters.transformers_engine import TransformersEngine

SHORT = GenerationArguments(max_new_tokens=6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[TransformersEngine]:
    from egost.model_adapters.transformers_engine import TransformersEngine

    with closing(TransformersEngine(str(checkpoint), device="cpu")) as started:
        yield started


@pytest.fixture(scope="module")
def tracing(engine: TransformersEngine) -> TracingTransformers:
    from egost.model_adapters.parity.tracing import TracingTransformers

    return TracingTransformers(engine)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    sources = [write_video(folder / f"{seed}.mp4", size=(112, 140), seed=seed) for seed in (1, 2)]
    return [get_clip(source, parse_protocol("uniform8"), folder / "cache") for source in sources]


@pytest.mark.parametrize("n", [1, 2, 3, 16, 64])
def test_other_numbers_of_frames_reach_the_model(
    engine: TransformersEngine, clips: list[Clip], tmp_path: Path, n: int
) -> None:
    source = write_video(tmp_path / "film.mp4", size=(112, 140), seed=1)
    clip = get_clip(source, parse_protocol(f"uniform{n}"), tmp_path / "cache")
    [(_, reply)] = engine.answer([Ask("mini/1", "Which way?", clip, SHORT)])
    # Two frames are one step in time, the last of an odd number twice.
    steps = {1: 1, 2: 1, 3: 2, 16: 8, 64: 32}[n]
    assert isinstance(reply, Reply), reply
    assert reply.video_tokens == steps * (112 // 28) * (140 // 28)


def test_8_frames_are_one_video_of_4_times_2(tracing: TracingTransformers, clips: list[Clip]) -> None:
    [trace] = tracing.trace([Ask("mini/1", "Which way?", clips[0], SHORT)])
    assert trace.grid == (4, 112 // 14, 140 // 14)
    assert trace.video_tokens == 4 * (112 // 28) * (140 // 28)
    assert trace.frames_sha256 == clips[0].manifest.pixels_sha256
    assert trace.video is not None and trace.video.shape == (4, 3 * 2 * 14 * 14)
    # Frames whose sides are multiples of 28 are not resized: the encoder's mean is the frames' own.
    assert trace.video.mean() == pytest.approx(clips[0].frames().mean(), abs=1e-3)
    pairs = clips[0].frames().reshape(4, 2, 112, 140, 3).mean(axis=(1, 2, 3, 4))
    assert np.allclose(trace.video.mean(1), pairs, atol=1e-3), "each temporal patch holds its own two frames"


def test_another_clip_changes_what_the_model_says(tracing: TracingTransformers, clips: list[Clip]) -> None:
    first, second = tracing.trace(
        [Ask(f"mini/{i}", "Which way?", clip, SHORT) for i, clip in enumerate(clips)]
    )
    assert first.prompt_tokens == second.prompt_tokens
    both = first.steps[0].top.keys() & second.steps[0].top.keys()
    assert max(abs(first.steps[0].top[t] - second.steps[0].top[t]) for t in both) > 1e-3


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl"])
def test_log_probabilities_are_those_of_teacher_forcing(
    model_type: str, checkpoint: Path, clips: list[Clip], tmp_path: Path
) -> None:
    """What `generate` reports step by step, with its cache, is what one pass over the whole text gives."""
    import torch
    from transformers import AutoModelForImageTextToText

    from egost.model_adapters.parity.tracing import TracingTransformers
    from egost.model_adapters.transformers_engine import TransformersEngine, place_text_as_trained

    folder = checkpoint if model_type == "qwen2_vl" else family_checkpoint(model_type, tmp_path)
    with closing(TransformersEngine(str(folder), device="cpu")) as engine:
        ask = Ask("mini/1", "Which way?", clips[0], SHORT)
        [trace] = TracingTransformers(engine).trace([ask])
        inputs = engine.inputs(ask.prompt, clips[0].frames())
    reply = torch.tensor([[step.token for step in trace.steps]])
    whole = dict(inputs)
    for name, fill in (("input_ids", reply), ("attention_mask", 1), ("mm_token_type_ids", 0)):
        whole[name] = torch.cat([inputs[name], torch.ones_like(reply) * fill], 1)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    place_text_as_trained(model)
    with torch.inference_mode():
        forced = model(**whole).logits[0, len(trace.prompt_tokens) - 1 : -1].log_softmax(-1)
    for step, expected in zip(trace.steps, forced, strict=True):
        assert len(step.top) == 20 and step.token == int(expected.argmax())
        for token, value in step.top.items():
            assert value == pytest.approx(float(expected[token]), abs=1e-4)


@pytest.mark.parametrize(
    ("grid", "seconds", "ends"),
    [
        # 4 pairs of frames 2 s apart, 2 positions a second: 0, 4, 8, 12 in time; 8 x 8 patches of 28 pixels in space.
        ((4, 16, 16), 2.0, 13),
        ((4, 26, 16), 2.0, 13),
        ((4, 28, 16), 2.0, 14),
        ((4, 4, 4), 1 / 12, 2),
    ],
)
def test_the_text_follows_the_greatest_position_of_the_video(
    grid: tuple[int, int, int], seconds: float, ends: int, tmp_path: Path
) -> None:
    """Two sequences of one batch, the shorter one padded on the left: 3 tokens, the video, then 2 or 4 of text."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from egost.model_adapters.transformers_engine import place_text_as_trained

    config = AutoConfig.from_pretrained(family_checkpoint("qwen2_5_vl", tmp_path))
    config.vision_config.tokens_per_second = 2
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    assert place_text_as_trained(model)
    video = grid[0] * grid[1] * grid[2] // 4
    kinds = torch.tensor([[0] * 3 + [2] * video + [0] * 4, [0] * 2 + [0] * 3 + [2] * video + [0] * 2])
    mask = torch.ones_like(kinds)
    mask[1, :2] = 0
    positions, ahead = model.model.get_rope_index(
        kinds,
        kinds,
        video_grid_thw=torch.tensor([grid, grid]),
        second_per_grid_ts=torch.tensor([seconds, seconds]),
        attention_mask=mask,
    )
    for row, (first, behind) in enumerate([(0, 4), (2, 2)]):
        placed = positions[:, row, first:]
        assert placed[:, :3].tolist() == [[0, 1, 2]] * 3
        assert placed[:, 3].tolist() == [3, 3, 3], "the video begins behind the text before it"
        assert placed[:, -behind:].tolist() == [[3 + ends + k for k in range(behind)]] * 3
        assert int(ahead[row]) == 3 + ends + behind - (3 + video + behind)
    assert not place_text_as_trained(
        type("Other", (), {"config": type("C", (), {"model_type": "qwen3_vl"})})()
    )


def test_a_prompt_that_does_not_fit(tracing: TracingTransformers, clips: list[Clip]) -> None:
    ask = Ask("mini/long", "Which way? " * 4000, clips[0], SHORT)
    with pytest.raises(AdapterError, match=r"mini/long: prompt and response need \d+ tokens"):
        list(tracing.trace([ask]))


def test_an_answer_is_what_the_trace_shows(
    engine: TransformersEngine, tracing: TracingTransformers, clips: list[Clip]
) -> None:
    asks = [Ask(f"mini/{i}", "Which way?", clip, SHORT) for i, clip in enumerate([*clips, None])]
    answers = dict(engine.answer(asks))
    assert list(answers) == [0, 1, 2]
    for place, trace in enumerate(tracing.trace(asks)):
        reply = answers[place]
        assert isinstance(reply, Reply) and reply.text == trace.text
        assert (reply.prompt_tokens, reply.video_tokens) == (len(trace.prompt_tokens), trace.video_tokens)
        assert reply.completion_tokens == len(trace.steps) == 6 and reply.finish_reason == "length"
    assert engine.identity.engine.startswith("transformers 5.") and engine.identity.revision


def test_a_response_ends_before_a_stop_text(engine: TransformersEngine, clips: list[Clip]) -> None:
    ask = Ask("mini/1", "Which way?", clips[0], SHORT)
    [(_, whole)] = engine.answer([ask])
    assert isinstance(whole, Reply)
    stop = whole.text[len(whole.text) // 2 :][:2]
    [(_, cut)] = engine.answer([replace(ask, arguments=replace(SHORT, stop=(stop,)))])
    assert isinstance(cut, Reply) and cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)] and stop not in cut.text


@pytest.mark.parametrize("prompt", ["direct", "think"])
def test_special_tokens_around_thinking_stay_in_the_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    import torch

    from egost.model_adapters.transformers_engine import TransformersEngine

    monkeypatch.setenv("EGOST_PROMPT", prompt)
    with closing(TransformersEngine(str(family_checkpoint("gemma4", tmp_path)), device="cpu")) as gemma:
        said = gemma.renderer.processor.tokenizer(
            "<|channel>thought\nMaybe left.<channel|>B<|im_end|>", add_special_tokens=False
        )["input_ids"]

        def saying(inputs: Any, _: GenerationArguments) -> Any:
            sequence = torch.cat([inputs["input_ids"], torch.tensor([said])], dim=1)
            return SimpleNamespace(sequences=sequence)

        assert gemma.model.config.model_type == "gemma4"
        monkeypatch.setattr(gemma, "generate", saying)
        [(_, reply)] = gemma.answer([Ask("mini/1", "Which way?", None, SHORT)])
    thinks = prompt == "think"
    assert isinstance(reply, Reply) and reply.finish_reason == "stop"
    assert reply.text == ("<|channel>thought\nMaybe left.<channel|>B" if thinks else "thought\nMaybe left.B")


def test_what_is_drawn_goes_by_its_seed(engine: TransformersEngine, clips: list[Clip]) -> None:
    import torch

    def drawn(seed: int) -> str:
        arguments = GenerationArguments(12, temperature=1.0, top_p=0.9, top_k=50, seed=seed)
        [(_, reply)] = engine.answer([Ask("mini/1", "Which way?", clips[0], arguments)])
        assert isinstance(reply, Reply)
        return reply.text

    first = drawn(1)
    torch.manual_seed(7)
    assert drawn(1) == first != drawn(2)


def test_one_request_that_fails_costs_no_other(
    engine: TransformersEngine, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    good = Ask("mini/1", "Which way?", clips[0], SHORT)
    long = replace(good, prompt="Which way? " * 4000)
    marked = replace(good, prompt="What is <|video_pad|>?")
    generate, calls = engine.generate, iter(range(9))

    def failing(inputs: object, arguments: GenerationArguments) -> object:
        if next(calls) == 0:
            raise torch.OutOfMemoryError("30 GiB were asked for")
        return generate(inputs, arguments)

    monkeypatch.setattr(engine, "generate", failing)
    outcomes = [outcome for _, outcome in engine.answer([good, long, marked, good])]
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Failure)]
    assert reasons == ["out_of_memory", "context_too_long", "refused"] and isinstance(outcomes[-1], Reply)

    def broken(inputs: object, arguments: GenerationArguments) -> object:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(engine, "generate", broken)
    with pytest.raises(AdapterError, match="start the same command again"):
        list(engine.answer([good]))


def test_a_run_whose_replies_are_all_journaled_loads_no_model(
    checkpoint: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers
    from scripted_engine import mini_requests

    from egost.model_adapters.adapter import EgostTransformers
    from egost.tasks.mini_world import write_mini_release

    write_mini_release(own_cache / "mini", clips=1, seed=3, progress=False)
    monkeypatch.setenv("EGOST_MINI_DATA", str(own_cache / "mini"))
    open_release.cache_clear()
    requests, task_dict = mini_requests("direction_forward", temperature=1, do_sample=True, max_new_tokens=2)
    loads = []
    load = transformers.AutoModelForImageTextToText.from_pretrained

    def counting(*given: Any, **how: Any) -> Any:
        loads.append(given)
        return load(*given, **how)

    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", counting)

    def texts(seed: int, **how: int) -> list[str]:
        made = EgostTransformers(model=str(checkpoint), device="cpu", seed=seed, **how)
        made.task_dict.update(task_dict)
        found = [reply.text for reply in made.generate_until(requests)]
        made.clean()
        return found

    first = texts(0, draws=3)
    assert len(loads) == 1
    later = [texts(seed) for seed in (1, 2, 0)]
    assert len(loads) == 1 and later[2] == first
    texts(3)
    assert len(loads) == 2


def test_a_family_without_a_video(tmp_path: Path) -> None:
    from egost.model_adapters.transformers_engine import TransformersEngine

    with pytest.raises(AdapterError, match=r"internvl_chat.*Ask it by vLLM"):
        TransformersEngine(str(family_checkpoint("internvl_chat", tmp_path)), device="cpu")
