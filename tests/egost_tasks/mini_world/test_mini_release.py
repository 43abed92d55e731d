"""A mini release on disk: whole, the same again, resumable, and read by the official loader."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from places import ROOT as REPOSITORY
from video_files import read_film

from egost.tasks.errors import ReleaseError
from egost.tasks.mini_world import (
    ClipTruth,
    backwards,
    read_truths,
    way_back,
    write_mini_release,
)
from egost.tasks.mini_world.release_writer import clip_path
from egost.tasks.release.layout import QUESTION_FILES
from egost.tasks.release.release import Release, mini_revision, open_release
from egost.tasks.sample import Sample, clip_source

CLIPS = 12


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mini_release(tmp_path_factory.mktemp("mini"), clips=CLIPS, workers=1, progress=False)


@pytest.fixture
def samples(mini: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))
    open_release.cache_clear()
    release = open_release("mini")
    assert release.missing_clips(release.index.samples) == []
    assert release.index.excluded == ()
    return list(release.index.samples)


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_it_has_the_official_layout(mini: Path) -> None:
    names = set(content(mini))
    assert QUESTION_FILES | {"egost_mini.json"} == {name for name in names if name.endswith(".json")}
    videos = {name for name in names if name.endswith(".mp4")}
    assert len(videos) == CLIPS
    assert {name.split("/")[0] for name in videos} == {"part1", "part2", "part3_clip", "part4_clip"}
    assert "part4_clip/mini_test_0_0.mp4" in videos
    assert not [p for p in mini.rglob(".*") if p.name != ".egost_mini.lock"]


def test_the_loader_reads_all_eight_tasks(mini: Path, samples: list[Sample]) -> None:
    truths = read_truths(mini)
    of_part_4 = sum(t.part == 4 for t in truths.values())
    assert len(samples) == 6 * CLIPS + 2 * of_part_4
    assert {(s.task, s.way) for s in samples} == {
        (task, way) for task in ("route", "direction", "landmark", "action") for way in ("forward", "reverse")
    }
    assert all(s.source == "mini" for s in samples)


def right_items(sample: Sample) -> list[str]:
    text = sample.options[sample.letters.index(sample.answer)]
    for join in (", after that ", ", then ", "; "):
        text = text.replace(join, "|")
    return [item.removeprefix("the ").removeprefix("turn ") for item in text.split("|")]


ACTION_VERBS = {
    "crouch": "crouch",
    "tiptoe": "stretch",
    "look_up": "look up",
    "look_down": "look down",
    "light": "switch",
    "door": "open",
}


def test_answers_are_the_truth(mini: Path, samples: list[Sample]) -> None:
    truths = read_truths(mini)
    for sample in samples:
        truth, forward = truths[sample.clip], sample.way == "forward"
        turns = truth.turns if forward else way_back(truth.turns)
        panels = [str(p) for p in (truth.landmarks if forward else backwards(truth.landmarks))]
        actions = truth.actions if forward else backwards(truth.actions)
        if sample.task == "direction":
            assert right_items(sample) == list(turns)
        elif sample.task == "landmark":
            assert right_items(sample) == panels
        elif sample.task == "action":
            for told, action in zip(right_items(sample), actions, strict=True):
                assert told.startswith(ACTION_VERBS[action])
        else:
            check_route(sample.answer, list(turns), panels, list(actions))


def check_route(text: str, turns: list[str], panels: list[str], actions: list[str]) -> None:
    places = [text.index(panel) for panel in panels]
    assert places == sorted(places)
    told = [
        word.strip(".")
        for before, word in zip(text.split(), text.split()[1:], strict=False)
        if before == "turn"
    ]
    assert told == turns
    places = [text.lower().index(ACTION_VERBS[action]) for action in actions]
    assert places == sorted(places)


def test_clips_are_what_the_manifest_says(mini: Path) -> None:
    for truth in read_truths(mini).values():
        with av.open(str(clip_path(mini, truth))) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert str(stream.average_rate) == truth.rate
            assert float((stream.duration or 0) * (stream.time_base or 0)) >= 2.99
        assert read_film(clip_path(mini, truth)).shape == (truth.frames, truth.height, truth.width, 3)


def test_the_same_arguments_give_the_same_bytes_in_any_number_of_processes(
    mini: Path, tmp_path: Path
) -> None:
    write_mini_release(tmp_path / "again", clips=CLIPS, workers=2, progress=False)
    assert content(tmp_path / "again") == content(mini)


def test_a_release_that_is_complete_is_left_alone(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in mini.rglob("*.*") if path.name != ".egost_mini.lock"}
    monkeypatch.setattr("egost.tasks.mini_world.release_writer._write", None)  # Whoever renders anew fails.
    assert write_mini_release(mini, clips=CLIPS) == mini
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_was_killed_goes_on(mini: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    code = (
        "from pathlib import Path; from egost.tasks.mini_world import write_mini_release; "
        f"write_mini_release(Path({str(root)!r}), clips={CLIPS}, workers=1, progress=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    deadline = time.monotonic() + 60
    while len(list(root.rglob("*.mp4"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / "egost_mini.json").exists()
    done = {path: path.stat().st_mtime_ns for path in root.rglob("mini_*.mp4")}
    assert 3 <= len(done) < CLIPS
    write_mini_release(root, clips=CLIPS, workers=1, progress=False)
    assert content(root) == content(mini)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not list(root.rglob("*.part"))


def test_a_clip_that_was_lost_is_made_again(tmp_path: Path, mini_release: Callable[..., Path]) -> None:
    root = mini_release(tmp_path / "mini", clips=4)
    whole = content(root)
    (root / "part4_clip" / "mini_test_0_0.mp4").unlink()
    write_mini_release(root, clips=4, progress=False)
    assert content(root) == whole


def test_ctrl_c_ends_all_processes_and_the_next_run_goes_on(mini: Path, tmp_path: Path) -> None:
    root = tmp_path / "stopped"
    code = (
        "from pathlib import Path; from egost.tasks.mini_world import write_mini_release; "
        f"write_mini_release(Path({str(root)!r}), clips=400, workers=2)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while len(list(root.rglob("*.mp4"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    done = len(list(root.rglob("mini_*.mp4")))
    assert 3 <= done < 400
    with pytest.raises(ReleaseError, match="clips 400"):
        write_mini_release(root, clips=CLIPS)
    assert len(list(root.rglob("mini_*.mp4"))) == done


def test_other_parameters_are_refused(mini: Path) -> None:
    for other in ({"seed": 1}, {"split": "train"}, {"clips": 13}, {"generator": 2}):
        with pytest.raises(ReleaseError, match=r"another mini release .*Delete the folder, or name another"):
            write_mini_release(mini, **({"clips": CLIPS} | other))  # type: ignore[arg-type]


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(ReleaseError, match=r"letter.txt.*empty folder"):
        write_mini_release(tmp_path, clips=4)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["letter.txt"]


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="at least 1 clip"):
        write_mini_release(tmp_path / "a", clips=0)
    with pytest.raises(ReleaseError, match="train, test"):
        write_mini_release(tmp_path / "b", split="dev")
    with pytest.raises(ReleaseError, match="there is no mini-3; expected a generator of 1, 2"):
        write_mini_release(tmp_path / "c", generator=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReleaseError, match="cannot be written"):
        write_mini_release(tmp_path / "file" / "mini", clips=4)


def test_no_and_broken_manifests_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="egost data mini"):
        mini_revision(tmp_path)
    for text in ("{", "[]", '{"made_with": {"seed": 0}}'):
        (tmp_path / "egost_mini.json").write_text(text)
        with pytest.raises(ReleaseError, match=r"egost_mini.json is no manifest.*egost data mini"):
            read_truths(tmp_path)


def test_the_revision_tells_releases_apart(mini: Path) -> None:
    assert mini_revision(mini) == "mini-1 test seed 0 clips 12"


def test_mini_2_walks_the_same_ways_in_three_sources_and_can_hold_one_out(mini: Path, tmp_path: Path) -> None:
    from egost.training.rows.training_rows import split_rows

    root = write_mini_release(tmp_path / "mini-2", clips=6, generator=2, workers=1, progress=False)
    assert mini_revision(root) == "mini-2 test seed 0 clips 6"
    release = Release("mini", (root,), mini_revision(root))
    assert release.index.excluded == () and release.missing_clips(release.index.samples) == []
    sources = {clip: clip_source(clip) for clip in read_truths(root)}
    assert sorted(sources.values()) == 2 * ["aria_everyday"] + 2 * ["outdoor"] + 2 * ["sun3d"]
    assert {sample.source for sample in release.index.samples} == set(sources.values())
    ours, theirs = (list(read_truths(folder).values()) for folder in (root, mini))
    for a, b in zip(ours, theirs, strict=False):
        assert (a.steps, a.map_hash) == (b.steps, b.map_hash) and a.clip != b.clip
    # Corridors are mini-1's, byte for byte.
    assert clip_path(root, ours[0]).read_bytes() == clip_path(mini, theirs[0]).read_bytes()
    assert clip_path(root, ours[1]).read_bytes() != clip_path(mini, theirs[1]).read_bytes()
    choices = [sample for sample in release.index.samples if sample.task in ("direction", "landmark")]
    split = split_rows(choices, 8, seed=0, hold_out="outdoor")
    assert {s.source for s in split.train} == {"sun3d", "aria_everyday"}
    assert {s.source for s in split.test} == {"outdoor"} and len(split.test) == 8


def test_truths_survive_the_manifest(mini: Path) -> None:
    truths = read_truths(mini)
    assert all(isinstance(truth, ClipTruth) for truth in truths.values())
    first = truths["mini_test_0_0.mp4"]
    assert [step.kind for step in first.steps][0::5] == ["start", "end"] or first.steps[-1].kind == "end"
    assert all(0 <= s.time_s <= 8.2 for t in truths.values() for s in t.steps)
    entry = json.loads((mini / "egost_mini.json").read_text())["walks"][0]
    assert entry["map_hash"] == first.map_hash
