from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from egost.tasks.errors import CacheError, ReleaseError
from egost.tasks.release.archives import unpack


def tar_with(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix != ".tar" else "w") as handle:
        for info, content in members:
            info.size = len(content)
            handle.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["part1.zip", "part1.tar", "part1.tar.gz", "part1.tgz"])
def test_unpacks_below_the_archives_name(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w") as handle:
            handle.writestr("deep/128.mp4", b"frames")
    else:
        tar_with(archive, (tarfile.TarInfo("deep/128.mp4"), b"frames"))
    folder = unpack(archive, tmp_path / "out")
    assert (folder / "part1" / "deep" / "128.mp4").read_bytes() == b"frames"
    (folder / "part1" / "deep" / "128.mp4").write_bytes(b"kept")
    assert unpack(archive, tmp_path / "out") == folder
    assert (folder / "part1" / "deep" / "128.mp4").read_bytes() == b"kept", "it was unpacked twice"


@pytest.mark.parametrize("evil", ["../evil.mp4", "/tmp/evil.mp4", "a/../../evil.mp4", "..\\evil.mp4"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_leaves_the_folder(tmp_path: Path, evil: str, kind: str) -> None:
    archive = tmp_path / f"clips.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as handle:
            handle.writestr("good.mp4", b"x")
            handle.writestr(evil, b"x")
    else:
        tar_with(archive, (tarfile.TarInfo("good.mp4"), b"x"), (tarfile.TarInfo(evil), b"x"))
    with pytest.raises(ReleaseError, match="outside of its folder"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.mp4")) and not list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("link.mp4")
    link.type, link.linkname = kind, "/etc/passwd"
    with pytest.raises(ReleaseError, match="link or a device"):
        unpack(tar_with(tmp_path / "clips.tar", (link, b"")), tmp_path / "out")


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.mp4")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as handle:
        handle.writestr(info, "/etc/passwd")
    with pytest.raises(ReleaseError, match="link or a device"):
        unpack(tmp_path / "clips.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["clips.zip", "clips.tar.gz", "clips.tar"])
def test_half_an_archive(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    content = bytes(range(256)) * 4000
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w") as handle:
            handle.writestr("1.mp4", content)
    else:
        tar_with(archive, (tarfile.TarInfo("1.mp4"), content))
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ReleaseError, match="no complete archive"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.mp4"))


def test_a_target_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_CACHE", str(tmp_path / "out"))
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as handle:
        handle.writestr("1.mp4", b"x")
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(CacheError, match="EGOST_CACHE"):
        unpack(tmp_path / "clips.zip", tmp_path / "out")
