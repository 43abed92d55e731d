"""Disks that are full or read-only, places that cannot be written, and a console that knows ASCII alone."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from attacks import CONTROL, drawn
from places import ROOT
from typer.testing import CliRunner
from video_files import write_video

from egost.main import app
from egost.results.rejudge import rejudge
from egost.results.run import read_run
from egost.tasks.cache import not_used, whole_folder, write_whole
from egost.tasks.clips.clips import get_clip
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.construction.annotations import read_annotations
from egost.tasks.construction.workfolder import write_lines, write_object
from egost.tasks.errors import CacheError
from egost.tasks.judging.choose import get_judge
from egost.tasks.release.archives import unpack
from egost.tasks.text_files import write_json_lines
from egost.training.rows.training_rows import TrainingRow, write_training_rows

SAVED = ROOT / "tests" / "saved" / "mini_run"
GOLDEN = ROOT / "tests" / "golden" / "tiny.jsonl"

COMMANDS: dict[str, tuple[str, ...]] = {
    "report": ("report", str(SAVED), "-o", "{}/page.html"),
    **{
        f"leaderboard {form}": ("leaderboard", "--table", "1", "-o", f"{{}}/board.{form}")
        for form in ("md", "csv", "tex", "html", "json")
    },
    "show": ("show", str(SAVED), "--output", "{}/manifest.json"),
    "compare csv": ("compare", str(SAVED), str(SAVED), "--output", "{}/flips.csv"),
    "compare json": ("compare", str(SAVED), str(SAVED), "--output", "{}/all.json"),
    "regress": ("regress", str(SAVED), "--baseline", "{}/golden.jsonl", "--update"),
}


def contents(folder: Path) -> list[Path]:
    """The files below a folder but for locks, which are empty."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def fill_a_folder(folder: Path) -> None:
    with whole_folder(folder / "new") as new:
        (new / "x").write_bytes(b"x" * 200_000)


@cache
def video() -> Path:
    return write_video(Path(mkdtemp()) / "a.mp4", 9, size=(640, 480))


@cache
def archive() -> Path:
    packed = Path(mkdtemp()) / "part1.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.write(video(), "a.mp4")
        file.writestr("b.mp4", b"x" * 200_000)
    return packed


WRITERS: dict[str, Callable[[Path], object]] = {
    "a file": lambda folder: write_whole(folder / "x", b"x" * 200_000),
    "lines": lambda folder: write_json_lines(folder / "x.jsonl", ["x" * 1_000] * 200),
    "lines of construction": lambda folder: write_lines(folder / "x.jsonl", [{"x": "x" * 1_000}] * 200),
    "an object": lambda folder: write_object(folder / "x.json", {"x": "x" * 200_000}),
    "training rows": lambda folder: write_training_rows(
        folder / "rows.jsonl", [TrainingRow(r.sample, "x" * 10_000, "") for r in read_run(SAVED).records]
    ),
    "a folder": fill_a_folder,
    "a clip": lambda folder: get_clip(video(), parse_protocol("uniform8"), cache=folder / "cache"),
    "an archive": lambda folder: unpack(archive(), folder / "unpacked"),
}


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small disk of its own; the test is left out where this user may not make one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "full", "size=16k") as folder:
        (folder / "other").write_bytes(b"x" * 16_384)
        yield folder


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "ro", "ro,size=16k") as folder:
        yield folder


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"


def run(command: str, folder: Path) -> str:
    """What a command says whose output goes into a folder; it leaves nothing there."""
    done = CliRunner().invoke(app, [word.format(folder) for word in COMMANDS[command]])
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output
    assert done.output.count("egost: ") == 1 and not CONTROL.search(done.output)
    return done.output


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("full", r"the disk is full\. Free some space"),
        ("read_only", r"the disk is read-only\. Name a place on another disk"),
        ("blocked", r"a file is in the place of its folder"),
    ],
)
def test_every_writer_says_what_stopped_it(
    request: pytest.FixtureRequest, place: str, says: str, attacked: Callable[..., None]
) -> None:
    folder = request.getfixturevalue(place)
    before = contents(folder)
    for command in drawn(list(COMMANDS), 4):
        words = run(command, folder)

        def fails(words: str = words) -> None:
            raise CacheError(words)

        attacked(fails, f"cannot be written: {says}")
    for write in WRITERS.values():
        pattern = f"cannot be written: {says}|does not fit on the disk .* Free some space"
        attacked(lambda write=write: write(folder), pattern)  # type: ignore[misc]
    assert contents(folder) == before


