"""`egost serve`: which command starts vLLM, how GPUs are shared out, and a server process from start to end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.server.serve import (
    Parallel,
    evaluate_command,
    plan_server,
    serve_command,
    serve_environment,
    share_gpus,
    train_flags,
)
from egost.model_adapters.server.server_api import advertised_settings, as_served_name
from egost.model_adapters.server.server_process import ServerProcess, check_port
from egost.tasks.clips.protocols import N_FRAMES

FOLDER_CONFIG = '{"model_type": "qwen2_5_vl", "max_position_embeddings": 4000}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a checkpoint: nothing is loaded to plan a server."""
    made = tmp_path / "my-model"
    made.mkdir()
    (made / "config.json").write_text(FOLDER_CONFIG)
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def value(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize(
    ("needed", "gpus", "tensor", "pipeline", "data", "expected"),
    [
        (1, None, None, None, None, Parallel(1, 1, 1)),
        (1, 8, None, None, None, Parallel(1, 1, 8)),
        (4, None, None, None, None, Parallel(4, 1, 1)),
        (4, 8, None, None, None, Parallel(4, 1, 2)),
        (4, 8, 8, None, None, Parallel(8, 1, 1)),
        (4, 16, 8, 2, None, Parallel(8, 2, 1)),
        (4, 2, 2, None, None, Parallel(2, 1, 1)),
        (1, None, None, None, 2, Parallel(1, 1, 2)),
        (4, 8, None, None, 2, Parallel(4, 1, 2)),
    ],
)
def test_how_gpus_are_shared_out(
    needed: int,
    gpus: int | None,
    tensor: int | None,
    pipeline: int | None,
    data: int | None,
    expected: Parallel,
) -> None:
    assert share_gpus("m", needed, gpus, tensor, pipeline, data) == expected


@pytest.mark.parametrize(
    ("gpus", "tensor", "data", "message"),
    [
        (2, None, None, "needs about 4 GPUs"),
        (6, None, None, "6 GPUs cannot be shared out as 1 copies of m on 4"),
        (8, 3, None, "8 GPUs cannot be shared out as 2 copies of m on 3"),
        (4, None, 2, "4 are given for 2"),
        (8, 2, 3, "8 GPUs cannot"),
    ],
)
def test_gpus_that_do_not_add_up(gpus: int, tensor: int | None, data: int | None, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        share_gpus("m", 4, gpus, tensor, None, data)


def test_a_server_for_another_number_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_PROTOCOL", "uniform32+cap602112p32")
    plan = plan_server("qwen3-vl-8b", gpus=1)
    command = serve_command(plan)
    assert json.loads(value(command, "--media-io-kwargs")) == {"video": {"num_frames": 32, "fps": 1}}
    assert json.loads(value(command, "--limit-mm-per-prompt"))["video"]["num_frames"] == 32
    size = json.loads(value(command, "--mm-processor-kwargs"))["videos_kwargs"]["size"]
    # 768 patches of 32 x 32 for each of 32 frames; the lower limit stays that of 8 frames, 4 patches each.
    assert size == {"shortest_edge": 4 * 1024 * 8, "longest_edge": 768 * 1024 * 32}
    assert int(value(command, "--max-model-len")) == 8192 + 24 * 384
    assert "EGOST_PROTOCOL=uniform32+cap602112p32" in evaluate_command(plan)


def test_the_command_for_a_known_model() -> None:
    plan = plan_server("qwen2.5-vl-7b", gpus=2, port=8123)
    command = serve_command(plan)
    assert "Qwen/Qwen2.5-VL-7B-Instruct" in command
    assert re.fullmatch("[0-9a-f]{40}", value(command, "--revision"))
    assert value(command, "--data-parallel-size") == "2" and "--tensor-parallel-size" not in command
    video = json.loads(value(command, "--limit-mm-per-prompt"))["video"]
    assert (video["count"], video["num_frames"]) == (1, N_FRAMES)
    assert json.loads(value(command, "--media-io-kwargs")) == {"video": {"num_frames": 8, "fps": 1}}
    assert "do_sample_frames" in json.loads(value(command, "--mm-processor-kwargs"))["videos_kwargs"]
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(command)
    place = command.index("--served-model-name")
    assert command[place + 1] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert advertised_settings(command[place + 1 : place + 3]) == {
        "family": "qwen2_5_vl",
        "dtype": "auto",
        "revision": value(command, "--revision"),
    }
    assert "base_url=http://127.0.0.1:8123,concurrency=64 " in evaluate_command(plan)
    alone = evaluate_command(plan_server("qwen2.5-vl-7b"))
    assert "base_url=http://127.0.0.1:8000 " in alone


def test_what_fits_the_model_stands_in_the_next_command() -> None:
    said = evaluate_command(plan_server("st-r1", host="0.0.0.0"))
    assert said.startswith("EGOST_PROMPT=think EGOST_PROTOCOL=uniform8+cap")
    assert f"base_url=http://{socket.gethostname()}:8000" in said


def test_the_command_for_a_folder(folder: Path, own_cache: Path) -> None:
    command = serve_command(plan_server(str(folder), extra=["--quantization", "awq", "--kv-cache-dtype=fp8"]))
    told = advertised_settings(command)
    assert told is not None and told.pop("revision").startswith("sha256:")
    assert told == {"family": "qwen2_5_vl", "dtype": "auto", "quantization": "awq", "kv-cache-dtype": "fp8"}
    assert value(command, "--served-model-name") == "my-model" and "--revision" not in command
    assert value(command, "--max-model-len") == "4000", "no longer than the model's own"
    assert value(command, "--allowed-local-media-path") == str(own_cache / "clips")
    assert command[-3:] == ["--quantization", "awq", "--kv-cache-dtype=fp8"]


def told_of(folder: Path, *extra: str) -> dict[str, str]:
    told = advertised_settings(serve_command(plan_server(str(folder), extra=extra)))
    assert told is not None
    return {name: value for name, value in told.items() if name not in ("family", "dtype", "revision")}


def test_whatever_may_change_a_reply_is_told(folder: Path, tmp_path: Path, own_cache: Path) -> None:
    faster = ("--max_num_seqs", "4", "--gpu-memory-utilization=0.5", "--enforce-eager")
    assert told_of(folder, *faster, "--reasoning_parser", "qwen3") == {"reasoning-parser": "qwen3"}
    template = tmp_path / "chat.jinja"
    told = []
    for content in ("one", "another"):
        template.write_text(content)
        told.append(told_of(folder, "--chat-template", str(template)))
    assert told[0] != told[1] and told[0]["chat-template"].startswith(f"{template} sha256:")


def test_a_server_for_rollouts(folder: Path) -> None:
    plan = plan_server(str(folder), port=8123, rollouts=True)
    command = serve_command(plan)
    assert (
        value(command, "--logprobs-mode") == "processed_logprobs" and "--trust-request-mm-kwargs" in command
    )
    assert serve_environment(plan)["VLLM_SERVER_DEV_MODE"] == "1"
    told = advertised_settings(command)
    assert told is not None and told["rollouts"] == "nccl"
    assert value(command, "--weight-transfer-config") == '{"backend": "nccl"}'
    assert "VLLM_ALLOW_INSECURE_SERIALIZATION" not in serve_environment(plan)
    shared = plan_server(str(folder), rollouts=True, weights="ipc")
    assert value(serve_command(shared), "--weight-transfer-config") == '{"backend": "ipc"}'
    assert serve_environment(shared)["VLLM_ALLOW_INSECURE_SERIALIZATION"] == "1"
    by_disk = serve_command(plan_server(str(folder), rollouts=True, weights="folder"))
    assert "--weight-transfer-config" not in by_disk
    assert (advertised_settings(by_disk) or {})["rollouts"] == "folder"
    flags = "--use_vllm true --vllm_mode server --vllm_server_base_url http://127.0.0.1:8123"
    assert train_flags(plan) == flags
    with pytest.raises(AdapterError, match="--logprobs-mode cannot be given after"):
        plan_server(str(folder), rollouts=True, extra=["--logprobs-mode", "raw_logits"])
    open_to_all = CliRunner().invoke(
        app, ["serve", str(folder), "--rollouts", "--host", "0.0.0.0", "--dry-run"]
    )
    assert "can replace its weights" in open_to_all.output
    assert "then: egost train grpo CONFIG --use_vllm true" in open_to_all.output
    plain = plan_server(str(folder), extra=["--logprobs-mode", "raw_logits"])
    assert "VLLM_SERVER_DEV_MODE" not in serve_environment(plain)


def test_told_settings_come_back_as_they_were() -> None:
    settings = {"revision": "sha256:ab&=?", "dtype": "auto"}
    assert advertised_settings(["name", as_served_name(settings)]) == settings
    assert advertised_settings(["name"]) is None


@pytest.mark.parametrize("name", ["mini-base", "mini-st-r1", "tiny"])
def test_a_checkpoint_of_the_package_is_served_from_its_folder(name: str) -> None:
    plan = plan_server(name)
    assert (Path(plan.source) / "model.safetensors").is_file() and plan.model_type == "qwen2_vl"
    assert plan.revision and plan.revision.startswith("sha256:")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("qwen2.5-vl-7x", "Did you mean qwen2.5-vl-7b"),
        ("some/where", "no checkpoint 'some/where'.*hf download"),
        ("gemini-1.5-pro", r"cannot be served \(retired\)"),
        ("gpt-4o", r"cannot be served \(api\)"),
    ],
)
def test_a_model_that_cannot_be_served(model: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        plan_server(model)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--api-key", "secret"], "VLLM_API_KEY"),
        (["--api-key=secret"], "VLLM_API_KEY"),
        (["--api_key=secret"], "VLLM_API_KEY"),
        (["--hf-token", "secret"], "HF_TOKEN"),
        (["--lora-modules", "a=folder"], "Merge it into the base model"),
        (["--max-model-len=9"], "--max-model-len cannot be given after"),
        (["--max_model_len", "9"], "--max-model-len cannot be given after"),
        (["-tp", "2"], "-tp cannot be given after"),
        (["--media-io-kwargs", "{}"], "--media-io-kwargs cannot be given after"),
    ],
)
def test_arguments_that_cannot_be_handed_on(extra: list[str], message: str) -> None:
    with pytest.raises(AdapterError, match=message) as refused:
        plan_server("qwen2-vl-7b", extra=extra)
    assert "secret" not in str(refused.value)


