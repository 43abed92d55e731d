"""What is known of a server before it is asked: whether it is up, which model it serves, how that was trained."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chat_server import run_chat, serve_chat
from server_engines import engine

from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.tasks.release.trained_on import noted_manifests


def test_no_server_is_up() -> None:
    with run_chat() as running:
        running.kill()
        with pytest.raises(
            AdapterError, match=rf"no server is up at {running.server.url}.*egost serve MODEL"
        ):
            engine(running.server.url)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"names": ("tiny", "egost?dtype=bfloat16")}, "bfloat16"),
        ({"names": ("large",)}, "large"),
        ({"version": "0.33.0"}, r"0\.33\.0"),
        ({"names": ("tiny",), "root": "another/tiny"}, "another/tiny"),
    ],
)
def test_servers_of_different_models_are_refused(other: dict[str, Any], found: str) -> None:
    same = {"names": ("tiny",)} if "root" in other else {}
    with (
        serve_chat(**same) as one,
        serve_chat(**other) as two,
        pytest.raises(AdapterError, match=f"{found}.*must serve the same model"),
    ):
        engine(one.url, two.url)


def test_a_wrong_model_name_is_refused_with_the_names_served() -> None:
    with serve_chat() as server, pytest.raises(AdapterError, match="'huge'; it serves: tiny"):
        engine(server.url, model="huge")


def test_a_page_that_is_no_such_server(tmp_path: Path) -> None:
    with (
        serve_chat() as server,
        pytest.raises(AdapterError, match="does not speak the chat-completions interface"),
    ):
        engine(server.url + "/elsewhere")
    with pytest.raises(AdapterError, match="is no URL of a server"):
        engine("not a url")


def test_what_is_recorded_of_a_server() -> None:
    with serve_chat() as server, closing(engine(server.url)) as made:
        identity = made.identity
    assert (identity.engine, identity.model, identity.revision) == ("server vllm 0.32.0", "tiny", "abc")
    assert identity.settings == {"dtype": "float32", "family": "qwen2_vl", "told": True}


def test_a_server_that_tells_nothing_has_no_revision(said: list[str]) -> None:
    with serve_chat(names=("tiny",), version=None) as server, closing(engine(server.url)) as made:
        identity = made.identity
    assert (identity.engine, identity.revision) == ("server", None)
    assert identity.settings == {"told": False, "family": None, "root": "some/tiny"}
    unknown = ("the revision of tiny that is served", "the family of tiny")
    assert all(any(f"{what} is not known" in line for line in said) for what in unknown)


def test_a_served_folder_of_this_disk_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with serve_chat(names=("tiny",), root=str(tmp_path)) as server, closing(engine(server.url)) as made:
        assert str(made.identity.revision).startswith("sha256:")
        list(made.answer([Ask("mini/x", "without a clip", None, GenerationArguments(1))]))
        [ask] = server.questions
    assert ask.body["messages"][0]["role"] == "system"


def test_what_a_server_serves_is_looked_up_for_its_training_rows(tmp_path: Path) -> None:
    from egost.model_adapters.adapter import EgostServer

    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    rows = [{"sample": "Part1/direction_forward/1", "clip_sha256": "0"}]
    manifest = {"world": "mini", "release_revision": "r", "rows": rows}
    (tmp_path / "egost_training.json").write_text(json.dumps(manifest))
    for where in ({"root": str(tmp_path)}, {"parent": str(tmp_path)}):
        with serve_chat(names=("tiny",), **where) as server:
            given = f"base_url={server.url}"
            EgostServer.create_from_arg_string(given).clean()
            assert [record.count for record in noted_manifests()] == [1], where
    with serve_chat(names=("tiny",)) as server:
        EgostServer.create_from_arg_string(f"base_url={server.url},model=tiny,checkpoint={tmp_path}").clean()
        assert [record.count for record in noted_manifests()] == [1], (
            "as egost run FOLDER --base-url passes it"
        )
    with serve_chat(names=("adapter",), parent="openinterx/ST-R1-mcq") as server:
        EgostServer.create_from_arg_string(f"base_url={server.url}").clean()
    assert [record.count for record in noted_manifests()] == [630]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("base_url=http://127.0.0.1:9,media=ftp", "media=ftp is not known"),
        ("base_url=http://127.0.0.1:9,concurrency=0", "must all be above 0"),
        ("base_url=;", "names no server"),
        ("base_url=http://127.0.0.1:9,bass_url=x", "does not know bass_url; its model_args are base_url"),
        ("model=x", "needs base_url"),
    ],
)
def test_wrong_model_args_end_with_one_message(arguments: str, message: str) -> None:
    from egost.model_adapters.adapter import EgostServer

    with pytest.raises(SystemExit, match=message):
        EgostServer.create_from_arg_string(arguments, {"batch_size": 1, "device": None})
