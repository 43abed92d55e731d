"""Clips of the cache that somebody changed: whoever takes one gets the right frames, or one sentence that names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks import Attack
from typer.testing import CliRunner
from video_files import numbers, write_video

from egost.main import app
from egost.tasks.clips.clips import Clip, get_clip
from egost.tasks.clips.controls import altered_clip
from egost.tasks.clips.lossless import lossless_sha256, read_lossless, write_lossless
from egost.tasks.clips.protocols import Protocol

UNIFORM = Protocol()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EGOST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Clip, Clip]:
    """Two clips, of 10 and of 30 frames."""
    return tuple(get_clip(write_video(tmp_path / f"{n}.mp4", n), UNIFORM) for n in (10, 30))  # type: ignore[return-value]


def copied(ours: Path, other: Path) -> None:
    shutil.copyfile(other, ours)


def copied_with_its_time(ours: Path, other: Path) -> None:
    before = ours.stat()
    content = other.read_bytes()
    ours.write_bytes(content[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(ours, ns=(before.st_atime_ns, before.st_mtime_ns))


def moved(ours: Path, other: Path) -> None:
    other.replace(ours)


def linked(ours: Path, other: Path) -> None:
    ours.unlink()
    ours.symlink_to(other)


def drawn_over(ours: Path, _: Path) -> None:
    frames = read_lossless(ours)
    frames[3, 5, 5, 1] ^= 1
    write_lossless(frames, ours)


def cut(ours: Path, _: Path) -> None:
    os.truncate(ours, ours.stat().st_size // 2)


def emptied(ours: Path, _: Path) -> None:
    os.truncate(ours, 0)


def garbage(ours: Path, _: Path) -> None:
    ours.write_bytes(os.urandom(5_000))


def a_folder(ours: Path, _: Path) -> None:
    ours.unlink()
    ours.mkdir()


def whole_folder(ours: Path, other: Path) -> None:
    shutil.copytree(other.parent, ours.parent, dirs_exist_ok=True)


def another_manifest(ours: Path, other: Path) -> None:
    shutil.copyfile(other.with_name("manifest.json"), ours.with_name("manifest.json"))


def no_manifest(ours: Path, _: Path) -> None:
    ours.with_name("manifest.json").write_text('{"source": "' + "\\ud800" + '"}')


def deep_manifest(ours: Path, _: Path) -> None:
    ours.with_name("manifest.json").write_text("[" * 100_000)


FILE = (copied, copied_with_its_time, moved, linked, drawn_over, cut, emptied, garbage, a_folder)
FOLDER = (whole_folder, another_manifest, no_manifest, deep_manifest)
CHANGED = "cannot be read|was changed after it was written.*Delete its folder and run again"


def named(attacks: tuple[Callable[[Path, Path], None], ...]) -> list[Attack]:
    return [Attack(attack.__name__, attack) for attack in attacks]


@pytest.mark.parametrize("attack", named(FILE + FOLDER), ids=lambda attack: attack.name)
def test_whoever_asks_for_a_changed_clip_gets_it_decoded_again(
    clips: tuple[Clip, Clip], tmp_path: Path, attacked: Callable[..., None], attack: Attack
) -> None:
    ours, other = clips
    attack.make(ours.path, other.path)

    def right(clip: Clip) -> bool:
        found = numbers(read_lossless(clip.path))
        return clip == ours and found == numbers(clip.frames()) == list(clip.manifest.indices)

    attacked(lambda: get_clip(tmp_path / "10.mp4", UNIFORM), right=right)


class Reading:
    """An adapter as lmms-eval's are: it opens the path that it gets, and says what it saw."""

    is_simple = True

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}

    def generate_until(self, requests: list[Any]) -> list[str]:
        texts = []
        for request in requests:
            _, _, visuals, doc_id, task, split = request.args
            [path] = visuals(self.task_dict[task][split][doc_id])
            texts.append(str(numbers(read_lossless(Path(path)))))
        return texts


