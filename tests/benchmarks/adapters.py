"""How fast a checkpoint is evaluated, adapter by adapter. Run by `make bench`, in the environment that has vLLM.

The same questions of the mini world and the tiny checkpoint, through lmms-eval's own `qwen2_vl` (transformers, one
request at a time, as it is by default), `vllm` (8 images a question) and `vllm_generate` (a video a question), both
with all questions in one batch, and through `egost_vllm` and `egost_server`. Each adapter runs in a process of its own,
one after the other; what is timed is `generate_until` after a call that started the model, with empty caches. What is
aimed at is CPU seconds of the best of some passes, which other work on the machine changes little; seconds on the clock
are reported. Servers keep their caches, and work in processes of their own: their CPU is not seen, and nothing is aimed
at. Only ratios within one run mean anything.

Equal work shows in equal replies: the share of those that `qwen2_vl` gives. 8 images are another prompt than a video.

`outside` is the share of that CPU that was not spent in `generate` of transformers or in the steps of vLLM: reading
frames, making prompts and patches, keeping replies. It cannot be seen from a server's client. Since a tiny model makes
it large, it is measured once more with untrained weights of Qwen2-VL-2B's shape (the tiny vocabulary left as it is), on
fewer questions.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

MOST_PASSES, PASSES_S = 7, 30.0
LEAST_OVER_TRANSFORMERS, LEAST_OVER_VLLM, MOST_OUTSIDE = 5.0, 1.5, 0.05
LARGE, LARGE_CLIPS = "egost_vllm, 2 B shape", 2
TASKS = [
    f"egost_mini_{task}_{way}"
    for task in ("direction", "landmark", "action")
    for way in ("forward", "reverse")
]
FOR_VLLM = "dtype=float32,enforce_eager=True"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}

IN_PROCESS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
"""One process and one thread of the model, whose CPU is seen; lmms-eval's `vllm` is given the same advantage."""


class Clock:
    """Seconds that were spent in a function: of CPU, in the caller's thread, or by what `read` reads."""

    def __init__(self, read: Callable[[], float] = time.thread_time) -> None:
        self.read, self.seconds = read, 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self.read()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += self.read() - start

        return timed


def measure(
    name: str, model_args: str, batch_size: int, tokens: int, within_s: float = PASSES_S
) -> tuple[dict[str, Any], list[str]]:
    """Samples, seconds, and the share of them outside the model, of one adapter in this process; and its replies.

    within_s: no further pass begins after so many seconds. `outside_clock` is `outside` on the clock: where a GPU
    works, CPU seconds say little.
    """
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model

    device = "cpu" if "device_map=cpu" in model_args else None
    adapter = get_model(name).create_from_arg_string(model_args, {"batch_size": batch_size, "device": device})
    # lmms-eval would close the model after the first call.
    adapter.clean = lambda: None
    inside, on_clock = Clock(), Clock(time.perf_counter)
    asked: list[Any] = []

    def generate(requests: list[Any]) -> Any:
        asked[:] = requests
        return answer(requests)

    answer, adapter.generate_until = adapter.generate_until, generate
    if name == "qwen2_vl":
        adapter.model.generate = inside.around(on_clock.around(adapter.model.generate))
    elif "server" not in name:
        from vllm.v1.engine.llm_engine import LLMEngine

        LLMEngine.step = inside.around(on_clock.around(LLMEngine.step))
    # This starts the model, and makes lmms-eval prepare the requests as in any run.
    simple_evaluate(
        model=adapter,
        tasks=TASKS,
        batch_size=batch_size,
        gen_kwargs=f"max_new_tokens={tokens}",
        bootstrap_iters=0,
    )
    passes: list[dict[str, Any]] = []
    begun = time.perf_counter()
    while not passes or (len(passes) < MOST_PASSES and time.perf_counter() - begun < within_s):
        forget(adapter)
        engine = getattr(adapter, "_engine", None)
        cached, prompt = getattr(engine, "cached_tokens", 0), getattr(engine, "prompt_tokens", 0)
        inside.seconds = on_clock.seconds = 0.0
        start, cpu = time.perf_counter(), time.process_time()
        replies = answer(asked)
        cpu = time.process_time() - cpu
        record: dict[str, Any] = {"samples": len(asked), "seconds": time.perf_counter() - start, "cpu_s": cpu}
        if "server" not in name:
            record["outside"] = 1 - inside.seconds / cpu
            record["outside_clock"] = 1 - on_clock.seconds / record["seconds"]
        if name == "egost_vllm":
            record["cached"] = (engine.cached_tokens - cached) / (engine.prompt_tokens - prompt)
        passes.append(record)
    best = min(passes, key=lambda record: record["cpu_s"]) | {"passes": len(passes)}
    return best, [str(getattr(reply, "text", reply)) for reply in replies]


