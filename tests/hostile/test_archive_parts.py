"""Archives split into parts: all of them are read, in order, or what is wrong with them is said in one sentence."""

from __future__ import annotations

import functools
import itertools
import random
import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks import Attack, drawn
from test_archive_files import FILES, PACKERS, Files, of_kinds, of_names, of_sizes, tarred, zipped

from egost.tasks.errors import ReleaseError
from egost.tasks.release.archives import unpack
from egost.tasks.release.release import Release, release_in
from egost.tasks.sample import Sample

Parts = dict[str, bytes]

NAMES: dict[str, Callable[[int], str]] = {
    ".00": lambda i: f".{i:02}",
    ".0": lambda i: f".{i}",
    ".01": lambda i: f".{i + 1:02}",
    ".001": lambda i: f".{i + 1:03}",
    "00": lambda i: f"{i:02}",
    ".aa": lambda i: ".a" + "abcdefgh"[i],
    "aa": lambda i: "a" + "abcdefgh"[i],
    "_aaa": lambda i: "_aa" + "abcdefgh"[i],
    ".part1": lambda i: f".part{i + 1}",
    ".part01": lambda i: f".part{i + 1:02}",
    ".part-aa": lambda i: ".part-a" + "abcdefgh"[i],
    "-part.00": lambda i: f"-part.{i:02}",
    ".PART1": lambda i: f".PART{i + 1}",
}
KINDS = ("zip", *PACKERS)
NOT_COMPLETE = (
    "is one part of an archive that was split into several. What is there, .* is no complete archive"
)


@functools.cache
def content(kind: str) -> bytes:
    return zipped(FILES) if kind == "zip" else PACKERS[kind](tarred(FILES))


def cut(whole: bytes, number: int) -> list[bytes]:
    size = -(-len(whole) // number)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def named(kind: str, form: str, number: int = 3) -> Parts:
    return {f"part1.{kind}{NAMES[form](i)}": part for i, part in enumerate(cut(content(kind), number))}


def of(parts: Parts, message: str | None = None, files: Files = FILES, first: int = 0) -> Any:
    def write(at: Path) -> Path:
        for name, part in parts.items():
            (at / name).write_bytes(part)
        return at / list(parts)[first]

    return pytest.param(Attack(next(iter(parts)), write, message), files)


def of_sound() -> Iterator[Any]:
    for kind, form in itertools.product(KINDS, NAMES):
        yield of(named(kind, form), first=len(form) % 3)
    for kind in KINDS:
        for number in (1, 2, 7):
            yield of(named(kind, ".001", number))
        head, tail = content(kind)[:99], content(kind)[99:]
        yield of({f"part1.{kind}.part1": head, f"part1.{kind}.part2": tail})
        parts = cut(content(kind), 3)
        yield of({f"part1.part{i}": part for i, part in enumerate(parts, 1)})
        yield of({f"part1.00{i}": part for i, part in enumerate(parts, 1)})
        yield of({f"part1.part{i}.{kind}": part for i, part in enumerate(parts, 1)})
        # What lies beside them belongs to others.
        others = {
            f"part1.{kind}.md5": b"0",
            f"part1.{kind}.old": b"0",
            "part10.zip.005": b"0",
            "part1.txt": b"0",
        }
        yield of(named(kind, ".aa") | others)
        yield of({f"part1.{kind}": content(kind), f"part1.{kind}.1": b"an older one"})
    upper = {name.upper(): part for name, part in named("zip", ".001").items()}
    yield of(upper)


def of_missing() -> Iterator[Any]:
    for kind, form in itertools.product(KINDS, NAMES):
        for gone in range(3):
            parts = named(kind, form)
            name = list(parts)[gone]
            del parts[name]
            counts_from_0 = NAMES[form](0).endswith("0")
            said = gone == 1 or (gone == 0 and not counts_from_0)
            message = f"part1.* is one part of .*, and {name.lower()} is missing beside it. Run:"
            yield of(parts, f"(?i){message}" if said else NOT_COMPLETE)


def of_disorder() -> Iterator[Any]:
    for kind, form in itertools.product(KINDS, NAMES):
        names, parts = list(named(kind, form)), list(named(kind, form).values())
        for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)):
            message = f"{NOT_COMPLETE} .*(out of order|cut short)"
            yield of({name: parts[i] for name, i in zip(names, order, strict=True)}, message)


def of_cuts() -> Iterator[Any]:
    for kind, which in itertools.product(KINDS, range(3)):
        for form, left in itertools.product((".001", "aa"), (0, 0.1, 0.9)):
            if (kind, which, left) == ("tar", 2, 0.9):  # which cuts nothing but padding
                continue
            parts = named(kind, form)
            name = list(parts)[which]
            parts[name] = parts[name][: int(len(parts[name]) * left)]
            short = f"{name} has [\\d,]+ bytes and another part [\\d,]+; it was cut short"
            yield of(parts, f"{NOT_COMPLETE} .*{short if which < 2 else 'is missing, or one is damaged'}")
    # In the padding and the last film of a tar: no header is out of place.
    parts = named("tar", ".001")
    parts["part1.tar.002"] = parts["part1.tar.002"][:-512]
    yield of(parts, f"{NOT_COMPLETE} .*part1.tar.002 has")