@pytest.mark.parametrize("attack", named(FILE), ids=lambda attack: attack.name)
@pytest.mark.parametrize("batch", [1, 2])
def test_no_adapter_of_lmms_eval_gets_a_changed_clip(
    clips: tuple[Clip, Clip], attacked: Callable[..., None], attack: Attack, batch: int
) -> None:
    from egost.model_adapters.engine import Ask, EngineIdentity, Failure, GenerationArguments, Reply
    from egost.model_adapters.lmms_engine import LmmsEngine

    ours, other = clips
    third = Clip(other.path.with_name("third.mp4"), other.manifest)
    shutil.copyfile(other.path, third.path)
    engine = LmmsEngine(Reading(), EngineIdentity("reading", "reading", None, {}), batch)
    asks = [Ask(name, "?", clip, GenerationArguments(8)) for name, clip in (("a", ours), ("b", third))]
    assert [numbers(clip.frames())[-1] for clip in (ours, third)] == [9, 29]
    attack.make(ours.path, other.path)

    def right(replies: dict[int, Reply | Failure]) -> bool:
        refused, reply = replies[0], replies[1]
        return (
            isinstance(refused, Failure)
            and refused.reason == "unsupported_video"
            and str(ours.path) in refused.message
            and isinstance(reply, Reply)
            and reply.text == str(list(other.manifest.indices))
        )

    attacked(lambda: dict(engine.answer(asks)), right=right)


@pytest.mark.parametrize("attack", named(FILE), ids=lambda attack: attack.name)
def test_no_server_gets_the_path_of_a_changed_clip(
    clips: tuple[Clip, Clip], attacked: Callable[..., None], attack: Attack
) -> None:
    from egost.model_adapters.server.server_requests import file_part

    ours, other = clips
    assert file_part(ours)["video_url"]["url"].endswith("clip.mp4")
    attack.make(ours.path, other.path)
    attacked(lambda: file_part(ours), CHANGED)


@pytest.mark.parametrize("attack", named(FILE), ids=lambda attack: attack.name)
def test_a_changed_control_is_written_again(
    clips: tuple[Clip, Clip], attacked: Callable[..., None], attack: Attack
) -> None:
    ours, other = clips
    control = altered_clip(ours, "reversed")
    attack.make(control.path, other.path)
    attacked(
        lambda: altered_clip(ours, "reversed"),
        right=lambda clip: clip == control and numbers(clip.frames()) == numbers(ours.frames())[::-1],
    )


@pytest.mark.parametrize("attack", named((*FILE, *FOLDER[1:])), ids=lambda attack: attack.name)
def test_the_command_names_a_changed_clip(
    clips: tuple[Clip, Clip], attacked: Callable[..., None], attack: Attack
) -> None:
    ours, other = clips
    # A third clip stays as it is.
    write_video(ours.path.parents[4] / "50.mp4", 50)
    get_clip(ours.path.parents[4] / "50.mp4", UNIFORM)
    sound = CliRunner().invoke(app, ["clips", "verify"])
    assert sound.exit_code == 0 and "3 of 3 clips" in sound.output
    attack.make(ours.path, other.path)
    bad = 2 if attack.make is moved else 1

    def right(result: Any) -> bool:
        return (
            result.exit_code == 1
            and result.output.count(str(ours.path.parent)) >= 1
            and f"{3 - bad} of 3 clips" in result.output
        )

    attacked(lambda: CliRunner().invoke(app, ["clips", "verify"]), right=right)


def test_a_sound_clip_is_read_once(clips: tuple[Clip, Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = clips
    read = []
    monkeypatch.setattr(
        "egost.tasks.clips.clips.lossless_sha256", lambda path: read.append(path) or lossless_sha256(path)
    )
    for _ in range(50):
        ours.check()
    assert not read, "what was just written needs no look"
    os.utime(ours.path)
    for _ in range(50):
        ours.check()
    assert read == [ours.path]
    assert np.array_equal(ours.frames(), read_lossless(ours.path))