def forget(adapter: Any) -> None:
    """Empty the caches of a vLLM in this process, so that each pass does all the work."""
    llm = getattr(adapter, "client", None) or getattr(getattr(adapter, "_engine", None), "_llm", None)
    if hasattr(llm, "reset_prefix_cache"):
        llm.reset_prefix_cache()
        llm.reset_mm_cache()
        llm.llm_engine.reset_encoder_cache()


def in_own_process(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """What `measure` says when another process of this file is asked for it."""
    command = [sys.executable, __file__, "--measure", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures = {name: figure for name, figure in record.items() if name != "replies"}
    print(f"{arguments[0]} {arguments[1]}: {figures}", file=sys.stderr)
    return record


@contextmanager
def served(checkpoint: Path, environment: dict[str, str], number: int) -> Iterator[list[str]]:
    """The URLs of some servers of the checkpoint, each with an equal share of the cores."""
    ports = []
    for _ in range(number):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    cores = str(max(1, (os.cpu_count() or 1) // number))
    servers = [
        subprocess.Popen(
            [
                *(
                    str(Path(sys.executable).with_name("egost")),
                    "serve",
                    str(checkpoint),
                    "--port",
                    str(port),
                ),
                *("--dtype", "float32", "--max-model-len", "2048", "--", "--enforce-eager"),
            ],
            env={**environment, "OMP_NUM_THREADS": cores},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for port in ports
    ]
    try:
        for server in servers:
            assert server.stdout
            said: list[str] = []
            while not said or "is served at" not in said[-1]:
                if not (line := server.stdout.readline()):
                    raise SystemExit(f"a server did not start:\n{''.join(said[-20:])}")
                said.append(line)
        yield [f"http://127.0.0.1:{port}" for port in ports]
    finally:
        # Not SIGINT: what a shell started in the background ignores it, and so would the servers.
        for server in servers:
            server.send_signal(signal.SIGTERM)
        for server in servers:
            server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument(
        "--tokens", type=int, default=16, help="of a reply; the untrained checkpoint fills them"
    )
    parser.add_argument("--servers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--json", type=Path, help="where to write the record")
    parser.add_argument(
        "--measure", nargs=4, metavar=("ADAPTER", "ARGS", "BATCH", "TOKENS"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.measure:
        name, model_args, batch_size, tokens = given.measure
        record, replies = measure(name, model_args, int(batch_size), int(tokens))
        print(json.dumps({**record, "replies": replies}))
        return
    with TemporaryDirectory() as folder:
        records = run_all(Path(folder), given.clips, given.tokens, given.servers)
    report(records)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(records, indent=1))


SHAPES = {
    # hidden size, feed-forward size, layers, heads, key-value heads; depth of the vision tower, whose width is 1,280
    "0.5B": (896, 4864, 24, 14, 2, 8),
    "2B": (1536, 8960, 28, 12, 2, 32),
    "7B": (3584, 18944, 28, 28, 4, 32),
}
"""Of Qwen2-VL-2B and 7B; and of Qwen2-0.5B, with a vision tower that is less deep than Qwen2-VL's."""


def large_checkpoint(tiny: Path, folder: Path, shape: str = "2B", dtype: str = "bfloat16") -> Path:
    """Untrained weights of a shape (2B: 1.98 B parameters) with the tiny vocabulary, made on a GPU if there is one."""
    import torch
    from transformers import AutoModelForImageTextToText, Qwen2VLConfig

    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = Qwen2VLConfig.from_pretrained(tiny)
    text, vision = config.text_config, config.vision_config
    hidden, text.intermediate_size, layers, heads, text.num_key_value_heads, vision.depth = SHAPES[shape]
    text.hidden_size = vision.hidden_size = hidden
    text.num_hidden_layers = text.max_window_layers = layers
    text.num_attention_heads = heads
    text.layer_types = ["full_attention"] * layers
    # A half of each head's numbers, in the shares 2 : 3 : 3 of time, height and width.
    eighth = hidden // heads // 16
    sections = [2 * eighth, 3 * eighth, 3 * eighth]
    text.rope_parameters = {"rope_type": "default", "mrope_section": sections, "rope_theta": 1e6}
    vision.embed_dim, vision.num_heads, vision.mlp_ratio = 1280, 16, 4
    config.dtype = text.dtype = vision.dtype = getattr(torch, dtype)
    # PyTorch's own initial weights, which transformers' replace, would take as long again.
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    model.to_empty(device="cuda" if torch.cuda.is_available() else "cpu").init_weights()
    model.save_pretrained(folder)
    return folder


def run_all(cache: Path, clips: int, tokens: int, servers: list[int]) -> dict[str, dict[str, Any]]:
    """Each adapter's record, by its name."""
    from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
    from egost.tasks.clips.clips import build_clips
    from egost.tasks.clips.protocols import parse_protocol
    from egost.tasks.mini_world import write_mini_release

    write_mini_release(cache / "mini", clips=clips, seed=1, progress=False)
    build_clips(
        sorted((cache / "mini").rglob("*.mp4")), parse_protocol("uniform8"), cache=cache, progress=False
    )
    checkpoint = tiny_checkpoint(cache / "checkpoints" / "tiny")
    environment = {**os.environ, **QUIET, "EGOST_CACHE": str(cache), "HF_HOME": str(cache / "hf")}
    room = f"{FOR_VLLM},max_model_len=2048"
    # Without it lmms-eval's qwen2_vl would enlarge the mini world's frames sixteenfold.
    pixels = "min_pixels=3136,max_pixels=602112"
    # lmms-eval's vllm takes the greater of its own room for a reply and the request's.
    stock_vllm = f"model={checkpoint},{room},block_size=32,max_frame_num=8,nframes=8,max_new_tokens={tokens}"
    adapters = {
        "qwen2_vl": ("qwen2_vl", f"pretrained={checkpoint},device_map=cpu,max_num_frames=8,{pixels}", "1"),
        "vllm": ("vllm", stock_vllm, "1000"),
        "vllm_generate": ("vllm_generate", stock_vllm, "1000"),
        "egost_vllm": ("egost_vllm", f"model={checkpoint},{room},fresh=True", "1"),
        "egost_vllm, no prefix cache": (
            "egost_vllm",
            f"model={checkpoint},{room},fresh=True,prefix_caching=False",
            "1",
        ),
    }
    alone = environment | IN_PROCESS
    records = {name: in_own_process(alone, *what, str(tokens)) for name, what in adapters.items()}
    write_mini_release(cache / "few", clips=LARGE_CLIPS, seed=1, progress=False)
    large = large_checkpoint(checkpoint, cache / "checkpoints" / "large")
    records[LARGE] = in_own_process(
        {**alone, "EGOST_MINI_DATA": str(cache / "few")},
        "egost_vllm",
        f"model={large},dtype=bfloat16,enforce_eager=True,max_model_len=2048,fresh=True",
        "1",
        str(tokens),
    )
    shutil.rmtree(large)
    for number in servers:
        with served(checkpoint, environment, number) as urls:
            model_args = f"base_url={';'.join(urls)},fresh=True"
            records[f"egost_server, {number}"] = in_own_process(
                environment, "egost_server", model_args, "1", str(tokens)
            )
    said = {name: record.pop("replies") for name, record in records.items()}
    for name in records.keys() - {LARGE}:
        records[name]["same"] = sum(map(str.__eq__, said[name], said["qwen2_vl"])) / len(said["qwen2_vl"])
    return records


def report(records: dict[str, dict[str, Any]]) -> None:
    """Print the records, and how they stand to what is aimed at."""
    from rich.console import Console
    from rich.table import Table

    rivals = ("qwen2_vl", "vllm", "vllm_generate")
    table = Table(
        *("adapter", "samples", "s", "CPU s", "samples a CPU s", *(f"times {rival}" for rival in rivals)),
        *("outside", "from prefix cache", "replies of qwen2_vl"),
    )
    rate = {name: record["samples"] / record["cpu_s"] for name, record in records.items()}
    for name, record in records.items():
        shares = [f"{record[key]:.1%}" if key in record else "-" for key in ("outside", "cached", "same")]
        unseen = name == LARGE or "server" in name
        ratios = ["-" if unseen else f"{rate[name] / rate[rival]:.2f}" for rival in rivals]
        spent = (f"{record['seconds']:.1f}", f"{record['cpu_s']:.1f}", f"{rate[name]:.1f}")
        table.add_row(name, str(record["samples"]), *spent, *ratios, *shares)
    console = Console(width=140)
    console.print(table)
    aims = {
        f"egost_vllm at least {LEAST_OVER_TRANSFORMERS} x qwen2_vl": rate["egost_vllm"] / rate["qwen2_vl"]
        >= LEAST_OVER_TRANSFORMERS,
        f"egost_vllm at least {LEAST_OVER_VLLM} x vllm": rate["egost_vllm"] / rate["vllm"] >= LEAST_OVER_VLLM,
        **{
            f"{name} at most {MOST_OUTSIDE:.0%} outside the model": records[name]["outside"] <= MOST_OUTSIDE
            for name in ("egost_vllm", LARGE)
        },
    }
    for aim, reached in aims.items():
        console.print(f"{'reached' if reached else 'MISSED '} {aim}")


if __name__ == "__main__":
    main()
