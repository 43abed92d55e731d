"""Groups from a server for rollouts, over real HTTP: what it is asked, and what ends a training."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatAsk, ChatServer, serve_chat
from release_files import write_video

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments, SampledGroup
from egost.model_adapters.server.server_api import TRIES
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.training.group_sampling import ServerSampler

NAMES = ("tiny", "egost?family=qwen2_vl&revision=abc&rollouts=folder")
PIXELS = 360 * 420


@pytest.fixture(scope="module")
def asks(tmp_path_factory: pytest.TempPathFactory) -> list[Ask]:
    """One question on each of two clips."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [write_video(folder / f"{i}.mp4", size=(112, 112), seed=i) for i in range(2)]
    clips = [get_clip(path, parse_protocol("uniform8"), folder) for path in paths]
    return [Ask(f"mini/{i}", f"question {i}", clip, GenerationArguments(0)) for i, clip in enumerate(clips)]


def sampled(server: ChatServer, asks: Sequence[Ask], **sampling: Any) -> list[SampledGroup]:
    wanted = [(ask, {"n": 3, "seed": i, **sampling}) for i, ask in enumerate(asks)]
    with closing(ServerSampler(server.url, PIXELS, wait_s=1.0)) as sampler:
        return sampler.sample(wanted, "default")


def test_groups_come_in_the_order_of_the_asks(asks: list[Ask]) -> None:
    with serve_chat(names=NAMES) as server:
        groups = sampled(server, asks, temperature=0.7, max_tokens=20, logit_bias={9: -100.0})
        questions = {ask.text: ask for ask in server.questions}
    for seed, (ask, group) in enumerate(zip(asks, groups, strict=True)):
        assert group == SampledGroup((1, 2, 64), tuple((seed, i) for i in range(3)), ((-1.0, -0.5),) * 3)
        asked = questions[ask.prompt]
        assert asked.frames is not None and ask.clip is not None
        assert (asked.frames == ask.clip.frames()).all()
        body = asked.body
        assert {
            "n": 3,
            "temperature": 0.7,
            "max_tokens": 20,
            "logit_bias": {"9": -100.0},
        }.items() <= body.items()
        assert body["mm_processor_kwargs"]["videos_kwargs"]["size"]["longest_edge"] == PIXELS
        assert body["logprobs"] is True and body["return_token_ids"] is True


def test_a_server_in_trouble_is_asked_again(asks: list[Ask]) -> None:
    def script(ask: ChatAsk) -> str:
        return "html" if ask.text == asks[0].prompt and ask.number < TRIES - 1 else "ok"

    with serve_chat(names=NAMES, script=script) as server:
        assert len(sampled(server, asks)) == 2


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("html", "no completions with their tokens"),
        ("error:400 too long", "too long"),
        ("cut", "the line to"),
    ],
)
def test_a_server_that_samples_nothing_ends_the_run(
    asks: list[Ask], behaviour: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egost.model_adapters.server.server_api.TRIES", 2)
    with (
        serve_chat(names=NAMES, script=lambda ask: "ok" if ask.probe else behaviour) as server,
        pytest.raises(AdapterError, match=rf"samples nothing: .*{says}.*run the same command again"),
    ):
        sampled(server, asks)


@dataclass(frozen=True)
class Saved:
    """Weights that lie in a folder already."""

    folder: Path
    main: bool = True

    def save(self) -> Path:
        return self.folder

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("they are not read one by one")

    def sender(self, way: str, url: str, group_port: int) -> Callable[[], None]:
        raise AssertionError("they are not sent")


def test_weights_are_handed_over_by_their_folder(tmp_path: Path) -> None:
    with serve_chat(names=NAMES, weights='200 {"success":true}') as server:
        ServerSampler(server.url, PIXELS, wait_s=1.0).take_weights(Saved(tmp_path), "step 1")
        assert (server.taken, server.holds) == ([str(tmp_path)], "step 1")
        ServerSampler(server.url, PIXELS, wait_s=1.0).take_weights(Saved(tmp_path, main=False), "step 2")
        assert server.holds == "step 1", "one process talks for all"


@pytest.mark.parametrize("way", ["ipc", "nccl"])
def test_weights_do_not_go_from_a_cpu_to_a_gpu(way: str) -> None:
    names = (NAMES[0], NAMES[1].replace("folder", way))
    says = rf"takes weights by {way}, from a GPU, and this process has none.*--rollouts --weights folder"
    with serve_chat(names=names) as server, pytest.raises(AdapterError, match=says):
        ServerSampler(server.url, PIXELS, wait_s=1.0)


def test_weights_of_another_run_are_noticed(asks: list[Ask], tmp_path: Path) -> None:
    with serve_chat(names=NAMES, weights='200 {"success":true}') as server:
        one, other = (ServerSampler(server.url, PIXELS, wait_s=1.0) for _ in range(2))
        one.take_weights(Saved(tmp_path), "one")
        assert one.sample([(asks[0], {"n": 1, "seed": 0})], "one")
        other.take_weights(Saved(tmp_path), "other")
        with pytest.raises(AdapterError, match="holds the weights 'other', and was given 'one'"):
            one.sample([(asks[0], {"n": 1, "seed": 0})], "one")


def test_a_broken_line_is_tried_once_more(asks: list[Ask]) -> None:
    def script(ask: ChatAsk) -> str:
        return "cut" if not ask.probe and ask.number == 0 else "ok"

    with serve_chat(names=NAMES, script=script) as server:
        assert len(sampled(server, asks)) == 2


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (None, "takes no weights. Start it for that: egost serve MODEL --rollouts"),
        ("500 no such folder", "did not take the weights in .*no such folder.* It must share the disk"),
        ('200 {"success": false}', "did not take the weights in .*/reset_prefix_cache says"),
    ],
)
def test_weights_that_are_not_taken(tmp_path: Path, weights: str | None, says: str) -> None:
    with serve_chat(names=NAMES, weights=weights) as server, pytest.raises(AdapterError, match=says):
        ServerSampler(server.url, PIXELS, wait_s=1.0).take_weights(Saved(tmp_path), "step 1")


def test_a_server_for_evaluation_is_no_server_for_rollouts() -> None:
    with (
        serve_chat() as server,
        pytest.raises(AdapterError, match=r"serves tiny for evaluation.*egost serve MODEL --rollouts"),
    ):
        ServerSampler(server.url, PIXELS, wait_s=1.0)


def test_a_server_that_is_not_up_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(AdapterError, match=re.escape(f"no server is up at {url}")):
        ServerSampler(url, PIXELS, wait_s=0.2)
