"""The engine over the real vLLM: what it gives the model, what it gives back, and when."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError, Ask, Failure, GenerationArguments, Reply
from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.model_adapters.vllm_engine import WAITING, VllmEngine, VllmSettings
from egost.tasks.clips.clips import Clip

FEW = GenerationArguments(max_new_tokens=6)
AT_ONCE = 2
SETTINGS = VllmSettings(dtype="float32", enforce_eager=True, max_num_seqs=AT_ONCE, max_model_len=1024)

Asks = Callable[..., list[Ask]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[VllmEngine]:
    started = VllmEngine(checkpoint_identity(checkpoint), SETTINGS)
    yield started
    started.close()


def answers(engine: VllmEngine, asks: list[Ask]) -> list[Reply | Failure]:
    """What came of each ask, in the order of the asks."""
    outcomes = dict(engine.answer(asks))
    assert sorted(outcomes) == list(range(len(asks)))
    return [outcomes[place] for place in range(len(asks))]


def test_the_prompt_is_what_transformers_would_give_the_model(engine: VllmEngine, asks: Asks) -> None:
    import torch

    [ask] = asks(FEW)[:1]
    assert ask.clip is not None
    frames = ask.clip.frames()
    processor = engine.renderer.processor
    text = engine.renderer.text(ask.prompt, frames=8)
    assert text.startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_"
    )
    inputs = processor(
        text=[text],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        return_tensors="pt",
        **engine.renderer.arguments,
    )
    grid = inputs["video_grid_thw"].tolist()
    rows, columns = (round(side / 28) for side in frames.shape[1:3])
    assert grid == [[4, 2 * rows, 2 * columns]], "8 frames, two to a temporal patch, at their own size"
    [reply] = answers(engine, [ask])
    assert isinstance(reply, Reply)
    assert reply.prompt_tokens == inputs["input_ids"].shape[1]
    assert reply.video_tokens == engine.renderer.tokens_of_frames(inputs["input_ids"][0].tolist())
    assert reply.video_tokens == 4 * rows * columns
    assert reply.completion_tokens == 6 and reply.finish_reason == "length"


def test_the_frames_that_vllm_is_given_are_the_canonical_ones(engine: VllmEngine, asks: Asks) -> None:
    [ask] = asks(FEW)[:1]
    assert ask.clip is not None
    request = engine.request(ask)
    [(frames, metadata)] = request["multi_modal_data"]["video"]
    assert frames.dtype.name == "uint8" and frames.shape[0] == 8 and (frames == ask.clip.frames()).all()
    told = ask.clip.manifest
    assert request["multi_modal_uuids"] == {"video": [f"{told.pixels_sha256}-{told.width}x{told.height}"]}
    assert metadata["fps"] == 1 and metadata["frames_indices"] == list(range(8))


def test_replies_come_as_they_finish_and_few_requests_wait(engine: VllmEngine, asks: Asks) -> None:
    many = asks(FEW)
    assert len(many) > AT_ONCE + WAITING
    short, long = GenerationArguments(max_new_tokens=1), GenerationArguments(max_new_tokens=60)
    many = [replace(ask, arguments=short if i else long) for i, ask in enumerate(many)]
    order, under_way = [], []
    for place, _ in engine.answer(many):
        order.append(place)
        under_way.append(engine.llm.llm_engine.get_num_unfinished_requests())
    assert order[0] != 0 and order.index(0) > len(many) // 2, "a long reply holds nobody up"
    assert under_way[0] > 0 and max(under_way) <= AT_ONCE + WAITING


class CountingEngine:
    """In the place of vLLM: finishes the oldest request a step, and counts the steps before which one was missing.

    One is missing where room is, and it was made ready before the step before. Each step lets other threads make all
    the clips ready that they may: at least two that are not with it.
    """

    def __init__(self, total: int) -> None:
        self.llm_engine = self.renderer = self
        self.vllm_config = SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=AT_ONCE))
        self.model_config = SimpleNamespace(max_model_len=1024)
        self.total, self.rendered, self.added, self.missing = total, 0, 0, 0
        self.made_here = 0
        self.under_way: list[tuple[str, Any]] = []
        self._ready_before = 0
        self._changed = threading.Condition()

    def get_default_sampling_params(self) -> Any:
        return SimpleNamespace(repetition_penalty=1.0)

    def render_cmpl(self, requests: list[Any]) -> list[Any]:
        self.made_here += threading.current_thread() is threading.main_thread()
        with self._changed:
            self.rendered += 1
            self._changed.notify_all()
        return requests

    def add_request(self, name: str, rendered: Any, _: Any) -> None:
        self.added += 1
        self.under_way.append((name, rendered))

    def step(self) -> list[Any]:
        has_room = len(self.under_way) < AT_ONCE + WAITING
        self.missing += has_room and self.added < self._ready_before
        with self._changed:
            wanted = min(self.total, self.added + 2)
            assert self._changed.wait_for(lambda: self.rendered >= wanted, timeout=20)
            self._ready_before = self.rendered
        name, rendered = self.under_way.pop(0)
        completion = SimpleNamespace(text=name, token_ids=[1], finish_reason="stop")
        ids, outputs = rendered["prompt_token_ids"], [completion]
        return [
            SimpleNamespace(
                request_id=name, finished=True, prompt_token_ids=ids, outputs=outputs, num_cached_tokens=0
            )
        ]

    def abort_request(self, names: list[str]) -> None:
        assert not names


def test_no_step_waits_for_a_clip_that_could_have_been_ready(
    checkpoint: Path, asks: Asks, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_a_clip = list({ask.clip: ask for ask in asks(FEW)}.values()) * 8
    started = VllmEngine(checkpoint_identity(checkpoint), SETTINGS)
    counting = CountingEngine(len(one_a_clip))
    monkeypatch.setattr(started, "_llm", counting)
    # The place of a video stands for its tokens: nothing expands it here.
    monkeypatch.setattr(started, "_expected_video_tokens", lambda _: 1)
    replies = answers(started, one_a_clip)
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [
        str(place) for place in range(len(one_a_clip))
    ]
    assert counting.rendered == counting.added == len(one_a_clip) == 32
    assert (counting.missing, counting.made_here) == (0, 0)


def test_who_stops_listening_leaves_nothing_to_the_next_requests(engine: VllmEngine, asks: Asks) -> None:
    many = list({ask.clip: ask for ask in asks(FEW)}.values())
    whole = answers(engine, many)
    some = engine.answer(many[::-1])
    next(some)
    some.close()  # type: ignore[attr-defined]
    assert engine.llm.llm_engine.get_num_unfinished_requests() == 0
    assert answers(engine, many) == whole


def test_generation_arguments_are_honoured(engine: VllmEngine, asks: Asks) -> None:
    [ask] = asks(FEW)[:1]
    drawn = GenerationArguments(max_new_tokens=12, temperature=2.0, seed=1)

    def said(arguments: GenerationArguments) -> Reply:
        [reply] = answers(engine, [replace(ask, arguments=arguments)])
        assert isinstance(reply, Reply)
        return reply

    greedy = said(replace(FEW, max_new_tokens=12))
    assert said(replace(FEW, max_new_tokens=12)) == greedy
    assert said(drawn) == said(drawn) != greedy
    assert said(replace(drawn, seed=2)).text != said(drawn).text
    assert said(replace(drawn, top_k=1)).text == said(replace(drawn, top_p=1e-6)).text == greedy.text
    stop = greedy.text[3:5]
    stopped = said(replace(FEW, max_new_tokens=12, stop=(stop,)))
    assert stopped.text == greedy.text.partition(stop)[0] and stopped.finish_reason == "stop"


def test_what_concerns_one_request_fails_alone(engine: VllmEngine, asks: Asks, tmp_path: Path) -> None:
    good, long, broken = asks(FEW)[:3]
    assert broken.clip is not None
    shutil.copytree(broken.clip.path.parent, tmp_path / "clip")
    changed = tmp_path / "clip" / broken.clip.path.name
    changed.write_bytes(changed.read_bytes()[:-2000])
    outcomes = answers(
        engine,
        [
            replace(long, prompt=long.prompt * 40),
            replace(broken, clip=Clip.at(changed)),
            replace(good, prompt="<|video_pad|> And this?"),
            good,
            replace(good, clip=None),
        ],
    )
    assert [o.reason for o in outcomes[:3] if isinstance(o, Failure)] == [
        "context_too_long",
        "unsupported_video",
        "refused",
    ]
    assert "1024" in str(outcomes[0]) and "max_model_len" in str(outcomes[0])
    assert isinstance(outcomes[3], Reply) and outcomes[3].video_tokens
    assert isinstance(outcomes[4], Reply) and outcomes[4].video_tokens == 0


def test_frames_that_did_not_arrive_as_a_video_stop_the_run(
    engine: VllmEngine, asks: Asks, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = engine.request

    def half_of_the_frames(*of: Any) -> dict[str, object]:
        request = given(*of)
        [(frames, metadata)] = request["multi_modal_data"]["video"]
        return {
            **request,
            "multi_modal_data": {"video": [(frames[::2], metadata)]},
            "multi_modal_uuids": {"video": ["half"]},
        }

    monkeypatch.setattr(engine, "request", half_of_the_frames)
    with pytest.raises(AdapterError, match="did not arrive"):
        list(engine.answer(asks(FEW)[:1]))


def test_a_start_that_cannot_work_says_what_to_do(checkpoint: Path, asks: Asks) -> None:
    too_long = VllmEngine(checkpoint_identity(checkpoint), replace(SETTINGS, max_model_len=100_000))
    with pytest.raises(AdapterError, match=r"vLLM cannot start tiny .*max_model_len=100000"):
        list(too_long.answer(asks(FEW)[:1]))
    with pytest.raises(AdapterError, match=r"egost serve"):
        VllmEngine(checkpoint_identity(checkpoint), replace(SETTINGS, data_parallel_size=2))


def test_questions_on_a_clip_share_its_prefix_and_replies_do_not_change(
    engine: VllmEngine, checkpoint: Path, asks: Asks
) -> None:
    before = engine.cached_tokens
    with_cache = answers(engine, asks(FEW))
    shared = engine.cached_tokens - before
    assert shared == sum(reply.cached_tokens or 0 for reply in with_cache if isinstance(reply, Reply))
    clips = len({ask.clip for ask in asks(FEW)})
    video = min(reply.video_tokens or 0 for reply in with_cache if isinstance(reply, Reply))
    assert shared > (len(with_cache) - clips - AT_ONCE) * video / 2, (
        "most questions find their video computed"
    )
    # vLLM allows one engine at a time in a process.
    engine.close()
    without = VllmEngine(checkpoint_identity(checkpoint), replace(SETTINGS, prefix_caching=False))
    try:
        assert answers(without, asks(FEW)) == with_cache
        assert without.cached_tokens == 0
    finally:
        without.close()
