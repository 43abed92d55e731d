"""Archives of clips, broken and hostile: each is refused in one sentence, or all of it is unpacked."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack, drawn

from egost.tasks.release.archives import unpack
from egost.tasks.release.release import Release, release_in
from egost.tasks.sample import Sample

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": functools.partial(gzip.compress, mtime=0),
    "tgz": functools.partial(gzip.compress, mtime=0),
    "tar.xz": lzma.compress,
    "tar.bz2": bz2.compress,
}
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}
BROKEN = "is no complete archive .*egost data download"
NO_NAME = "which no file can be called"
OUTSIDE = "which would be written outside of its folder"
LINK = "which is a link or a device"
TWICE = "holds '.*' twice"
BOMB = r"has [\d,]+ bytes and becomes more than [\d,]+ .*EGOST_UNPACK_LIMIT"
FILM = bytes(range(251)) * 80

Files = list[tuple[str, bytes]]
FILES: Files = [("1.mp4", FILM), ("deep/2.mp4", FILM[::-1])]


def zipped(files: Files, method: int = zipfile.ZIP_STORED, **changes: Any) -> bytes:
    """A zip; `changes` are attributes of its last member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as handle:
        for place, (name, content) in enumerate(files):
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            if place == len(files) - 1:
                for attribute, value in changes.items():
                    setattr(info, attribute, value)
            handle.writestr(info, content)
    return buffer.getvalue()