def of_two_sets() -> Iterator[Any]:
    for kind in KINDS:
        for one, other in itertools.combinations(
            (".00", ".001", "aa", ".aa", "_aaa", ".part1", ".part01"), 2
        ):
            yield of(named(kind, one) | named(kind, other, 4), "two sets of parts of one archive")


def of_hostile() -> Iterator[Any]:
    """The attacks on whole archives, in parts."""
    for param in itertools.chain(of_names(), of_kinds(), of_sizes()):
        attack, files = param.values
        if attack.name.startswith(("many", "pieces", "bomb", "tail")) and attack.name != "bomb.zip":
            continue  # which take a second each, and are in no way other in parts

        def write(at: Path, make: Callable[[Path], Path] = attack.make) -> Path:
            whole = make(at)
            for i, part in enumerate(cut(whole.read_bytes(), 4)):
                (at / f"{whole.name}.{i:02}").write_bytes(part)
            whole.unlink()
            return at / f"{whole.name}.00"

        # A tar in parts is also refused for its size, no multiple of 512.
        message = attack.message and f"{attack.message}|no complete archive"
        yield pytest.param(Attack(attack.name, write, message), files)


def spanned(files: Files, disk: int) -> Parts:
    """A zip in parts as WinZip writes it: each member is recorded by its part and its place in that part."""
    body, directory = bytearray(b"PK\x07\x08"), b""
    for name, data in files:
        local = zipped([(name, data)])
        start = local.rindex(b"PK\x01\x02")
        entry = bytearray(local[start : local.rindex(b"PK\x05\x06")])
        struct.pack_into("<H", entry, 34, len(body) // disk)
        struct.pack_into("<I", entry, 42, len(body) % disk)
        body += local[:start]
        directory += entry
    at = len(body)
    last = at // disk
    body += directory + struct.pack(
        "<4s4H2IH", b"PK\x05\x06", last, last, len(files), len(files), len(directory), at % disk, 0
    )
    pieces = [bytes(body[i : i + disk]) for i in range(0, last * disk, disk)] + [bytes(body[last * disk :])]
    return {f"part1.z{i:02}": piece for i, piece in enumerate(pieces[:-1], 1)} | {"part1.zip": pieces[-1]}


def of_spanned() -> Iterator[Any]:
    for disk in (5_000, 9_000, 15_000, 30_000):
        sound = spanned(FILES, disk)
        for first in range(len(sound)):
            yield of(sound, first=first)
            name = list(sound)[first]
            rest = {other: part for other, part in sound.items() if other != name}
            if rest:
                yield of(rest, f"(?i){name} is missing beside it", first=-1)
            yield of(sound | {name: sound[name][:50]}, f"{NOT_COMPLETE}|is no complete archive", first=-1)
        yield of(spanned([*FILES, ("../3.mp4", b"x")], disk), "outside of its folder")
        yield of(spanned([*FILES, ("1.mp4", b"x")], disk), "twice")
    yield of({"part1.z01": b"left over", "part1.zip": zipped(FILES)}, first=1)
    parts = spanned(FILES, 9_000)
    parts["part1.z01"], parts["part1.z02"] = parts["part1.z02"], parts["part1.z01"]
    yield of(parts, f"{NOT_COMPLETE} .*out of order")


@functools.cache
def attacks() -> list[Any]:
    makers = (of_sound, of_missing, of_disorder, of_cuts, of_two_sets, of_hostile, of_spanned)
    return [attack for maker in makers for attack in maker()]


@pytest.mark.parametrize(("attack", "files"), drawn(attacks(), 180))
def test_parts(tmp_path: Path, attacked: Callable[..., None], attack: Attack, files: Files) -> None:
    archive, target = attack.make(tmp_path), tmp_path / "out"
    before = sorted(tmp_path.iterdir())

    def right(folder: Path) -> bool:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.mp4")}
        stem = next(folder.iterdir()).name
        return (
            found == {f"{stem}/{name}": film for name, film in files} and stem.lower() in archive.name.lower()
        )

    attacked(lambda: unpack(archive, target), attack.message, right)
    assert set(tmp_path.iterdir()) - set(before) <= {target}
    if attack.message and target.exists():
        assert not list(target.iterdir()), "something was left"


def test_what_split_itself_writes(tmp_path: Path) -> None:
    """Its numbers grow longer on the way: 89, 9000 and yz, zaaa."""
    whole, films = content("tar"), [film for _, film in FILES]
    for options, size, name, place in (
        (["-d"], 500, "clips.tar.9000", 90),
        ([], 70, "clips.tar.zaaa", 650),
        (["-a", "3"], 500, "clips.tar.adh", 85),
        (["--numeric-suffixes=1"], 2_000, "clips.tar.11", 10),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "whole").write_bytes(whole)
        subprocess.run(["split", *options, "-b", str(size), "whole", "clips.tar."], cwd=folder, check=True)
        (folder / "whole").unlink()
        parts = sorted(folder.iterdir())
        assert parts[place].name == name
        out = unpack(parts[0], tmp_path / "out")
        assert [(out / "clips" / film).read_bytes() for film, _ in FILES] == films
        parts[place].unlink()
        with pytest.raises(ReleaseError, match=" is missing beside it"):
            unpack(parts[0], tmp_path / "out")


@pytest.mark.skipif(not shutil.which("zip"), reason="zip is not installed")
def test_what_zip_itself_splits(tmp_path: Path) -> None:
    films = {f"{i}.mp4": random.Random(i).randbytes(70_000) for i in range(4)}
    for name, film in films.items():
        (tmp_path / name).write_bytes(film)
    subprocess.run(["zip", "-q", "-s", "64k", "clips.zip", *films], cwd=tmp_path, check=True)
    assert (tmp_path / "clips.z04").exists()
    out = unpack(tmp_path / "clips.zip", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (out / "clips").iterdir()} == films


KILLED = """
import os, signal, sys
from pathlib import Path
from egost.tasks.release.archives import unpack
done = 0
def kill(event, arguments):
    global done
    if event == "os.rename":
        done += 1
        if done == 3:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""
"""Ends before the third film has its name."""


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_killed_process_is_gone_on_from(tmp_path: Path, kind: str) -> None:
    files = [(f"{i}.mp4", bytes([i]) * 5_000) for i in range(5)]
    whole = zipped(files) if kind == "zip" else PACKERS[kind](tarred(files))
    for i, part in enumerate(cut(whole, 3)):
        (tmp_path / f"clips.{kind}.{i:02}").write_bytes(part)
    first, out = tmp_path / f"clips.{kind}.00", tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, first, out], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    left = {path.name: path.stat().st_ino for path in out.rglob("*.mp4")}
    assert left.keys() == {"0.mp4", "1.mp4"} and not list(out.glob("?" * 16))
    folder = unpack(first, out)
    found = {path.name: path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == dict(files)
    assert left.items() <= {name: path.stat().st_ino for name, path in found.items()}.items(), "read again"
    assert sorted(out.iterdir()) == [folder]


def test_parts_are_neither_in_memory_nor_on_disk_at_once(tmp_path: Path) -> None:
    part = bytes(8 << 20)
    whole = zipped([("1.mp4", part), ("2.mp4", part), ("3.mp4", part)])
    for i, piece in enumerate(cut(whole, 3), 1):
        (tmp_path / f"clips.zip.{i:03}").write_bytes(piece)
    del whole
    tracemalloc.start()
    unpack(tmp_path / "clips.zip.001", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
    sizes = {path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert max(sizes) <= len(part) + 512


def test_how_far_it_has_come_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for i, piece in enumerate(cut(tarred([("1.mp4", bytes(3 << 20))]), 2)):
        (tmp_path / f"clips.tar.{i:02}").write_bytes(piece)
    unpack(tmp_path / "clips.tar.00", tmp_path / "out")
    assert "egost: unpacking clips.tar.00 (2 parts): 3 of 3 MiB" in capfd.readouterr().err


def test_parts_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "release"
    (root / "part3_clip").mkdir(parents=True)
    for name, part in (named("zip", ".001") | spanned([("3.mp4", b"3")], 30)).items():
        (root / name.replace("part1.z", "part2.z" if ".zip." not in name else "part1.z")).write_bytes(part)
    inner = cut(tarred([("4.mp4", b"4")]), 2)
    (root / "part3_clip" / "x.zip").write_bytes(
        zipped([("y.tar.part1", inner[0]), ("y.tar.part2", inner[1])])
    )
    clips = release_in(root, "official").clips
    assert clips.keys() == {
        ("part1", "1.mp4"),
        ("part1", "2.mp4"),
        ("part2", "3.mp4"),
        ("part3_clip", "4.mp4"),
    }


@pytest.mark.parametrize(
    "name",
    ["a.7z.001", "a.7z.aa", "a.part1.rar", "a.tar.zst.00", "a.tar.zstaa", "a.rar.part1", "a.tar.lz4.part-aa"],
)
def test_parts_that_cannot_be_unpacked_are_named(
    tmp_path: Path, attacked: Callable[..., None], name: str
) -> None:
    (tmp_path / name).write_bytes(b"Rar!")
    sample = Sample("Part1/route_forward/1", "route", "forward", 1, "1.mp4", "How?", (), "Left.")
    attacked(
        lambda: Release("official", (tmp_path,), "local").clip_path(sample),
        f"cannot unpack .*{name}: unpack that",
    )
