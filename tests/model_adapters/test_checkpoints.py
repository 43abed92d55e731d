"""Which weights a name stands for: folders, the hub's cache, and what is missing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from egost.model_adapters.checkpoints import checkpoint_identity
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.model_names import MINI_BASE

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(MINI_BASE, tmp_path_factory.mktemp("checkpoints") / "walker")


@pytest.fixture
def hub(tmp_path: Path, walker: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache as `hf download` leaves it: one snapshot, which `main` points to."""
    from huggingface_hub import constants

    root = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    model = root / "models--someone--walker"
    shutil.copytree(walker, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return model


def test_a_folder_is_known_by_all_that_a_reply_depends_on(walker: Path, tmp_path: Path) -> None:
    first = checkpoint_identity(walker)
    assert (first.name, first.model_type, first.folder) == ("walker", "qwen2_vl", walker)
    assert first.revision.startswith("sha256:")
    other = shutil.copytree(walker, tmp_path / "copy")
    (other / "README.md").write_text("read me")
    (other / "optimizer.pt").write_text("moments")
    assert checkpoint_identity(other).revision == first.revision
    for changed in ("model.safetensors", "chat_template.jinja", "tokenizer.json", "generation_config.json"):
        before = checkpoint_identity(other).revision
        content = (other / changed).read_bytes()
        (other / changed).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert checkpoint_identity(other).revision != before, changed


def test_a_hash_is_remembered_between_processes(
    walker: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egost.tasks.file_hashes._known", {})
    revision = checkpoint_identity(walker).revision
    [memo] = [
        path
        for path in (own_cache / "checkpoints" / "sources").iterdir()
        if "model.safetensors" in path.read_text()
    ]
    known = json.loads(memo.read_text())
    memo.write_text(json.dumps({**known, "sha256": "0" * 64}))
    monkeypatch.setattr("egost.tasks.file_hashes._known", {})
    assert checkpoint_identity(walker).revision != revision


def test_a_hub_id_is_known_by_its_commit(hub: Path) -> None:
    for revision in (None, "main", COMMIT):
        found = checkpoint_identity("someone/walker", revision)
        assert (found.name, found.revision) == ("someone/walker", COMMIT)
        assert found.folder == hub / "snapshots" / COMMIT


def test_what_is_not_in_the_hub_cache_is_said_with_the_command_that_gets_it(hub: Path) -> None:
    with pytest.raises(AdapterError, match=r"run: hf download someone/runner$"):
        checkpoint_identity("someone/runner")
    with pytest.raises(AdapterError, match=r"hf download someone/walker --revision v2$"):
        checkpoint_identity("someone/walker", "v2")
    with pytest.raises(AdapterError, match=r"no folder 'a/b/c'"):
        checkpoint_identity("a/b/c")


def test_half_a_download_is_no_checkpoint(hub: Path) -> None:
    weights = hub / "snapshots" / COMMIT / "model.safetensors"
    weights.unlink()
    with pytest.raises(AdapterError, match="no weights at all"):
        checkpoint_identity("someone/walker")
    shard = "model-00002-of-00002.safetensors"
    weights.with_name("model-00001-of-00002.safetensors").write_bytes(b"x")
    weights.with_name("model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(AdapterError, match=shard):
        checkpoint_identity("someone/walker")


def test_what_is_no_checkpoint_says_so(tmp_path: Path, walker: Path) -> None:
    with pytest.raises(AdapterError, match=r"no config\.json"):
        checkpoint_identity(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(AdapterError, match="merge it into its base model"):
        checkpoint_identity(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(AdapterError, match="no model's config"):
        checkpoint_identity(tmp_path)
    with pytest.raises(AdapterError, match="has no revision 'main'"):
        checkpoint_identity(walker, "main")
    relative = os.path.relpath(walker)
    assert checkpoint_identity(relative).name == "walker"