def tarred(files: Files, format: int = tarfile.PAX_FORMAT, **changes: Any) -> bytes:
    """A tar; `changes` are attributes of its last member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as handle:
        for place, (name, content) in enumerate(files):
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), tarfile.DIRTYPE if name == "./" else tarfile.REGTYPE
            if place == len(files) - 1:
                for attribute, value in changes.items():
                    setattr(info, attribute, value)
            handle.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


def with_size(size: int) -> bytes:
    """A tar whose first member says that it has so many bytes; negative and huge ones in base 256."""
    content = bytearray(tarred(FILES))
    number = b"\x80" + size.to_bytes(11, "big") if size >= 0 else size.to_bytes(12, "big", signed=True)
    content[124:136] = number
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def patched(content: bytes, record: bytes, offset: int, value: bytes) -> bytes:
    """The archive with some bytes of its last such record replaced."""
    place = content.rindex(record) + offset
    return content[:place] + value + content[place + len(value) :]


def of(name: str, content: bytes, message: str | None = None, files: Files | None = None) -> Any:
    attack = Attack(name, lambda at: written(at / name, content), message)
    return pytest.param(attack, FILES if files is None else files)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def of_sound() -> Iterator[Any]:
    for kind, pack in PACKERS.items():
        yield of(f"part1.{kind}", pack(tarred(FILES)))
        yield of(f"part1.{kind}", pack(tarred([])), files=[])
        yield of(f"part1.{kind}", pack(tarred([("./", b""), ("./1.mp4", FILM)])), files=[("1.mp4", FILM)])
    for format in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        yield of("part1.tar", tarred(FILES, format))
    for method in METHODS.values():
        yield of("part1.zip", zipped(FILES, method))
    yield of("part1.zip", zipped([]), files=[])
    yield of("part1.zip", b"installer" * 99 + zipped(FILES))
    for name in ("Spa\u00df\u202f1.mp4", "e\u0301.mp4", "\U0001f600.mp4", "a" * 251 + ".mp4", " .mp4"):
        yield of("part1.zip", zipped([(name, FILM)]), files=[(name, FILM)])
        yield of("part1.tar.gz", gzip.compress(tarred([(name, FILM)])), files=[(name, FILM)])
    yield of("...zip", zipped(FILES))
    yield of("...tar", tarred(FILES))


def of_cuts() -> Iterator[Any]:
    whole = {f"part1.{kind}": pack(tarred(FILES)) for kind, pack in PACKERS.items()}
    whole |= {f"{name}.zip": zipped(FILES, method) for name, method in METHODS.items()}
    for name, content in whole.items():
        for share in (0.0, 0.1, 0.5, 0.9):
            if (name, share) != ("part1.tar", 0.9):  # which cuts nothing but padding
                yield of(name, content[: int(len(content) * share)], BROKEN)
    # Cut where a member ends: no reader of Python notices.
    content = tarred(FILES)
    for members in (1, 2):
        size = members * (512 + -(-len(FILM) // 512) * 512)
        for kind, pack in PACKERS.items():
            yield of(f"part1.{kind}", pack(content[:size]), BROKEN)
    yield of("part1.tar", tarred(FILES[:1]) + tarred(FILES[1:]), "something follows its end")
    for name, content in whole.items():
        if name != "part1.tar":
            yield of(name, content[:-9], BROKEN)


def of_damage() -> Iterator[Any]:
    for name, method in METHODS.items():
        content = bytearray(zipped(FILES, method))
        content[60:64] = b"\xff\xfe\xfd\xfc"
        yield of(f"{name}.zip", bytes(content), BROKEN)
    for kind, pack in PACKERS.items():
        if kind != "tar":
            content = bytearray(pack(tarred(FILES)))
            content[len(content) // 2] ^= 0xFF
            yield of(f"part1.{kind}", bytes(content), BROKEN)
    content = bytearray(gzip.compress(tarred(FILES)))
    content[-8] ^= 1
    yield of("checksum.tar.gz", bytes(content), BROKEN)
    content = bytearray(gzip.compress(tarred(FILES)))
    content[-1] ^= 1
    yield of("length.tar.gz", bytes(content), BROKEN)
    content = bytearray(tarred(FILES))
    content[512 + -(-len(FILM) // 512) * 512 + 3] ^= 0x55
    yield of("second_header.tar", bytes(content), BROKEN)
    for kind in ("zip", "tar", "tar.gz", "tar.xz"):
        for content in (
            b"",
            b"<html>404</html>",
            b"\0" * 99,
            b"PK\x03\x04",
            b"\x1f\x8b\x08",
            b"\xfd7zXZ\x00",
        ):
            yield of(f"part1.{kind}", bytes(content), BROKEN)
    yield of("part1.zip", tarred(FILES), BROKEN)
    yield of("part1.tar", zipped(FILES), BROKEN)
    yield of("part1.tar", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", BROKEN)
    central, end = b"PK\x01\x02", b"PK\x05\x06"
    content = zipped(FILES)
    yield of(
        "method.zip", patched(patched(content, central, 10, b"\x09\0"), b"PK\x03\x04", 8, b"\x09\0"), BROKEN
    )
    yield of("offset.zip", patched(content, central, 42, b"\xff\xff\xff\x7f"), BROKEN)
    yield of("directory.zip", patched(content, end, 16, b"\xff\xff\xff\x7f"), BROKEN)
    yield of("checksum.zip", patched(content, central, 16, b"\0\0\0\0"), BROKEN)
    yield of("shorter.zip", patched(content, central, 24, struct.pack("<I", 99)), BROKEN)
    yield of("longer.zip", patched(content, central, 20, struct.pack("<II", 90_000, 90_000)), BROKEN)
    yield of(
        "disk.zip", patched(content, end, 4, b"\x02\0\x02\0"), "is one part of an archive that was split"
    )
    yield of("first.zip", b"PK\x07\x08" + content, "is one part of an archive that was split")
    yield of("secret.zip", patched(content, central, 8, b"\x01\0"), "is encrypted")


def of_names() -> Iterator[Any]:
    for name, message in {
        "": NO_NAME,
        ".": NO_NAME,
        "a\nb.mp4": NO_NAME,
        "\x1b[2J.mp4": NO_NAME,
        "\u202e4pm.mp4": NO_NAME,
        "b" * 256 + ".mp4": NO_NAME,
        "../1.mp4": OUTSIDE,
        "a/../../1.mp4": OUTSIDE,
        "..": OUTSIDE,
        "/etc/1.mp4": OUTSIDE,
        "//1.mp4": OUTSIDE,
        "/": OUTSIDE,
        "1.mp4": TWICE,
        "./1.mp4": TWICE,
        ".//1.mp4": TWICE,
        "1.mp4/3.mp4": TWICE,
        "deep": TWICE,
    }.items():
        files = [*FILES, (name, FILM)]
        yield of("names.tar", tarred(files), message if name else NO_NAME)
        yield of("names.tar.gz", gzip.compress(tarred(files)), message)
        yield of("names.zip", zipped(files), message)
    yield of("windows.zip", zipped([("..\\1.mp4", FILM)]), OUTSIDE)
    yield of("windows.tar", tarred([("a\\1.mp4", FILM)]), OUTSIDE)
    yield of("latin.tar", tarred([("\udce9.mp4", FILM)]), NO_NAME)
    yield of("latin.tar", tarred([("\udce9.mp4", FILM)], tarfile.GNU_FORMAT), NO_NAME)
    utf8 = zipped([("\u00e9\u00e9.mp4", FILM)])
    yield of("utf8.zip", utf8.replace("\u00e9\u00e9".encode(), b"\xe9\xe9\xe9\xe9"), BROKEN)
    yield of("null.tar", tarred([("x", FILM)], pax_headers={"path": "a\0b.mp4"}), NO_NAME)


def of_kinds() -> Iterator[Any]:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE):
        yield of("kinds.tar", tarred([*FILES, ("3.mp4", b"")], type=kind, linkname="/etc/passwd"), LINK)
    for mode in (0o120777, 0o020666, 0o060666, 0o010666, 0o140666):
        yield of("kinds.zip", zipped([*FILES, ("3.mp4", b"/etc")], external_attr=mode << 16), LINK)
    yield of("kinds.zip", zipped([*FILES, ("folder", b"")], external_attr=0o040755 << 16))


def of_sizes() -> Iterator[Any]:
    yield of("negative.tar", with_size(-1), BROKEN)
    yield of("negative.tar", with_size(-512), BROKEN)
    yield of("negative.tar.gz", gzip.compress(with_size(-(1 << 40))), BROKEN)
    yield of("negative.tar", tarred(FILES, pax_headers={"size": "-1024"}), BROKEN)
    for size in (1 << 30, 1 << 40, 1 << 62, 1 << 80):
        yield of("huge.tar", with_size(size), f"{BOMB}|{BROKEN}")
        yield of("huge.tar.gz", gzip.compress(with_size(size)), f"{BOMB}|{BROKEN}")
    content = zipped(FILES)
    yield of("huge.zip", patched(content, b"PK\x01\x02", 24, struct.pack("<I", 0xFFFFFFF0)), BOMB)
    zeros = bytes(80 << 20)
    bomb = zipped([*FILES, ("3.mp4", zeros)], zipfile.ZIP_DEFLATED)
    yield of("bomb.zip", bomb, BOMB)
    # Its directory says that it is small.
    yield of("lying_bomb.zip", patched(bomb, b"PK\x01\x02", 24, struct.pack("<I", 99)), BROKEN)
    yield of("bomb.tar.gz", gzip.compress(tarred([*FILES, ("3.mp4", zeros)]), 1), BOMB)
    yield of("tail.tar.gz", gzip.compress(tarred(FILES), 1) + gzip.compress(zeros, 1), "something follows")
    pieces = [(f"{i}.mp4", bytes(1 << 20)) for i in range(70)]
    yield of("pieces.zip", zipped(pieces, zipfile.ZIP_DEFLATED), BOMB)
    yield of("many.tar.gz", gzip.compress(b"".join(many_folders()), 1), "more than 20,000 files")


def many_folders() -> Iterator[bytes]:
    info = tarfile.TarInfo("a")
    info.type = tarfile.DIRTYPE
    yield from [info.tobuf()] * 20_001
    yield bytes(1024)


@functools.cache
def archives() -> list[Any]:
    makers = (of_sound, of_cuts, of_damage, of_names, of_kinds, of_sizes)
    return [attack for maker in makers for attack in maker()]


@pytest.mark.parametrize(("attack", "files"), drawn(archives(), 120))
def test_an_archive(tmp_path: Path, attacked: Callable[..., None], attack: Attack, files: Files) -> None:
    archive, target = attack.make(tmp_path), tmp_path / "out"
    before = sorted(tmp_path.iterdir())

    def right(folder: Path) -> bool:
        stem = next(iter(folder.iterdir())) if files else folder
        found = {
            str(path.relative_to(stem)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        return found == dict(files)

    attacked(lambda: unpack(archive, target), attack.message, right)
    assert sorted(tmp_path.iterdir()) == sorted([*before, target])
    if attack.message:
        assert not list(target.iterdir()), "something was left"


def release(root: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    monkeypatch.setenv("EGOST_CACHE", str(root.parent / "cache"))
    return release_in(root, "official")


def of_releases() -> dict[str, tuple[dict[str, bytes], str | None]]:
    """Files of a release, and what is said of them, or None where all clips must be found."""
    packed, other = zipped([("1.mp4", FILM)]), zipped([("1.mp4", FILM[::-1])])
    return {
        "an archive next to its own files": ({"part1.zip": packed, "part1/1.mp4": FILM}, None),
        "the same one twice": ({"part1.zip": packed, "part1/part1.zip": packed}, None),
        "another film of one name": (
            {"part1.zip": other, "part1/1.mp4": FILM},
            "1.mp4 exists twice with other contents, as .*remove one",
        ),
        "a shorter film of one name": (
            {"part1.zip": zipped([("1.mp4", FILM[:-1])]), "part1/1.mp4": FILM},
            "1.mp4 exists twice with other contents",
        ),
        "an archive in an archive": ({"all.zip": zipped([("part1.zip", packed)])}, None),
        "a tar in a zip, in a folder": (
            {"part1/x.zip": zipped([("y.tar", tarred([("1.mp4", FILM)]))])},
            None,
        ),
        "three archives in each other": (
            {"all.zip": zipped([("b.zip", zipped([("part1.zip", packed)]))])},
            "part1.zip lies in 2 other archives",
        ),
        "parts alone": ({"part1.zip.001": packed[:99], "part1.zip.002": packed[99:]}, None),
        "a part alone": (
            {"part1.zip.001": packed[:99]},
            "part1.zip.001 is one part of an archive that was split",
        ),
        "parts of a tar": ({"part1.tar.gz.aa": b"\x1f\x8b"}, "part1.tar.gz.aa is one part of an archive"),
        "parts and the whole": ({"part1.zip.001": packed[:99], "part1.zip": packed}, None),
    }


@pytest.mark.parametrize("name", of_releases())
def test_archives_of_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attacked: Callable[..., None], name: str
) -> None:
    files, message = of_releases()[name]
    root = tmp_path / "release"
    for place, content in files.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(content)

    def right(clips: dict[tuple[str | None, str], Path]) -> bool:
        loose = root / "part1" / "1.mp4"
        return (
            set(clips) == {("part1", "1.mp4")}
            and clips["part1", "1.mp4"].read_bytes() == FILM
            and (not loose.exists() or clips["part1", "1.mp4"] == loose)
        )

    attacked(lambda: release(root, monkeypatch).clips, message, right)


@pytest.mark.parametrize("suffix", [".rar", ".7z", ".RAR", ".part1.rar", ".7z.001", ".tar.zst", ".tar.Z"])
def test_an_archive_that_cannot_be_unpacked_is_named(
    tmp_path: Path, attacked: Callable[..., None], suffix: str
) -> None:
    (tmp_path / "part1").mkdir()
    packed = tmp_path / f"part1{suffix}"
    packed.write_bytes(b"Rar!\x1a\x07")
    found = Release("official", (tmp_path,), "local")
    sample = Sample("Part1/route_forward/1", "route", "forward", 1, "1.mp4", "How?", (), "Left.")
    attacked(
        lambda: found.clip_path(sample),
        f"1.mp4 .* is not in .* cannot unpack {re.escape(str(packed))}: unpack",
    )
    (tmp_path / "part1" / "1.mp4").write_bytes(FILM)
    attacked(
        lambda: Release("official", (tmp_path,), "local").missing_clips([sample]),
        right=lambda missing: not missing,
    )


@pytest.mark.parametrize(
    ("limit", "message"), [("0.2", None), ("0.05", "EGOST_UNPACK_LIMIT is 0.05"), ("x", "a number of GiB")]
)
def test_the_limit_can_be_moved(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attacked: Callable[..., None],
    limit: str,
    message: str | None,
) -> None:
    monkeypatch.setenv("EGOST_UNPACK_LIMIT", limit)
    archive = written(tmp_path / "a.zip", zipped([("1.mp4", bytes(80 << 20))], zipfile.ZIP_DEFLATED))
    attacked(lambda: unpack(archive, tmp_path / "out"), message)


def test_more_than_the_disk_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attacked: Callable[..., None]
) -> None:
    monkeypatch.setenv("EGOST_UNPACK_LIMIT", str(1 << 40))
    archive = written(tmp_path / "a.tar", with_size(1 << 60))
    attacked(lambda: unpack(archive, tmp_path / "out"), "does not fit on the disk of .*Free some space")
