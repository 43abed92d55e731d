"""Our engines as models of lmms-eval: what is asked, in which order, what is journaled and what comes back."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chat_server import ChatAsk, serve_chat
from httpx import Headers
from scripted_engine import ScriptedEngine, mini_requests, say_where
from server_engines import engine as engine_of

from egost.model_adapters.engine import AdapterError, Ask, Failure, Reply
from egost.tasks import utils
from egost.tasks.release import release as release_module
from egost.tasks.release.release import open_release
from egost.tasks.scoring.generation_notes import noted_generation

if TYPE_CHECKING:
    from egost.model_adapters.adapter import EngineModel
    from egost.model_adapters.engine import Engine

TASKS = ("landmark_forward", "direction_reverse")


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    return mini_release(tmp_path_factory.mktemp("mini"), clips=3, seed=5)


@pytest.fixture(autouse=True)
def world(own_cache: Path, mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))
    release_module.open_release.cache_clear()


def model(engine: Engine, task_dict: dict[str, Any], **settings: Any) -> EngineModel:
    from egost.model_adapters.adapter import EngineModel

    made = EngineModel(engine, **settings)
    made.task_dict.update(task_dict)
    return made


def run(engine: ScriptedEngine, *tasks: str, **settings: Any) -> list[str]:
    requests, task_dict = mini_requests(*(tasks or TASKS))
    return [reply.text for reply in model(engine, task_dict, **settings).generate_until(requests)]


def test_replies_come_in_order_and_the_questions_on_a_clip_go_together() -> None:
    engine = ScriptedEngine()
    requests, task_dict = mini_requests(*TASKS)
    replies = model(engine, task_dict).generate_until(requests)
    samples = [s for task in TASKS for s in open_release("mini").samples(*task.split("_"))]
    assert [reply.text for reply in replies] == [f"mini/{sample.id} None" for sample in samples]
    assert replies[0].token_counts.to_dict() == {"input_tokens": len(requests[0].args[0]), "output_tokens": 3}
    clips = [ask.clip.manifest.source for ask in engine.asked if ask.clip]
    assert len(clips) == len(samples) > len(set(clips)) == 3
    changes = sum(a != b for a, b in itertools.pairwise(clips))
    assert changes == 2, "each clip's questions stand together"
    assert len({s.clip for s in samples[: len(samples) // 2]}) == 3, "which they do not in the tasks"


def test_asking_begins_while_later_clips_are_decoded() -> None:
    requests, task_dict = mini_requests(*TASKS)
    last = requests[-1].args[2]
    asked = threading.Event()

    def shown(doc: dict[str, Any]) -> list[str]:
        assert doc["clip"] != slow or asked.wait(60), "nothing is asked before this clip is decoded"
        return last(doc)

    slow = next(iter(task_dict.values()))["landmark_forward"][-1]["clip"]
    for request in requests:
        request.arguments = (*request.args[:2], shown, *request.args[3:])

    def script(ask: Ask) -> Reply | Failure:
        asked.set()
        return say_where(ask)

    engine = ScriptedEngine(script)
    replies = [reply.text for reply in model(engine, task_dict).generate_until(requests)]
    samples = [s for task in TASKS for s in open_release("mini").samples(*task.split("_"))]
    assert replies == [f"mini/{sample.id} None" for sample in samples]
    clips = [ask.clip.manifest.source for ask in engine.asked if ask.clip]
    assert len(clips) == len(samples) and clips[0] != slow


def test_what_was_sent_to_servers_stands_in_the_results_of_lmms_eval() -> None:
    from lmms_eval.models.model_utils.gen_metrics import reset_logged_metrics, summarize_logged_metrics

    requests, task_dict = mini_requests(*TASKS)
    lengths: list[int] = []

    def script(ask: ChatAsk) -> str:
        lengths.append(int(Headers(ask.headers)["content-length"]))
        return "ok"

    reset_logged_metrics()
    with serve_chat(script=script) as server, closing(engine_of(server.url)) as engine:
        replies = model(engine, task_dict).generate_until(requests)
        assert len(replies) == len(server.questions)
        found = summarize_logged_metrics()
        assert len(lengths) > len(replies), "what the server was tried with is counted, too"
        assert found["avg_sent_mb"] == pytest.approx(sum(lengths) / 1e6)
        assert found["total_gen_tokens"] == sum(reply.token_counts.output_tokens for reply in replies) > 0
        reset_logged_metrics()
    with serve_chat() as server, closing(engine_of(server.url)) as engine:
        # All of it is in the journal, so that nothing is sent.
        model(engine, task_dict).generate_until(requests)
        assert not server.questions and not summarize_logged_metrics()


def test_what_later_runs_will_draw_is_asked_in_the_first() -> None:
    requests, task_dict = mini_requests(*TASKS, temperature=0.7, do_sample=True)
    first = ScriptedEngine()
    found = [reply.text for reply in model(first, task_dict, draws=3, seed=5).generate_until(requests)]
    samples = [s for task in TASKS for s in open_release("mini").samples(*task.split("_"))]
    assert found == [f"mini/{sample.id} 5" for sample in samples]
    asked = [(ask.sample, ask.arguments.seed) for ask in first.asked]
    assert sorted(asked) == sorted((f"mini/{s.id}", seed) for s in samples for seed in (5, 6, 7))
    clips = [ask.clip.manifest.source for ask in first.asked if ask.clip]
    assert sum(a != b for a, b in itertools.pairwise(clips)) == len(set(clips)) - 1
    notes = [noted_generation("mini", sample.id) for sample in samples]
    assert all(note is not None and not note.journaled for note in notes)
    for seed in (6, 7):
        later = ScriptedEngine()
        found = [reply.text for reply in model(later, task_dict, seed=seed).generate_until(requests)]
        assert found == [f"mini/{sample.id} {seed}" for sample in samples] and not later.asked
    # More are wanted: what is there is not asked again.
    more = ScriptedEngine()
    model(more, task_dict, draws=4, seed=5).generate_until(requests)
    assert {ask.arguments.seed for ask in more.asked} == {8}


class Batches:
    """An adapter of lmms-eval that remembers which prompts it got together."""

    is_simple, rank, world_size = True, 0, 1

    def __init__(self) -> None:
        self.together: list[list[str]] = []
        self.asked = threading.Event()

    def generate_until(self, requests: list[Any]) -> list[str]:
        self.together.append([request.args[0] for request in requests])
        self.asked.set()
        return ["A"] * len(requests)

    def clean(self) -> None:
        pass


@pytest.mark.parametrize("size", [2, 4, 100])
def test_batches_are_the_same_whichever_clip_is_slow(size: int) -> None:
    """Two questions on each of three clips, the first or the last of which takes until something was asked."""
    from egost.model_adapters.engine import EngineIdentity
    from egost.model_adapters.lmms_engine import LmmsEngine

    for slow in (0, 2):
        requests, task_dict = mini_requests(*TASKS)
        adapter = Batches()
        docs = [next(iter(task_dict[r.args[4]].values()))[r.args[3]] for r in requests]
        clips = list(dict.fromkeys(doc["clip"] for doc in docs))
        last = requests[-1].args[2]

        def shown(
            doc: dict[str, Any],
            clip: str = clips[slow],
            asked: threading.Event = adapter.asked,
            last: Any = last,
            # The four questions on the clips before the last one fill a batch, which waits for no other clip.
            early: bool = slow == 2 and size <= 4,
        ) -> list[str]:
            if doc["clip"] == clip:
                assert asked.wait(60 if early else 0.01) is early
            return last(doc)

        for request in requests:
            request.arguments = (*request.args[:2], shown, *request.args[3:])
        engine = LmmsEngine(adapter, EngineIdentity("batches", str(slow), None, {}), size)
        replies = model(engine, task_dict).generate_until(requests)
        assert [reply.text for reply in replies] == ["A"] * len(requests)
        prompts = [
            r.args[0] for clip in clips for r, doc in zip(requests, docs, strict=True) if doc["clip"] == clip
        ]
        assert adapter.together == [prompts[start : start + size] for start in range(0, len(prompts), size)]


def test_what_an_earlier_wave_asked_is_not_asked_again() -> None:
    from egost.model_adapters.lmms_requests import read_requests
    from egost.model_adapters.progress import AskingProgress

    requests, task_dict = mini_requests("landmark_forward")
    waves, clips = read_requests(requests, task_dict, 0, in_order=True)
    (_, first), *_ = [one for wave in waves for one in wave]
    engine = ScriptedEngine()
    progress = AskingProgress(2, "", clips)
    replies = model(engine, task_dict)._replies([[(1, first)], [], [(0, first)]], progress)
    assert len(replies) == 2 and len(engine.asked) == 1


def other_run(cache: Path) -> subprocess.Popen[str]:
    """Another process that asks what `ScriptedEngine` stands for, until it is killed."""
    code = (
        "import sys; from pathlib import Path\n"
        "from egost.model_adapters.engine import EngineIdentity\n"
        "from egost.model_adapters.journal import Journal\n"
        "identity = EngineIdentity('script 1', 'scripted', '1', {'dtype': 'none'})\n"
        "lock = Journal(Path(sys.argv[1])).only_asker(identity); print('asking', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(cache / "journal")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "asking\n"
    return process


def test_the_second_of_two_runs_asks_nothing(own_cache: Path) -> None:
    answered = run(ScriptedEngine(), TASKS[0])
    engine = ScriptedEngine()
    with other_run(own_cache) as other:
        with pytest.raises(
            SystemExit, match=f"scripted is being asked already, .*: by process {other.pid} on"
        ):
            run(engine)
        assert not engine.asked and engine.closed
        assert run(engine, TASKS[0]) == answered, "what is in the journal needs no asking"
        assert set(run(ScriptedEngine(lambda _: Reply("B", "stop"), revision="2"))) == {"B"}
        other.kill()
    assert len(run(engine)) == 2 * len(answered) == len(engine.asked) + len(answered)


def test_what_is_in_the_journal_is_not_asked_again(capfd: pytest.CaptureFixture[str]) -> None:
    first = run(ScriptedEngine())
    assert "0 from the journal" in capfd.readouterr().err
    engine = ScriptedEngine(lambda ask: Reply("another", "stop"))
    assert run(engine) == first and not engine.asked
    assert f"{len(first)} from the journal" in capfd.readouterr().err
    other = ScriptedEngine(lambda ask: Reply("another", "stop"), revision="2")
    assert set(run(other)) == {"another"}, "another revision is another model"


def test_fresh_asks_for_all_and_the_newest_reply_stays() -> None:
    first = run(ScriptedEngine())
    engine = ScriptedEngine(lambda ask: Reply("another", "stop"))
    assert set(run(engine, fresh=True)) == {"another"} and len(engine.asked) == len(first)
    assert set(run(ScriptedEngine())) == {"another"}


def test_a_stop_in_the_middle_keeps_what_was_answered(capfd: pytest.CaptureFixture[str]) -> None:
    left = iter(range(4))

    def four_then(ask: Ask) -> Reply | Failure:
        if next(left, None) is None:
            raise AdapterError("the server is gone")
        return say_where(ask)

    stopping = ScriptedEngine(four_then)
    with pytest.raises(SystemExit, match="egost: the server is gone"):
        run(stopping)
    assert stopping.closed and "the same command goes on" in capfd.readouterr().err
    engine = ScriptedEngine()
    replies = run(engine)
    assert len(engine.asked) == len(replies) - 4
    assert replies == run(ScriptedEngine(), fresh=True)


def test_a_failed_request_is_unscored_with_its_reason_and_asked_again() -> None:
    failing = ScriptedEngine(lambda ask: Failure("out_of_memory", "30 GiB\nwere asked for"))
    requests, task_dict = mini_requests("direction_reverse")
    doc = task_dict["egost_mini_direction_reverse"]["direction_reverse"][0]
    [text, *_] = [reply.text for reply in model(failing, task_dict).generate_until(requests)]
    metrics = utils.process_choice(doc, [text])
    assert metrics["n_unscored"] == "generation_failed:out_of_memory" and "score" not in metrics["percent"]
    assert metrics["truncated"] is None
    assert metrics["percent"]["generation"]["failure"] == "out_of_memory: 30 GiB\nwere asked for"
    engine = ScriptedEngine()
    run(engine, "direction_reverse")
    assert len(engine.asked) == len(requests)


def test_truncated_replies_are_counted_and_scored_as_they_are() -> None:
    cut = ScriptedEngine(lambda ask: Reply("The answer is A.", "length", 10, 16, 32))
    requests, task_dict = mini_requests("direction_reverse")
    model(cut, task_dict).generate_until(requests)
    docs = task_dict["egost_mini_direction_reverse"]["direction_reverse"]
    rows = [utils.process_choice(doc, ["The answer is A."]) for doc in docs]
    assert utils.mean_of_scored([row["truncated"] for row in rows]) == 100
    assert {row["percent"]["score"] for row in rows} <= {0, 100}
    generation = rows[0]["percent"]["generation"]
    assert generation["engine"] == "script 1" and generation["settings"] == {"dtype": "none"}
    assert (generation["prompt_tokens"], generation["video_tokens"], generation["journaled"]) == (
        10,
        32,
        False,
    )
    model(cut, task_dict).generate_until(requests)
    noted = noted_generation("mini", docs[0]["id"])
    assert noted and noted.journaled and noted.truncated
    for finish_reason, truncated in (("stop", False), ("unknown", None)):
        engine = ScriptedEngine(lambda ask, word=finish_reason: Reply("A", word))  # type: ignore[misc]
        model(engine, task_dict, fresh=True).generate_until(requests)
        noted = noted_generation("mini", docs[0]["id"])
        assert noted and noted.truncated is truncated


def test_a_clip_without_frames_is_not_asked_about(mini: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(mini, tmp_path / "mini")
    monkeypatch.setenv("EGOST_MINI_DATA", str(tmp_path / "mini"))
    open_release.cache_clear()
    sample = open_release("mini").samples("direction", "reverse")[0]
    open_release("mini").clip_path(sample).write_bytes(b"")
    engine = ScriptedEngine()
    requests, task_dict = mini_requests("direction_reverse")
    [first, *_] = model(engine, task_dict).generate_until(requests)
    assert first.text.startswith("[GENERATION_FAILED] no_clip") and len(engine.asked) == len(requests) - 1
    doc = task_dict["egost_mini_direction_reverse"]["direction_reverse"][0]
    assert utils.process_choice(doc, [first.text])["n_unscored"] == "decode_failed:empty"


def test_repeats_of_a_drawn_request_have_seeds_of_their_own() -> None:
    engine = ScriptedEngine()
    requests, task_dict = mini_requests("direction_reverse", repeats=3, temperature=0.7, do_sample=True)
    replies = [r.text for r in model(engine, task_dict, seed=5).generate_until(requests)]
    assert [text.split()[-1] for text in replies[:3]] == ["5", "6", "7"] and len(set(replies)) == len(replies)
    assert len(run_drawn(seed=5).asked) == 0 and len(run_drawn(seed=6).asked) == len(requests) // 3
    greedy = ScriptedEngine()
    requests, task_dict = mini_requests("direction_reverse", repeats=3)
    model(greedy, task_dict).generate_until(requests)
    assert len(greedy.asked) == len(requests) / 3, "a greedy reply is the same each time"


def run_drawn(seed: int) -> ScriptedEngine:
    """The same three draws again, with the seeds from `seed` on."""
    engine = ScriptedEngine()
    requests, task_dict = mini_requests("direction_reverse", repeats=3, temperature=0.7, do_sample=True)
    model(engine, task_dict, seed=seed).generate_until(requests)
    return engine


def test_a_task_that_is_none_of_ours() -> None:
    from egost.model_adapters.adapter import EngineModel

    requests, task_dict = mini_requests("direction_reverse")
    theirs = {
        task: {split: [{"question": "?"} for _ in docs]}
        for task, s in task_dict.items()
        for split, docs in s.items()
    }
    with pytest.raises(SystemExit, match="none of the egost tasks"):
        model(ScriptedEngine(), theirs).generate_until(requests)
    for asked in ("loglikelihood", "generate_until_multi_round"):
        with pytest.raises(SystemExit, match="egost tasks only"):
            getattr(EngineModel(ScriptedEngine()), asked)([])


def test_an_engine_that_ends_too_early_is_noticed() -> None:
    class Short(ScriptedEngine):
        def answer(self, asks):  # type: ignore[no-untyped-def]
            yield from list(super().answer(asks))[:-1]

    with pytest.raises(SystemExit, match=r"1 of \d+ requests unanswered"):
        run(Short())


def test_the_end_of_the_asking_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    replies = run(ScriptedEngine(lambda ask: Reply("A", "stop", 100, 1)))
    [line] = [line for line in capfd.readouterr().err.splitlines() if "of CPU in this process" in line]
    assert line.startswith(f"egost: {len(replies)} of {len(replies)} samples; ")
    assert "3 clips, 0 from the journal, 0 failed" in line
    assert "outside" not in line, "an engine that is waited for may do nothing"
