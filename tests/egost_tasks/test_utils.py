from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, serve_judge

from egost.tasks import utils
from egost.tasks.errors import CacheError
from egost.tasks.judging.choose import chosen_judge

KWARGS = {"prompt": "direct"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    return mini_release(tmp_path_factory.mktemp("mini"), clips=4)


@pytest.fixture
def docs(world: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    from datasets import Dataset, NamedSplit

    monkeypatch.setenv("EGOST_MINI_DATA", str(world))
    monkeypatch.setattr(utils, "_asked", defaultdict(dict))
    monkeypatch.setattr(utils, "_unjudged", {})
    placeholder = Dataset.from_list([{"placeholder": True}], split=NamedSplit("route_reverse"))
    return list(utils.mini_docs(placeholder))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    with serve_judge(latency_s=0.3) as running:
        monkeypatch.setenv("EGOST_JUDGE", f"openai:m@{running.url}")
        yield running


def test_the_docs_of_a_task(docs: list[dict[str, Any]]) -> None:
    assert len(docs) == 4 and {(d["world"], d["task"], d["way"]) for d in docs} == {
        ("mini", "route", "reverse")
    }


def test_all_routes_are_under_way_before_the_first_is_asked_for(
    docs: list[dict[str, Any]], server: JudgeServer
) -> None:
    utils.doc_to_text(docs[0], KWARGS)  # lmms-eval renders the first sample once more when it loads a task
    for doc in docs:
        utils.doc_to_text(doc, KWARGS)
    for doc in reversed(docs):
        utils.doc_to_text(doc, KWARGS)  # a chat model asks for it again, in any order
    replies = [f"Turn left at panel {number}." for number in range(4)]
    utils.StartJudging("mini", "reverse").apply([[reply] for reply in replies], None)
    assert not server.asks, "nothing is judged before something is scored"
    first = utils.process_route(docs[0], [replies[0]])
    assert server.most_at_once == 4 and first["percent"]["judgement"]
    for doc, reply in zip(docs[1:], replies[1:], strict=True):
        utils.process_route(doc, [reply])
    asked = [(ask.reference, ask.prediction) for ask, _ in server.asks]
    assert sorted(asked) == sorted((doc["answer"], reply) for doc, reply in zip(docs, replies, strict=True))


def test_no_head_start_where_the_samples_are_not_certain(
    docs: list[dict[str, Any]], server: JudgeServer
) -> None:
    for doc in docs:
        utils.doc_to_text(doc, KWARGS)
    utils.StartJudging("mini", "reverse").apply([["Turn left."]], None)
    assert utils.process_route(docs[0], ["Turn left."])["percent"]["judgement"]
    assert [ask.reference for ask, _ in server.asks] == [docs[0]["answer"]]


def test_a_reply_that_is_none_is_a_failed_generation(docs: list[dict[str, Any]]) -> None:
    [[none], [text], [nothing]] = utils.MarkMissing().apply([[None], ["A"], []], None)
    assert text == "A"
    for reply in (none, nothing):
        metrics = utils.process_route(docs[0], [reply])
        assert metrics["n_unscored"] == "generation_failed" and "score" not in metrics["percent"]


def test_a_cache_of_judgements_that_breaks_does_not_end_the_run(
    docs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name, usage = "broken-1", None

        def start(self, items: object) -> None:
            raise CacheError("the disk is full")

        def __call__(self, items: object) -> list[Any]:
            raise CacheError("the disk is full")

    monkeypatch.setattr(utils, "chosen_judge", lambda world: Broken())
    utils.doc_to_text(docs[0], KWARGS)
    assert utils.StartJudging("mini", "reverse").apply([["Turn left."]], None) == [["Turn left."]]
    metrics = utils.process_route(docs[0], ["Turn left."])
    assert metrics["n_unscored"] == "judge_failed:judge_stopped" and metrics["compat"] is None


def test_another_prompt_than_the_recorded_one_is_refused(docs: list[dict[str, Any]]) -> None:
    with pytest.raises(SystemExit, match="Set EGOST_PROMPT=think"):
        utils.doc_to_text(docs[0], {"prompt": "think"})


def test_what_a_user_has_to_mend_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset, NamedSplit

    placeholder = Dataset.from_list([{"placeholder": True}], split=NamedSplit("route_reverse"))
    with pytest.raises(SystemExit, match="egost: the Ego-ST Bench release is not on this machine"):
        utils.official_docs(placeholder)
    monkeypatch.setenv("EGOST_PROMPT", "nonsense")
    with pytest.raises(SystemExit, match="egost: there is no prompt 'nonsense'"):
        utils.choice_generation  # noqa: B018
    with pytest.raises(AttributeError):
        utils.nothing_of_this_name  # noqa: B018


def test_values_of_the_yamls_are_made_anew() -> None:
    first = utils.choice_generation
    first["until"].append("x")
    assert utils.choice_generation["until"] == [] and utils.route_generation["max_new_tokens"] == 512


def test_as_published_changes_what_the_tasks_ask_and_is_recorded_as_one_word(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egost.model_adapters.engine import GenerationArguments

    monkeypatch.setenv("EGOST_MINI_DATA", str(world))
    assert "as_published" not in utils.mini_choice_metadata
    monkeypatch.setenv("EGOST_AS_PUBLISHED", "internvl")
    drawn = GenerationArguments.read(utils.route_generation, seed=3)
    assert (drawn.max_new_tokens, drawn.temperature, drawn.top_k, drawn.seed) == (1024, 1.0, 50, 3)
    assert utils.prompt_kwargs == {"default": {"prompt": "bare"}}
    metadata = utils.mini_route_metadata
    assert (metadata["as_published"], metadata["sampling_protocol"]) == ("internvl", "ref-internvl+448x448")
    assert metadata["judge"].startswith("offline"), "the mini world needs no key, as published or not"
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform8+448x448")
    metadata = utils.mini_choice_metadata
    assert "as_published" not in metadata and metadata["sampling_protocol"] == "uniform8+448x448"
    monkeypatch.setenv("EGOST_AS_PUBLISHED", "qwen")
    greedy = GenerationArguments.read(utils.choice_generation, seed=3)
    assert (greedy.max_new_tokens, greedy.temperature, greedy.seed) == (512, 0.0, None)


def test_as_published_asks_the_papers_judge_on_the_benchmark_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_AS_PUBLISHED", "qwen")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert chosen_judge("mini").name.startswith("offline")
    judge = chosen_judge("official").name
    assert judge.startswith("gpt-4o-2024-08-06") and "compat" in judge
    monkeypatch.setenv("EGOST_JUDGE", "offline")
    assert chosen_judge("official").name.startswith("offline"), "a setting of the person wins"