@pytest.mark.parametrize("command", drawn(list(COMMANDS), 4))
def test_a_folder_of_the_files_name(tmp_path: Path, command: str, attacked: Callable[..., None]) -> None:
    (tmp_path / Path(COMMANDS[command][-1 if command != "regress" else 3]).name).mkdir()
    said = run(command, tmp_path)
    assert (
        "a folder of this name is in its place" in said
        or "cannot be read" in said
        or "Is a directory" in said
    )


def test_a_run_is_scored_again_on_a_full_disk(tmp_path: Path, attacked: Callable[..., None]) -> None:
    with mounted(tmp_path / "disk", "size=280k") as folder:
        copy = shutil.copytree(SAVED, folder / "run")
        before = sorted(copy.iterdir())
        attacked(
            lambda: rejudge(read_run(copy), get_judge("offline")), r"cannot be written: the disk is full"
        )
        assert read_run(copy).results_file.parent == copy, "the run that was there is whole"
        assert not [path for path in copy.iterdir() if path.suffix == ".part"] and set(before) <= set(
            copy.iterdir()
        )


def test_a_limit_of_the_process(tmp_path: Path, attacked: Callable[..., None]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(CacheError) as raised:
            write_whole(tmp_path / "x", b"x" * 5_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def fails() -> None:
        raise raised.value

    attacked(fails, r"x cannot be written: it is longer than this process may write \(ulimit -f\)")
    assert not list(tmp_path.iterdir())


def egost(*words: str, stdout: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", *words],
        stdout=stdout or subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        encoding="utf-8",
        errors="replace",
        check=False,
    )


@pytest.mark.parametrize(
    "words", [("summary",), ("regress", "--baseline", str(GOLDEN), "--format", "junit")], ids=lambda w: w[0]
)
def test_a_full_standard_output(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = egost(*words, str(SAVED), stdout=full.fileno())
    assert done.returncode != 0 and "the disk is full" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["läufe", "прогон", "走る", "🏃", "a\udcffb"], ids=ascii)
def test_a_console_of_ascii(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(SAVED, folder)
    ascii_console = {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    for words in (
        ("summary", str(folder)),
        ("compare", str(folder), str(folder), "--output", str(folder / "f.csv")),
        ("summary", str(tmp_path / f"{name}-nowhere")),
    )[0 if name == "läufe" else 2 :]:
        done = egost(*words, **ascii_console)
        assert done.returncode == (2 if "nowhere" in words[-1] else 0), (words, done.stderr)
        assert "Traceback" not in done.stderr and "UnicodeEncodeError" not in done.stderr
        assert (done.stdout + done.stderr).isascii()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A file's name on Linux is bytes; a message about it can be printed all the same."""
    done = CliRunner().invoke(app, ["summary", str(tmp_path / "a\udcffb")])
    assert done.exit_code == 2 and "there is no" in done.output
    with pytest.raises(Exception, match="cannot be read"):
        read_annotations(tmp_path / "a\udcffb.json")


def test_what_cannot_be_read_is_not_called_written(tmp_path: Path, attacked: Callable[..., None]) -> None:
    def use(path: Path, flags: int) -> None:
        try:
            os.close(os.open(path, flags))
        except OSError as error:
            raise not_used(error) from error

    (tmp_path / "folder").mkdir()
    again = ". Check its name and who may use it, then run the same command again."
    attacked(
        lambda: use(tmp_path / "no", os.O_RDONLY),
        "no cannot be read or written: No such file or directory" + again,
    )
    attacked(
        lambda: use(tmp_path / "folder", os.O_WRONLY),
        "folder cannot be read or written: Is a directory" + again,
    )
    attacked(
        lambda: not_used(OSError(errno.ENOSPC, "no")),
        right=lambda e: "the output cannot be written" in str(e),
    )
