"""How long judging takes, against one call after the other. Run by `make bench`.

A local server answers each call after a while, in a process of its own. The rival is the call that lmms-eval's
judge helpers make (`lmms_eval.llm_judge`, provider `openai`), which tasks use one sample after the other; a part
of the samples is enough for it, and its time is scaled up. The bound is latency x n / concurrency.

Times are reported. What is aimed at is counted: one call for each judgement, as many at once as are allowed, and none
where the judgements are kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lmms_eval.llm_judge import Request, ServerConfig
from lmms_eval.llm_judge.factory import ProviderFactory
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from judge_server import Ask, serve_judge

from egost.tasks.chat.calls import DEFAULT_CONCURRENCY, Pacing
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.judging.judge import RouteItem
from egost.tasks.judging.openai_judge import OpenAIJudge
from egost.tasks.judging.prompt import STRICT, load_judge_prompt

SERVER = Path(__file__).parents[1] / "support" / "judge_server.py"


def most_at_once(items: list[RouteItem]) -> int:
    """The most calls that a server has at once, which keeps the first ones until as many are there as are allowed."""
    full = threading.Event()

    def script(_: Ask) -> str:
        if server.at_once >= DEFAULT_CONCURRENCY:
            full.set()
        full.wait(60)
        return "ok"

    with serve_judge(script=script) as server, tempfile.TemporaryDirectory() as folder:
        judge = OpenAIJudge(parse_endpoint(f"openai:judge-model@{server.url}"), folder=Path(folder))
        judge(items)
        judge.close()
        return server.most_at_once


@contextmanager
def running_server(latency_s: float) -> Iterator[str]:
    """The URL of a judge server in a process of its own."""
    command = [sys.executable, str(SERVER), "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def routes(number: int) -> list[RouteItem]:
    """Items of about the length of the benchmark's."""
    text = "Walk along the corridor to the door, turn left at the sofa, pass the plant and turn right. " * 4
    return [RouteItem(f"s{i}", "Describe the route.", text, f"{text} {i}", "forward") for i in range(number)]


def one_by_one(url: str, items: list[RouteItem]) -> None:
    """Judge with lmms-eval's judge helper, one item after the other."""
    os.environ["OPENAI_API_URL"] = url
    config = ServerConfig(model_name="judge-model", response_format="json")
    provider = ProviderFactory.create_provider("openai", config)
    prompt = load_judge_prompt(STRICT)
    for item in items:
        provider.evaluate(Request(messages=[dict(message) for message in prompt.messages(item)]))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judgements", type=int, default=500)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds a reply")
    parser.add_argument(
        "--rivals", type=int, default=25, help="judgements of the serial way that are measured"
    )
    given = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "no-key-for-a-local-server"
    items, bound = routes(given.judgements), given.latency * given.judgements / DEFAULT_CONCURRENCY
    with tempfile.TemporaryDirectory() as folder, running_server(given.latency) as url:
        one_by_one(url, items[:1])
        serial = seconds(lambda: one_by_one(url, items[: given.rivals])) * len(items) / given.rivals
        endpoint = parse_endpoint(f"openai:judge-model@{url}")
        judge = OpenAIJudge(endpoint, pacing=Pacing(), folder=Path(folder))
        ours = seconds(lambda: judge(items))
        first = judge.usage
        judge.close()
        again = OpenAIJudge(endpoint, pacing=Pacing(), folder=Path(folder))
        cached = seconds(lambda: again(items))
        used = again.usage
        again.close()
    title = f"{len(items)} judgements at {1000 * given.latency:.0f} ms a reply, {DEFAULT_CONCURRENCY} at once"
    table = Table("way", "s", "x serial", "x bound", title=title)
    rows = {
        f"lmms-eval's judge call, serial ({given.rivals} measured, scaled)": serial,
        "bound: latency x n / concurrency": bound,
        "egost, first run": ours,
        f"egost, second run ({used.calls} calls)": cached,
    }
    for way, taken in rows.items():
        table.add_row(way, f"{taken:.2f}", f"{serial / taken:.1f}", f"{taken / bound:.2f}")
    Console().print(table)
    at_once = most_at_once(items[: 8 * DEFAULT_CONCURRENCY])
    aims = {
        f"{len(items)} judgements by {first.calls} calls": first.calls == len(items),
        f"again by {used.calls} calls": used.calls == 0,
        f"{at_once} calls at once, {DEFAULT_CONCURRENCY} allowed": at_once == DEFAULT_CONCURRENCY,
    }
    for aim, reached in aims.items():
        print(f"{'reached' if reached else 'MISSED '} {aim}")


if __name__ == "__main__":
    main()