def test_the_dry_run_prints_what_a_shell_understands(folder: Path) -> None:
    done = CliRunner().invoke(app, ["serve", str(folder), "--dry-run", "--port", "8001", "--", "--seed", "3"])
    assert done.exit_code == 0
    read = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {done.stdout}"], capture_output=True, text=True, check=True
    )
    plan = plan_server(str(folder), port=8001, extra=["--seed", "3"])
    assert read.stdout.split("\0")[:-1] == serve_command(plan)
    assert (
        "then: EGOST_PROTOCOL=uniform8+cap602112 lmms-eval --tasks egost --model egost_server" in done.stderr
    )


SERVER = """
import http.server, subprocess, sys
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
print("(APIServer pid=1) INFO 01-01 00:00:00 [a.py:1] Loading weights took 1 seconds", flush=True)
print("noise", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def running(code: str, tmp_path: Path, said: list[str], port: int) -> ServerProcess:
    return ServerProcess(
        [sys.executable, "-c", code, str(port)],
        f"http://127.0.0.1:{port}",
        tmp_path / "a" / "log",
        said.append,
    )


def gone(group: int) -> bool:
    """Whether a process group ends within seconds: who is killed lives on until it was waited for."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_server_is_watched_and_ended_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egost.model_adapters.server import server_process

    monkeypatch.setattr(server_process, "_STOP_S", 0.5)
    said: list[str] = []
    port = free_port()
    with running(SERVER, tmp_path, said, port) as server:
        assert server.wait_until_healthy(30) < 30
        with pytest.raises(AdapterError, match=f"no server can listen at 127.0.0.1:{port}"):
            check_port("127.0.0.1", port)
    assert gone(server.pid), "a child that takes no SIGTERM is left"
    check_port("127.0.0.1", port)
    assert said == ["[a.py:1] Loading weights took 1 seconds"]
    assert (tmp_path / "a" / "log").read_text().endswith("noise\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise SystemExit('torch.OutOfMemoryError: CUDA out of memory')",
            r"exit status 1\). Memory ran out",
        ),
        ("raise OSError(98, 'Address already in use')", "choose another with --port"),
        ("raise SystemExit('server.py: error: unrecognized arguments: --x')", "vLLM refuses an argument"),
        ("print('all well')", r"exit status 0\)(.|\n)*all well"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
)
def test_a_server_that_ends_while_it_starts(tmp_path: Path, code: str, message: str) -> None:
    with (
        running(code, tmp_path, [], free_port()) as server,
        pytest.raises(AdapterError, match=f"ended before it was healthy (.|\n)*{message}"),
    ):
        server.wait_until_healthy(30)


