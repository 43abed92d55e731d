"""`egost cache`: what the cache folder holds, and how to make it smaller."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout
from rich.table import Table

from egost.commands.front import console, says_what_to_do
from egost.commands.leaderboard import World
from egost.tasks.cache import cache_root
from egost.tasks.json_text import read_json

_HOLDS = {
    "clips": "frames of clips, and their pictures",
    "unpacked": "clips out of archives",
    "text_only": "text-only baselines",
    "left over": "locks and parts of killed processes",
    "journal": "responses; kept",
    "judge": "judgements; kept",
    "reverse_thinking": "thoughts that were paid for; kept",
}
"""What the folders of the cache hold. The first four can be made again, and are freed; others are only shown."""

_MANIFEST = "manifest.json"
_DAY_S = 86400.0


@dataclass(frozen=True)
class _Entry:
    """What is freed as a whole. used: when it was last read or written, seconds since 1970."""

    kind: str
    path: Path

    @property
    def files(self) -> list[Path]:
        return _files(self.path) if self.path.is_dir() else [self.path]

    @property
    def used(self) -> float:
        # Not of manifests, which this command reads itself, nor of folders, which are read to be listed.
        files = [path for path in self.files if path.name != _MANIFEST]
        times = [max(stat.st_mtime, stat.st_atime) for stat in map(Path.stat, files)]
        return max(times, default=self.path.stat().st_mtime)

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)


@says_what_to_do
def show(context: typer.Context) -> None:
    """Show what the cache holds, by kind, or free what can be made again."""
    if context.invoked_subcommand:
        return
    root = cache_root()
    sizes: dict[str, tuple[int, int]] = {}
    freed = [(entry.kind, entry.path) for entry in _entries(root)]
    inside = {file: kind for kind, path in freed for file in (_files(path) if path.is_dir() else [path])}
    for file in _files(root):
        kind = inside.get(file, file.relative_to(root).parts[0])
        count, size = sizes.get(kind, (0, 0))
        sizes[kind] = count + 1, size + file.stat().st_size
    table = Table("kind", "files", "MB", "what", box=None)
    for kind, (count, size) in sorted(sizes.items(), key=lambda item: -item[1][1]):
        table.add_row(kind, f"{count:,}", f"{size / 1e6:,.1f}", _HOLDS.get(kind, "kept"))
    console.print(f"{root}: {sum(size for _, size in sizes.values()) / 1e6:,.1f} MB")
    console.print(table)


@says_what_to_do
def prune(
    older: Annotated[
        float | None, typer.Option(min=0, help="What was not read or written for so many days.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Frames of this protocol, such as uniform8.")] = None,
    release: Annotated[World | None, typer.Option(help="What was made of the clips of this release.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be freed, and free nothing.")
    ] = False,
) -> None:
    """Free frames, unpacked clips and baselines that all options given apply to; without one, what killed runs left.

    Responses, judgements and releases stay. What another process writes stays, and frames stay while one asks a model.
    """
    root = cache_root()
    of_release = _made_of(root, release.value) if release else None
    asking = any(_held(lock) for lock in root.glob("journal/asking/*.lock"))
    freed, count, in_use = 0, 0, 0
    for entry in _entries(root):
        chosen = entry.kind == "left over" or (
            (older, protocol, release) != (None, None, None)
            and (older is None or entry.used < time.time() - older * _DAY_S)
            and (protocol is None or _protocol(entry) == protocol)
            and (of_release is None or entry.path in of_release)
        )
        if not chosen:
            continue
        if (asking and entry.kind in ("clips", "unpacked")) or not _free(entry, dry_run):
            in_use += entry.path.suffix != ".lock"
        else:
            freed, count = freed + entry.size if dry_run else freed, count + 1
    size = f" ({freed / 1e6:,.1f} MB)" if dry_run else ""
    console.print(f"{count} entries of {root} {'would be' if dry_run else 'were'} freed{size}")
    if in_use:
        console.print(f"{in_use} stay, which another process uses: run it again when that has ended")


def _entries(root: Path) -> Iterator[_Entry]:
    for folder in sorted(root.glob("clips/??/*")):
        if re.fullmatch("[0-9a-f]{40}", folder.name):
            yield _Entry("clips", folder)
    for kind in ("unpacked", "text_only"):
        for path in sorted((root / kind).glob("*")):
            if not _left_over(path):
                yield _Entry(kind, path)
    for kind in ("clips", "unpacked", "text_only", "checkpoints"):
        for path in sorted((root / kind).rglob("*")):
            if _left_over(path):
                yield _Entry("left over", path)


def _left_over(path: Path) -> bool:
    return path.suffix == ".lock" or bool(re.search(r"\.part(-[0-9a-f]{16})?$", path.name))


def _free(entry: _Entry, dry_run: bool) -> bool:
    """Delete an entry, unless another process holds its lock or writes it."""
    path = entry.path
    name = re.sub(r"(\.[0-9a-f]{16})?\.(lock|part(-[0-9a-f]{16})?)$", "", path.name)
    lock = path.with_name(f"{name}.lock")
    fresh = path.suffix == ".part" and entry.used > time.time() - _DAY_S
    if fresh or _held(lock):
        return False
    if dry_run:
        return True
    with FileLock(lock, timeout=0):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
    return True


def _held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _protocol(entry: _Entry) -> str:
    """By which a clip was sampled; controls (`uniform8/shuffled`) belong to their protocol."""
    return str(_manifest(entry).get("protocol", "")).partition("/")[0]


def _manifest(entry: _Entry) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = read_json(entry.path / _MANIFEST)
        return found if isinstance(found, dict) else {}
    return {}


def _made_of(root: Path, world: str) -> set[Path]:
    """The entries that were made of a release's clips and questions. Raises ReleaseError where it is not there."""
    from egost.tasks.release.release import open_release

    release = open_release("mini" if world == "mini" else "official")
    paths = {str(path.absolute()) for path in release.clips.values()}
    hashes = set()
    for memo in root.glob("clips/sources/*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = read_json(memo)
            if known["source"] in paths:
                hashes.add(known["sha256"])
    found = set(root.glob(f"text_only/{release.index.files_sha256[:16]}-*"))
    for entry in _entries(root):
        inside = f"{entry.path.absolute()}/"
        if (entry.kind == "clips" and _manifest(entry).get("source_sha256") in hashes) or (
            entry.kind == "unpacked" and any(path.startswith(inside) for path in paths)
        ):
            found.add(entry.path)
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
