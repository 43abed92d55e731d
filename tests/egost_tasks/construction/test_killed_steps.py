"""A step that is killed (SIGKILL) before any of its renames goes on and ends with the same files."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from judge_server import serve_judge
from mini_annotations import annotated_folder, annotation_of
from option_writers import QUICK, good_reply
from video_files import write_video

from egost.tasks.chat.reply_store import STORE, ReplyStore, stored_bodies
from egost.tasks.construction.annotations import Annotation, Step
from egost.tasks.construction.calibration import calibrate
from egost.tasks.construction.cutting import build_clips
from egost.tasks.construction.model_calls import OpenAIWriter, find_endpoint
from egost.tasks.construction.publication import publish
from egost.tasks.construction.questions import write_questions
from egost.tasks.construction.workfolder import WorkFolder
from egost.tasks.construction.writers import OfflineWriter
from egost.tasks.errors import ConstructionError
from egost.tasks.mini_world.steps import ClipTruth

ROUTE = (
    Step("left", "red door", "", 0.2),
    Step("right", "lamp", "open a box", 0.5),
    Step("straight", "bed", "", 0.9),
)
NAMES = ("a", "b", "c")


def cut(root: Path) -> None:
    build_clips(WorkFolder(root / "out"), root / "spec.csv", workers=1, progress=False)


def annotate(root: Path) -> None:
    folder = WorkFolder(root / "out")
    for k, clip in enumerate(folder.clips()):
        steps = tuple(Step(s.direction, f"{s.landmark} {k}", s.action, s.time_s) for s in ROUTE)
        folder.annotations.save(Annotation(clip, "ana", "indoor_multi", steps))


def write(root: Path) -> None:
    write_questions(WorkFolder(root / "out"), OfflineWriter(0))


def check(root: Path) -> None:
    calibrate(WorkFolder(root / "out"))


def release(root: Path) -> None:
    publish(WorkFolder(root / "out"), root / "release", name="walks", progress=False)


STEPS: tuple[Callable[[Path], None], ...] = (cut, annotate, write, check, release)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in files
        if not path.name.endswith(".part") and STORE not in path.name
    }


def replies_of(folder: WorkFolder) -> dict[str, object]:
    """What is kept of a server's replies, by key, but for the moment at which each came."""
    kept = stored_bodies(folder.writer_replies / STORE)
    return {key: {**body, "made_at": None} for key, body in kept.items()}


def killed_before_rename(number: int, step: Callable[[], None]) -> bool:
    """Run a step in a process of its own that is killed before its rename of a number; False where it ends before."""
    return killed_before(number, step, Path, "replace")


def killed_before(number: int, step: Callable[[], None], of: type, method: str) -> bool:
    """The same before the call of a number of a method."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    try:
        real, seen = getattr(of, method), count(1)

        def call_or_die(self: object, given: object) -> object:
            if next(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, given)

        setattr(of, method, call_or_die)
        step()
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folder before each step, and after the last one."""
    root = tmp_path_factory.mktemp("stages")
    (root / "0").mkdir()
    rows = ["file,start,end,source,scene,licence"]
    for name in NAMES:
        write_video(root / f"{name}.mp4", 25)
        rows.append(f"{root / name}.mp4,,,own,indoor_multi,CC")
    (root / "0" / "spec.csv").write_text("\n".join(rows))
    folders = [root / "0"]
    for number, step in enumerate(STEPS, 1):
        folders.append(root / str(number))
        shutil.copytree(folders[-2], folders[-1])
        step(folders[-1])
    return folders


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[step.__name__ for step in STEPS])
def test_a_killed_step_ends_as_one_that_was_not(stages: list[Path], tmp_path: Path, number: int) -> None:
    step, expected = STEPS[number], contents(stages[number + 1])
    kills = 0
    for rename in count(1):
        root = tmp_path / str(rename)
        shutil.copytree(stages[number], root)
        if not killed_before_rename(rename, lambda root=root: step(root)):
            break
        kills += 1
        step(root)
        found = contents(root)
        assert found.keys() == expected.keys()
        for name, content in expected.items():
            assert found[name] == content, f"{name} after a kill before rename {rename}"
        assert not list(root.glob("release/**/*.part"))
    assert kills >= {"cut": 6, "annotate": 3, "write": 2, "check": 4, "release": 30}[step.__name__]


def test_a_killed_writing_by_a_server_asks_for_no_reply_twice(
    stages: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EGOST_JUDGE_KEY", raising=False)
    with serve_judge(script=lambda ask: f"say:{good_reply(ask)}") as server:
        endpoint = find_endpoint(f"openai:judge-model@{server.url}", "--writer")

        def write_by_server(root: Path) -> None:
            folder = WorkFolder(root / "out")
            write_questions(
                folder, OpenAIWriter(endpoint, folder.writer_replies, replace(QUICK, concurrency=1))
            )

        for name in ("whole", "killed"):
            shutil.copytree(stages[2], tmp_path / name)
        write_by_server(tmp_path / "whole")
        asked = len(server.asks)
        assert killed_before(4, lambda: write_by_server(tmp_path / "killed"), ReplyStore, "put")
        killed, whole = (WorkFolder(tmp_path / name / "out") for name in ("killed", "whole"))
        assert len(replies_of(killed)) == 3 and not killed.questions.exists()
        server.asks.clear()
        write_by_server(tmp_path / "killed")
        assert len(server.asks) == asked - 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert replies_of(killed) == replies_of(whole) and len(replies_of(whole)) == asked


def test_one_folder_is_worked_in_by_one_process(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path, 0, truths[:2])
    assert folder.annotations.load(truths[0].clip, "truth") == annotation_of(truths[0])
    with folder.step("questions"), pytest.raises(ConstructionError, match="another process runs this step"):
        write_questions(folder, OfflineWriter(0))
