"""Weights to a server on GPUs: the calls of TRL's NCCL client and of vLLM's ipc engine, in their order, over real HTTP.

No GPU is here: NCCL's and the GPU's own part are replaced, the programs around them and the interface are real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from video_runs import World, make_trainer

from egost.model_adapters.engine import AdapterError
from egost.training.group_sampling import ServerSampler
from egost.training.handed_weights import TrainedWeights

SAYS = {
    "/version": {"version": "0.32.0"},
    "/server_info": {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}}},
    "/get_world_size": {"world_size": 2},
    "/reset_prefix_cache": {"success": True},
}
ENDS = [("POST", "/reset_prefix_cache"), ("POST", "/reset_encoder_cache"), ("POST", "/update_weight_version")]


@contextmanager
def recording(way: str, calls: list[tuple[str, str, Any]]) -> Iterator[str]:
    """The URL of a server that takes weights and writes down what it is asked."""
    cards = [
        {"id": name, "root": name, "parent": None}
        for name in ("tiny", f"egost?family=qwen2_vl&rollouts={way}")
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
            calls.append((self.command, path, json.loads(sent) if sent else None))
            said = json.dumps({"data": cards} if path == "/v1/models" else SAYS.get(path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def weights(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainedWeights:
    import torch
    from accelerate import Accelerator

    trainer = make_trainer(world, tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Accelerator, "device", torch.device("cuda"))
    return TrainedWeights(trainer)


def sampler_of(url: str, calls: list[Any]) -> ServerSampler:
    made = ServerSampler(url, 360 * 420, wait_s=1.0, group_port=4321)
    calls.clear()
    return made


def test_the_calls_of_nccl_come_in_order(weights: TrainedWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.generation import vllm_client

    joined: list[dict[str, Any]] = []
    sent: list[list[str]] = []
    monkeypatch.setattr(vllm_client, "open_trainer_endpoint", lambda info: joined.append(info) or object())
    monkeypatch.setattr(
        vllm_client,
        "packed_nccl_broadcast_producer",
        lambda iterator, **_: sent.append([name for name, _ in iterator]),
    )
    monkeypatch.setattr(vllm_client.VLLMClient, "close_communicator", lambda _: None)
    calls: list[tuple[str, str, Any]] = []
    with recording("nccl", calls) as url:
        sampler = sampler_of(url, calls)
        for step in (1, 2):
            sampler.take_weights(weights, f"step {step}")
    once = [("GET", "/health"), ("GET", "/v1/models"), ("GET", "/server_info"), ("GET", "/get_world_size")]
    each = [
        ("POST", f"/{name}") for name in ("start_weight_update", "update_weights", "finish_weight_update")
    ]
    assert [call[:2] for call in calls] == [
        *once,
        ("POST", "/init_weight_transfer_engine"),
        *each,
        *ENDS,
        *each,
        *ENDS,
    ]
    # The two workers of the server and the trainer, which is the first of the three.
    assert len(joined) == 1
    assert {"master_port": 4321, "rank_offset": 1, "world_size": 3}.items() <= joined[0].items()
    announced = [body["update_info"] for _, path, body in calls if path == "/update_weights"]
    names = [name for name, _ in weights]
    assert [told["names"] for told in announced] == [names, names] == sent
    assert set(announced[0]["dtype_names"]) == {"float32"}
    assert announced[0]["shapes"] == [list(weight.shape) for _, weight in weights]
    assert [b["new_version"] for _, path, b in calls if path == ENDS[-1][1]] == ["step 1", "step 2"]


def test_the_calls_of_ipc_come_in_order(weights: TrainedWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from vllm.distributed.weight_transfer import ipc_engine

    def one_chunk(iterator: Iterator[tuple[str, Any]], **_: Any) -> Iterator[Any]:
        names = [name for name, _ in iterator]
        sizes = [0] * len(names)
        yield SimpleNamespace(
            names=names,
            dtype_names=["float32"] * len(names),
            shapes=[[1]] * len(names),
            tensor_sizes=sizes,
            ipc_handle={},
        )

    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="gpu"))
    monkeypatch.setattr(torch.cuda, "ipc_collect", lambda: None)
    monkeypatch.setattr(ipc_engine, "packed_ipc_producer", one_chunk)
    calls: list[tuple[str, str, Any]] = []
    with recording("ipc", calls) as url:
        sampler = sampler_of(url, calls)
        for step in (1, 2):
            sampler.take_weights(weights, f"step {step}")
    each = [
        ("POST", f"/{name}") for name in ("start_weight_update", "update_weights", "finish_weight_update")
    ]
    assert [call[:2] for call in calls] == [
        ("POST", "/init_weight_transfer_engine"),
        *each,
        *ENDS,
        *each,
        *ENDS,
    ]
    assert calls[0][2] == {"init_info": {"packed": True}}
    assert calls[2][2]["update_info"]["names"] == [name for name, _ in weights]


def test_what_nccl_refuses_is_named(weights: TrainedWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAYS, "/server_info", {"vllm_config": {"weight_transfer_config": None}})
    calls: list[tuple[str, str, Any]] = []
    with (
        recording("nccl", calls) as url,
        pytest.raises(AdapterError, match=r"of step 1 by nccl \(.*no weight-transfer"),
    ):
        sampler_of(url, calls).take_weights(weights, "step 1")
