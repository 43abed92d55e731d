from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.errors import CacheError


def test_it_is_made_once_and_whole(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    stamp = folder.stat().st_mtime_ns
    assert tiny_checkpoint(tmp_path / "tiny") == folder and folder.stat().st_mtime_ns == stamp
    assert not list(tmp_path.glob("*.part*"))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CacheError, match="it holds other files"):
        tiny_checkpoint(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blocked").touch()
    with pytest.raises(
        CacheError, match=r"blocked cannot be written: a file is in the place of its folder\. Name"
    ):
        tiny_checkpoint(tmp_path / "blocked")
    assert [path.name for path in tmp_path.glob("*.part*")] == []
    monkeypatch.setenv("EGOST_CACHE", str(tmp_path / "blocked"))
    with pytest.raises(CacheError, match=r"a file is in the place .* set EGOST_CACHE to another folder"):
        tiny_checkpoint()


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk]).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(CacheError, match=r"cannot be written: the disk is full\. Free some space"):
            tiny_checkpoint(disk / "tiny")
        assert not list(disk.glob("tiny*/*")), "nothing half is left"
    finally:
        subprocess.run(["umount", disk], check=True)