WATCHER = """
import signal, sys
from pathlib import Path
from egost.model_adapters.server.server_process import ServerProcess, end_like_ctrl_c
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup, which ignores it
end_like_ctrl_c()
code, port, log = sys.argv[1:]
with ServerProcess([sys.executable, "-c", code, port], f"http://127.0.0.1:{port}", Path(log), print) as server:
    server.wait_until_healthy(30)
    print("pid", server.pid, flush=True)
    server.wait()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_closed_terminal_ends_the_server_too(tmp_path: Path, number: int, code: int) -> None:
    quick = SERVER.replace("SIG_IGN", "SIG_DFL")
    command = [sys.executable, "-c", WATCHER, quick, str(free_port()), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        pid = next(int(line.split()[1]) for line in watcher.stdout if line.startswith("pid "))
        watcher.send_signal(number)
        assert watcher.wait(60) == code
    assert gone(pid)


def test_a_server_that_dies_while_it_serves(tmp_path: Path) -> None:
    with running(SERVER, tmp_path, [], free_port()) as server:
        server.wait_until_healthy(30)
        os.kill(server.pid, 9)
        with pytest.raises(AdapterError, match=r"ended while it was serving \(killed by SIGKILL\)"):
            server.wait()
    assert gone(server.pid)


def test_a_server_that_takes_too_long(tmp_path: Path) -> None:
    with (
        running("import time; time.sleep(60)", tmp_path, [], free_port()) as server,
        pytest.raises(AdapterError, match="not healthy after 1 s and is stopped"),
    ):
        server.wait_until_healthy(1)


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    missing = ServerProcess([str(tmp_path / "vllm")], "http://127.0.0.1:1", tmp_path / "log", print)
    with pytest.raises(AdapterError, match=r"cannot be started .*Install vLLM"), missing:
        pass


def test_without_vllm_nothing_is_started(folder: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is here")
    done = CliRunner().invoke(app, ["serve", str(folder), "--port", str(free_port())])
    assert done.exit_code == 2 and "vLLM is not installed in this environment" in done.stderr
