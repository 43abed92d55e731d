from __future__ import annotations

import json
import os
import random
import shutil
import time
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from release_files import choice_entry, write_video

from egost.tasks.cache import write_whole
from egost.tasks.errors import CacheError, ClipError, ReleaseError
from egost.tasks.release.layout import PART_FOLDERS
from egost.tasks.release.release import Release, open_release, release_in


def opened(root: Path) -> Release:
    return Release("official", (root,), "local")


def test_reads_a_whole_release(release_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_DATA", str(release_folder))
    release = open_release("official")
    assert len(release.index.samples) == 52
    for sample in release.index.samples:
        assert release.clip_path(sample) == release_folder / PART_FOLDERS[sample.part] / sample.clip
    assert [s.part for s in release.samples("direction", "reverse")] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_part_folders_that_are_links_are_followed(release_folder: Path, tmp_path: Path) -> None:
    """Clips on another disk: each part a link, one of them two links away, and question files behind a link, too."""
    apart = opened(release_folder).clips
    for number, folder in enumerate(PART_FOLDERS.values()):
        (release_folder / folder).rename(tmp_path / f"disk{number}")
        (release_folder / folder).symlink_to(tmp_path / f"disk{number}")
    (tmp_path / "questions").mkdir()
    for path in release_folder.glob("Part*.json"):
        path.rename(tmp_path / "questions" / path.name)
    (release_folder / "json").symlink_to(tmp_path / "questions")
    (tmp_path / "other name").symlink_to(release_folder / "part1")
    (release_folder / "part1").unlink()
    (release_folder / "part1").symlink_to(tmp_path / "disk0")
    release = opened(release_folder)
    assert release.clips == apart
    assert len(release.index.samples) == 52 and not release.missing_clips(release.index.samples)


@pytest.mark.parametrize(
    "links",
    [
        {"part1/up": "."},
        {"part1/itself": "part1"},
        {"part1/there": "part2", "part2/back": "part1"},
        {"a": "b", "b": "a"},
        {"again": "."},
        {f"part{k}/to{n}": f"part{n}" for k in (1, 2) for n in (1, 2)},
        {f"many/{k}/{n}": f"many/{n}" for k in range(9) for n in range(9)},
    ],
    ids=["up", "itself", "each other", "to nothing", "root", "both", "nine to nine"],
)
def test_links_that_lead_in_a_circle_end(release_folder: Path, links: dict[str, str]) -> None:
    for name, target in links.items():
        (release_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (release_folder / target).parent.mkdir(parents=True, exist_ok=True)
        (release_folder / name).symlink_to(release_folder / target)
    release = opened(release_folder)
    assert len(release.index.samples) == 52
    for sample in release.index.samples:
        path = release_folder / PART_FOLDERS[sample.part] / sample.clip
        assert release.clip_path(sample).samefile(path)


def test_two_parts_that_are_links_to_one_folder(release_folder: Path) -> None:
    for path in (release_folder / "part2").iterdir():
        path.rename(release_folder / "part1" / path.name)
    (release_folder / "part2").rmdir()
    (release_folder / "part2").symlink_to("part1")
    release = opened(release_folder)
    assert not release.missing_clips(release.index.samples)


def test_nothing_there_names_the_two_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReleaseError, match=r"egost data download[\s\S]*egost data mini"):
        open_release("official")
    with pytest.raises(ReleaseError, match="egost data mini"):
        open_release("mini")
    monkeypatch.setenv("EGOST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ReleaseError, match="nowhere"):
        open_release("official")


def test_half_the_question_files(release_folder: Path) -> None:
    (release_folder / "Part2_reverse_mcq.json").unlink()
    with pytest.raises(ReleaseError, match=r"1 of 26 question files are missing.*Part2_reverse_mcq\.json"):
        opened(release_folder).samples("route", "forward")


def test_half_the_clips(release_folder: Path) -> None:
    (release_folder / "part2" / "21.mp4").unlink()
    release = opened(release_folder)
    with pytest.raises(ReleaseError, match=r"1 of 8 clips are missing.*part2/21\.mp4.*egost data download"):
        release.samples("route", "forward")


def test_one_missing_clip_among_many_leaves_its_samples_to_be_unscored(
    questions: Callable[..., Path],
) -> None:
    numbers = [str(n) for n in range(100)]
    root = questions(Part1_forward_mcq={n: choice_entry("forward", f"{n}.mp4") for n in numbers})
    for path in root.glob("*.json"):
        if path.name != "Part1_forward_mcq.json":
            path.write_text("{}")
    for n in numbers[1:]:
        (root / "part1").mkdir(exist_ok=True)
        (root / "part1" / f"{n}.mp4").touch()
    release = opened(root)
    samples = release.samples("direction", "forward")
    assert len(samples) == 100 and release.missing_clips(samples) == ["part1/0.mp4"]
    with pytest.raises(ClipError, match=r"Part1/direction_forward/0.*part1") as caught:
        release.clip_path(samples[0])
    assert caught.value.reason == "missing"


def test_a_name_that_two_parts_share(release_folder: Path) -> None:
    for part in (1, 2):
        content = {"1": choice_entry("forward", "128.mp4")}
        (release_folder / f"Part{part}_forward_mcq.json").write_text(json.dumps(content))
        (release_folder / PART_FOLDERS[part] / "128.mp4").write_bytes(b"%d" % part)
    release = opened(release_folder)
    samples = [s for s in release.index.samples if s.clip == "128.mp4"]
    assert [release.clip_path(s).read_bytes() for s in samples] == [b"1", b"2"]


def test_clips_that_lie_flat(release_folder: Path) -> None:
    for folder in PART_FOLDERS.values():
        for path in (release_folder / folder).iterdir():
            path.rename(release_folder / path.name)
        (release_folder / folder).rmdir()
    release = opened(release_folder)
    assert not release.missing_clips(release.index.samples)
    assert release.clip_path(release.index.samples[0]).parent == release_folder


def test_clips_in_archives(release_folder: Path, own_cache: Path) -> None:
    folder = release_folder / "part3_clip"
    with zipfile.ZipFile(release_folder / "part3_clip.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
            path.unlink()
    release = opened(release_folder)
    assert not release.missing_clips(release.index.samples)
    sample = next(s for s in release.index.samples if s.part == 3)
    assert own_cache in release.clip_path(sample).parents


@pytest.mark.parametrize("inner", ["", "deep/"])
def test_archives_of_one_name_in_two_part_folders(release_folder: Path, inner: str) -> None:
    for part in (1, 2):
        folder = release_folder / PART_FOLDERS[part]
        (release_folder / f"Part{part}_forward_mcq.json").write_text(
            json.dumps({"1": choice_entry("forward", "1.mp4")})
        )
        with zipfile.ZipFile(folder / "clips.zip", "w") as archive:
            archive.writestr(f"{inner}1.mp4", b"%d" % part)
        # Alike in name, size and time: the place alone tells them apart.
        os.utime(folder / "clips.zip", ns=(0, 0))
    release = opened(release_folder)
    samples = [s for s in release.index.samples if s.clip == "1.mp4"]
    assert [release.clip_path(s).read_bytes() for s in samples] == [b"1", b"2"]


def test_a_link_whose_target_is_gone_is_missing(release_folder: Path) -> None:
    clip = release_folder / "part2" / "21.mp4"
    clip.unlink()
    clip.symlink_to("gone")
    release = opened(release_folder)
    assert release.missing_clips(release.index.samples) == ["part2/21.mp4"]
    questions = release_folder / "Part2_reverse_mcq.json"
    questions.unlink()
    questions.symlink_to("gone")
    with pytest.raises(ReleaseError, match=r"1 of 26 question files are missing.*Part2_reverse_mcq\.json"):
        _ = opened(release_folder).index


def test_what_is_missing_is_downloaded_to_where_it_is_looked_for(
    release_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (release_folder / "part2" / "21.mp4").unlink()
    monkeypatch.setenv("EGOST_DATA", str(release_folder))
    open_release.cache_clear()
    with pytest.raises(ReleaseError, match=f"egost data download --to {release_folder} "):
        open_release("official").samples("route", "forward")
    (tmp_path / "file").touch()
    monkeypatch.setenv("EGOST_DATA", str(tmp_path / "file"))
    open_release.cache_clear()
    with pytest.raises(ReleaseError, match="must name a folder") as caught:
        open_release("official")
    assert "--to" not in str(caught.value)


def test_a_file_that_exists_twice(release_folder: Path) -> None:
    (release_folder / "more" / "part1").mkdir(parents=True)
    (release_folder / "more" / "part1" / "11.mp4").write_bytes(b"another")
    with pytest.raises(ReleaseError, match=r"11\.mp4 exists twice"):
        opened(release_folder).clip_path(opened(release_folder).index.samples[0])
    (release_folder / "more" / "Part1_forward_qa.json").write_text("{}")
    with pytest.raises(ReleaseError, match=r"Part1_forward_qa\.json exists twice"):
        _ = opened(release_folder).index


def test_an_unknown_part(release_folder: Path) -> None:
    (release_folder / "Part5_forward_qa.json").write_text("{}")
    with pytest.raises(ReleaseError, match="Part1 to Part4"):
        _ = opened(release_folder).index


def test_a_task_without_a_sample(questions: Callable[..., Path]) -> None:
    root = questions(Part4_forward_mcq_action={})
    for path in (root / "part1", root / "part2", root / "part3_clip", root / "part4_clip"):
        path.mkdir()
        for number in (1, 2):
            (path / f"{list(PART_FOLDERS.values()).index(path.name) + 1}{number}.mp4").touch()
    with pytest.raises(ReleaseError, match="no sample of action_forward"):
        opened(root).samples("action", "forward")


def test_the_samples_follow_the_files_and_are_read_once(release_folder: Path) -> None:
    release = opened(release_folder)
    first = release.index
    content = {"1": choice_entry("forward", "11.mp4", options=[])}
    (release_folder / "Part1_forward_mcq.json").write_text(json.dumps(content))
    assert release.index is first, "a process reads a release once"
    changed = opened(release_folder).index
    assert len(changed.samples) == 50 and changed.excluded_counts == {"empty_options": 1}
    assert changed.files_sha256 != first.files_sha256


def test_a_release_is_read_without_a_cache(
    release_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    monkeypatch.setenv("EGOST_CACHE", str(tmp_path / "blocked"))
    assert len(opened(release_folder).index.samples) == 52


def test_an_index_that_an_earlier_version_kept_is_ignored(release_folder: Path, own_cache: Path) -> None:
    left_over = own_cache / "index" / f"{opened(release_folder).index.files_sha256[:32]}-v1.parquet"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"no parquet")
    assert len(opened(release_folder).index.samples) == 52
    assert left_over.read_bytes() == b"no parquet"


def test_others_may_read_a_file_of_the_cache_where_the_umask_says_so(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken" / "deep").mkdir(parents=True)
    with pytest.raises(CacheError, match="taken cannot be written: a folder of this name is in its place"):
        write_whole(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_time_of_loading_grows_no_faster_than_the_samples(
    questions: Callable[..., Path], tmp_path: Path
) -> None:
    words = random.Random(0)

    def release(n: int) -> Path:
        entry = {
            str(i): choice_entry(
                "forward", f"{i}.mp4", question=" ".join(words.choices(["left", "door", "red"], k=30))
            )
            for i in range(n)
        }
        return questions(tmp_path / str(n), Part3_forward_mcq=entry)

    def loading(root: Path, n: int) -> float:
        start = time.process_time()
        assert len(opened(root).index.samples) == n
        return time.process_time() - start

    few, many = release(500), release(5000)
    # Ten times as many would take a hundred times as long if it were quadratic. A busy machine triples no ratio.
    bound = 40 * min(loading(few, 550) for _ in range(3))
    assert any(loading(many, 5050) < bound for _ in range(3))


def packed(archive: Path, *names: str, film: Path) -> None:
    with zipfile.ZipFile(archive, "w") as handle:
        for name in names:
            handle.write(film, name)


@pytest.mark.parametrize("form", ["Part{n}.zip", "PART{n}.ZIP", "part {n}.zip", "Part{n}_clips.zip"])
def test_each_part_finds_its_own_clip_of_one_name(questions: Callable[..., Path], form: str) -> None:
    root = questions()
    for part in (1, 2):
        film = write_video(root.parent / f"{part}.mp4", seed=part)
        packed(root / form.format(n=part), "1.mp4", film=film)
    release = release_in(root, "official")
    found = {part: release.clips[PART_FOLDERS[part], "1.mp4"] for part in (1, 2)}
    for part, path in found.items():
        assert path.read_bytes() == (root.parent / f"{part}.mp4").read_bytes()


def test_names_of_macs_cameras_and_windows_are_found(questions: Callable[..., Path]) -> None:
    root = questions()
    film = write_video(root.parent / "film.mp4", seed=1)
    decomposed = unicodedata.normalize("NFD", "caf\u00e9.mp4")
    (root / "part1").mkdir()
    for name in (decomposed, "GX01.MP4", "._GX01.MP4"):
        shutil.copy(film, root / "part1" / name)
    packed(root / "part2.zip", "part2\\7.mp4", "__MACOSX/part2/._7.mp4", film=film)
    clips = release_in(root, "official").clips
    assert set(clips) == {("part1", "caf\u00e9.mp4"), ("part1", "GX01.mp4"), ("part2", "7.mp4")}
