"""Two real vLLM servers, started by `egost serve`: a slice of the mini world by file and inline; one is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from egost_serve import Served, start_serving
from lmms_eval_command import plain_lmms_eval, saved

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.clips.protocols import N_FRAMES
from egost.tasks.mini_world import write_mini_release

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM has an environment of its own"),
]

TASKS = ["egost_mini_direction_reverse", "egost_mini_landmark_forward", "egost_mini_route_forward"]
TOKENS = 48


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    write_mini_release(folder / "mini", clips=5, seed=3, progress=False)
    return folder


@pytest.fixture(scope="module")
def servers(cache: Path) -> Iterator[list[Served]]:
    """Started at once, since a start is mostly waiting for imports."""
    checkpoint = tiny_checkpoint(cache / "checkpoints" / "tiny")
    started = [start_serving(checkpoint, cache) for _ in range(2)]
    try:
        for served in started:
            served.wait_until_ready()
        yield started
    finally:
        for served in started:
            served.stop()


def _evaluate(servers: list[Served], cache: Path, folder: Path, *more: str) -> dict[str, dict[int, str]]:
    """Replies by task and document of a whole run of the real command."""
    urls = ";".join(served.url for served in servers)
    done = plain_lmms_eval(
        *["--tasks", ",".join(TASKS), "--model", "egost_server"],
        *["--model_args", ",".join([f"base_url={urls}", *more]), "--gen_kwargs", f"max_new_tokens={TOKENS}"],
        *["--output_path", "out", "--log_samples"],
        cwd=folder,
        cache=cache,
        python=Path(sys.executable),
        EGOST_JUDGE="offline",
    )
    assert (folder / "out").is_dir(), done.stdout[-3000:] + done.stderr[-3000:]
    results, samples = saved(folder / "out")
    for task in TASKS:
        assert results["results"][task]["n_unscored,none"] == 0 or task.startswith("egost_mini_route"), (
            done.stderr
        )
    return {task: {row["doc_id"]: row["filtered_resps"] for row in rows} for task, rows in samples.items()}


@pytest.fixture(scope="module")
def by_file(
    servers: list[Served], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[int, str]]:
    """The replies of a run that nothing disturbed, the clips given by their files."""
    return _evaluate(servers, cache, tmp_path_factory.mktemp("whole"), "media=file")


def test_the_real_command_evaluates_against_real_servers(
    servers: list[Served], by_file: dict[str, dict[int, str]]
) -> None:
    assert {task: len(replies) for task, replies in by_file.items()} == dict.fromkeys(TASKS, 5)
    assert len({reply for replies in by_file.values() for reply in replies.values()}) > 5
    assert sum(served.answered() for served in servers) >= 15


def test_the_pixels_inline_bring_the_same_replies(
    servers: list[Served], cache: Path, by_file: dict[str, dict[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from egost.model_adapters.engine import Ask, GenerationArguments, Reply
    from egost.model_adapters.server.server_engine import ServerEngine
    from egost.tasks.release.release import open_release

    monkeypatch.setenv("EGOST_CACHE", str(cache))
    open_release.cache_clear()
    asks = [
        _ask(sample, Ask, GenerationArguments(TOKENS))
        for sample in open_release("mini").samples("direction", "reverse")
    ]
    outcomes: dict[str, dict[int, Any]] = {}
    for media in ("inline", "auto"):
        with closing(ServerEngine([servers[0].url], media=media)) as engine:  # type: ignore[arg-type]
            outcomes[media] = dict(engine.answer(asks))
            assert engine.identity.settings["dtype"] == "float32"
            assert str(engine.identity.revision).startswith("sha256:")
    assert outcomes["inline"] == outcomes["auto"]
    shared = [reply.cached_tokens for reply in outcomes["auto"].values()]
    assert any(shared) and all(
        tokens < reply.prompt_tokens for tokens, reply in zip(shared, outcomes["auto"].values(), strict=True)
    ), "the second time, the questions' own video is in the server's prefix cache"
    replies = [outcomes["inline"][place] for place in range(len(asks))]
    for ask, reply in zip(asks, replies, strict=True):
        patches = round(ask.clip.manifest.height / 28) * round(ask.clip.manifest.width / 28)
        assert isinstance(reply, Reply) and reply.video_tokens == N_FRAMES // 2 * patches
    assert [reply.text.strip() for reply in replies] == [
        by_file["egost_mini_direction_reverse"][doc].strip() for doc in range(len(asks))
    ]


def _ask(sample: Any, make: Any, arguments: Any) -> Any:
    from egost.tasks.clips.clips import get_clip
    from egost.tasks.clips.protocols import parse_protocol
    from egost.tasks.prompts import load_prompt
    from egost.tasks.release.release import open_release

    clip = get_clip(open_release("mini").clip_path(sample), parse_protocol("uniform8"))
    return make(sample.id, load_prompt("direct").render(sample), clip, arguments)


def test_a_server_killed_in_the_middle_costs_no_sample(
    servers: list[Served], cache: Path, by_file: dict[str, dict[int, str]], tmp_path: Path
) -> None:
    dying, other = servers
    before = dying.answered()
    killed = threading.Event()

    def kill_soon() -> None:
        # The probes are the first five; two questions later it is in the middle.
        while dying.answered() < before + 7:
            time.sleep(0.02)
        os.killpg(dying.pid, signal.SIGKILL)
        killed.set()

    answered_by_other = other.answered()
    threading.Thread(target=kill_soon, daemon=True).start()
    replies = _evaluate(servers, cache, tmp_path, "fresh=True", "concurrency=1", "media=file")
    assert killed.is_set(), "the server outlived the run"
    assert replies == by_file
    assert other.answered() > answered_by_other
    assert dying.process.wait(60) == 2
    assert "killed by SIGKILL" in dying.text


def test_ctrl_c_leaves_no_process_behind(servers: list[Served]) -> None:
    other = servers[1]
    assert other.process.poll() is None
    other.process.send_signal(signal.SIGINT)
    assert other.process.wait(60) == 130
    for served in servers:
        assert _gone(served.pid)


def _gone(group: int) -> bool:
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
