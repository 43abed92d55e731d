"""lmms-eval's own adapters with our journal: the same replies, kept one by one, their failures unscored."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from family_checkpoints import family_checkpoint
from lmms_eval_command import lmms_eval, saved
from scripted_engine import mini_requests
from tqdm import tqdm

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.mini_world import write_mini_release
from egost.tasks.release import release as release_module
from egost.tasks.scoring.generation_notes import noted_generation

if TYPE_CHECKING:
    from egost.model_adapters.adapter import EgostJournal

TASKS = ("landmark_forward", "direction_reverse")
ON_CPU = {"device": "cpu", "batch_size": 1}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini")
    write_mini_release(folder, clips=2, seed=3, progress=False)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(autouse=True)
def world(own_cache: Path, mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))
    release_module.open_release.cache_clear()


def texts(model: Any, **gen_kwargs: Any) -> list[str]:
    requests, task_dict = mini_requests(*TASKS, max_new_tokens=8, **gen_kwargs)
    model.task_dict.update(task_dict)
    return [reply if isinstance(reply, str) else reply.text for reply in model.generate_until(requests)]


def journaled(checkpoint: Path, adapter: str = "qwen2_vl", more: str = "", **host: Any) -> EgostJournal:
    from egost.model_adapters.adapter import EgostJournal

    arguments = f"adapter={adapter},pretrained={checkpoint},device_map=cpu{more}"
    made = EgostJournal.create_from_arg_string(arguments, {**ON_CPU, **host})
    assert isinstance(made, EgostJournal)
    return made


def stock(checkpoint: Path, adapter: str = "qwen2_vl") -> Any:
    from lmms_eval.models import get_model

    return get_model(adapter, force_simple=True).create_from_arg_string(
        f"pretrained={checkpoint},device_map=cpu", ON_CPU
    )


def records(cache: Path) -> int:
    with closing(sqlite3.connect(cache / "journal" / "responses.sqlite")) as db:
        [[n]] = db.execute("SELECT count(*) FROM replies")
    return int(n)


def test_the_replies_are_those_of_the_adapter_alone(checkpoint: Path, own_cache: Path) -> None:
    expected = texts(stock(checkpoint))
    assert len(set(expected)) > 1
    assert texts(journaled(checkpoint)) == expected
    assert records(own_cache) == len(expected)
    again = journaled(checkpoint)
    again._engine.adapter.generate_until = None
    assert texts(again) == expected, "all from the journal"
    requests, task_dict = mini_requests(TASKS[0])
    noted = noted_generation("mini", task_dict[requests[0].args[4]][TASKS[0]][0]["id"])
    assert noted and noted.journaled and noted.engine == "lmms-eval 0.7.3 qwen2_vl"
    assert noted.model == "tiny" and str(noted.revision).startswith("sha256:")
    assert noted.finish_reason == "unknown" and noted.truncated is None
    assert noted.settings["interface"] == "simple" and noted.settings["device_map"] == "cpu"
    assert "pretrained" not in noted.settings


def test_the_replies_are_those_of_a_chat_adapter_alone(mini: Path, tmp_path: Path) -> None:
    checkpoint = family_checkpoint("qwen2_5_vl", tmp_path)
    tasks = ["--tasks", "egost_mini_direction_forward", "--limit", "3", "--gen_kwargs", "max_new_tokens=24"]

    warned = []

    def replies(model: str, first: str) -> list[list[str]]:
        arguments = f"{first}device_map=cpu,pretrained={checkpoint}"
        done = lmms_eval(
            *[*tasks, "--model", model, "--model_args", arguments, "--device", "cpu"],
            *["--output_path", model, "--log_samples"],
            cwd=tmp_path,
            cache=tmp_path / "cache",
            EGOST_MINI_DATA=str(mini),
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        warned.append("clips have frames below 364 pixels" in done.stdout + done.stderr)
        _, samples = saved(tmp_path / model)
        return [row["filtered_resps"] for row in samples["egost_mini_direction_forward"]]

    expected = replies("qwen2_5_vl", "")
    assert len(expected) == 2 and len(set(map(str, expected))) > 1
    assert replies("egost_journal", "adapter=qwen2_5_vl,") == expected
    assert warned == [False, True], "the question stands elsewhere than the model was trained to have it"
    with closing(sqlite3.connect(tmp_path / "cache" / "journal" / "responses.sqlite")) as db:
        kept = [json.loads(record) for (record,) in db.execute("SELECT record FROM replies")]
    assert len(kept) == 2 and all(
        '"interface":"chat"' in json.dumps(one, separators=(",", ":")) for one in kept
    )


def test_one_request_out_of_memory_is_unscored_and_the_rest_of_its_batch_is_not(
    checkpoint: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = journaled(checkpoint, batch_size=3)
    adapter = model._engine.adapter
    generate = adapter.model.generate
    calls = iter(range(100))

    def failing(*args: Any, **kwargs: Any) -> Any:
        # The first batch, and then its second request alone.
        if next(calls) in (0, 2):
            raise torch.OutOfMemoryError("30 GiB were asked for")
        return generate(*args, **kwargs)

    monkeypatch.setattr(adapter.model, "generate", failing)
    replies = texts(model)
    failed = [text for text in replies if text.startswith("[GENERATION_FAILED]")]
    assert failed == ["[GENERATION_FAILED] out_of_memory: OutOfMemoryError: 30 GiB were asked for"]
    assert records(own_cache) == len(replies) - 1


def test_a_broken_gpu_stops_the_run(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = journaled(checkpoint)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(model._engine.adapter.model, "generate", broken)
    with pytest.raises(SystemExit, match="start the same command again"):
        texts(model)


def test_what_is_drawn_goes_on_as_it_would_have(checkpoint: Path, own_cache: Path) -> None:
    import torch

    drawn = {"temperature": 1.0, "do_sample": True}
    first = texts(journaled(checkpoint), **drawn)
    with closing(sqlite3.connect(own_cache / "journal" / "responses.sqlite")) as db:
        db.execute("DELETE FROM replies WHERE number > 3")
        db.commit()
    torch.manual_seed(99)
    assert texts(journaled(checkpoint), **drawn) == first
    assert texts(journaled(checkpoint, more=",seed=1"), **drawn) != first


def test_no_secret_and_no_path_of_the_checkpoint_is_journaled(checkpoint: Path, own_cache: Path) -> None:
    from egost.model_adapters.adapter import EgostJournal

    model = EgostJournal.create_from_arg_string(
        "adapter=dummy,response=B,api_key=sk-0123456789", {"batch_size": 1}
    )
    assert set(texts(model)) == {"B"}
    content = b"".join(path.read_bytes() for path in (own_cache / "journal").rglob("*") if path.is_file())
    assert b"sk-0123456789" not in content and b'"response":"B"' in content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pretrained=x", "EgostJournal needs adapter"),
        ("adapter=qwen2_vll,pretrained=x", "no adapter 'qwen2_vll' of its own (near: qwen2_vl"),
        ("adapter=egost_vllm,model=x", "have the journal already"),
        ("adapter=qwen2_vl,pretrained=/nowhere,device_map=cpu", "could not be built with"),
        ("adapter=qwen2_vl,modle=x,device_map=cpu", "modle"),
        ("adapter=dummy,batch_size=auto", "is no number"),
    ],
)
def test_wrong_model_args(arguments: str, message: str) -> None:
    from egost.model_adapters.adapter import EgostJournal

    with pytest.raises(SystemExit, match=re.escape(message)):
        EgostJournal.create_from_arg_string(arguments, {"device": "cpu"})


def test_bars_are_left_out_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    from egost.model_adapters.lmms_engine import _WithoutBars

    stream = _WithoutBars(sys.stderr)
    for _ in tqdm(range(3), file=stream):
        pass
    print("a warning", file=stream)
    print("another", file=stream)
    assert capsys.readouterr().err == "a warning\nanother\n"
