"""Which samples count as trained on, and what is said of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from loguru import logger

from egost.tasks.errors import ReleaseError
from egost.tasks.release.release import Release, SampleIndex, mini_revision
from egost.tasks.release.trained_on import (
    note_model,
    note_served,
    noted_manifests,
    overlap_metadata,
    published_training,
    question_key,
    read_manifest,
    without_trained_on,
)
from egost.tasks.sample import Sample


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Release:
    root = mini_release(tmp_path_factory.mktemp("mini"), clips=4, seed=5)
    return Release("mini", (root,), mini_revision(root))


def checkpoint(folder: Path, release: Release, *, number: int = 1, **changes: object) -> Path:
    """A folder with the record of the release's first direction questions; `changes` replace parts of it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"sample": s.id, "clip_sha256": hashlib.sha256(release.clip_path(s).read_bytes()).hexdigest()}
        for s in release.samples("direction", "forward")[:number]
    ]
    record = {"world": release.world, "release_revision": release.revision, "rows": rows, **changes}
    (folder / "egost_training.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(autouse=True)
def forget() -> None:
    note_model("")


@pytest.mark.parametrize("name", ["pretrained", "model", "lora_path"])
def test_an_overlap_is_an_error_whatever_the_adapter_calls_the_folder(
    release: Release, tmp_path: Path, name: str
) -> None:
    note_model(f"device_map=cpu,{name}={checkpoint(tmp_path / 'ckpt', release)}")
    samples = release.samples("direction", "forward")
    with pytest.raises(ReleaseError, match="trained on 1 of the 4 samples of direction_forward") as caught:
        without_trained_on(release, samples)
    assert samples[0].id in str(caught.value) and "egost_training.json" in str(caught.value)
    assert without_trained_on(release, release.samples("direction", "reverse"))
    assert without_trained_on(release, release.samples("landmark", "forward"))


def test_leave_out_and_allow(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note_model({"pretrained": str(checkpoint(tmp_path / "ckpt", release))})
    samples = release.samples("direction", "forward")
    monkeypatch.setenv("EGOST_TRAINED_ON", "leave-out")
    assert without_trained_on(release, samples) == samples[1:]
    assert overlap_metadata(release)["trained_on_overlap"] == {"direction_forward": 1}
    assert overlap_metadata(release)["trained_on_parts"] == {}, "the mini world has no sources to hold out"
    monkeypatch.setenv("EGOST_TRAINED_ON", "allow")
    assert without_trained_on(release, samples) == samples
    assert overlap_metadata(release)["trained_on"] == "allow"
    monkeypatch.setenv("EGOST_TRAINED_ON", "yes")
    with pytest.raises(ReleaseError, match="expected refuse, leave-out, allow or paper"):
        without_trained_on(release, samples)


def test_nothing_left_is_an_error(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note_model({"pretrained": str(checkpoint(tmp_path / "ckpt", release, number=4))})
    monkeypatch.setenv("EGOST_TRAINED_ON", "leave-out")
    with pytest.raises(ReleaseError, match="all 4 samples of direction_forward"):
        without_trained_on(release, release.samples("direction", "forward"))


def test_ids_of_another_mini_world_are_other_samples(release: Release, tmp_path: Path) -> None:
    rows = [{"sample": s.id, "clip_sha256": "0" * 64} for s in release.index.samples]
    note_model(
        {
            "m": str(
                checkpoint(tmp_path / "c", release, release_revision="mini-1 train seed 0 clips 4", rows=rows)
            )
        }
    )
    assert len(without_trained_on(release, release.samples("direction", "forward"))) == 4


def test_the_same_clip_under_another_name_and_release_is_found(release: Release, tmp_path: Path) -> None:
    [root] = release.roots
    copied = tmp_path / "copy"
    shutil.copytree(root, copied)
    first = release.samples("direction", "forward")[0]
    rows = [
        {
            "sample": "Part9/direction_forward/other",
            "clip_sha256": hashlib.sha256(release.clip_path(first).read_bytes()).hexdigest(),
            "world": "official",
            "release_revision": "abc",
        }
    ]
    note_model({"pretrained": str(checkpoint(tmp_path / "ckpt", release, rows=rows))})
    other = Release("mini", (copied,), "another")
    with pytest.raises(ReleaseError, match=first.id):
        without_trained_on(other, other.samples("direction", "forward"))
    assert without_trained_on(other, other.samples("direction", "reverse"))


def test_a_model_without_a_record_is_not_held_up(release: Release, tmp_path: Path) -> None:
    for given in ("pretrained=Qwen/Qwen2-VL-7B-Instruct", f"pretrained={tmp_path}", "a=b,c", ""):
        note_model(given)
        assert len(without_trained_on(release, release.samples("direction", "forward"))) == 4
        assert overlap_metadata(release) == {}


def test_a_checkpoint_of_the_hub_is_looked_up_in_its_cache(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--somebody--Seer-7B"
    checkpoint(repo / "snapshots" / ("c" * 40), release)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c" * 40)
    samples = release.samples("direction", "forward")
    note_model("pretrained=somebody/Seer-7B")
    with pytest.raises(ReleaseError, match="trained on 1 of the 4 samples of direction_forward"):
        without_trained_on(release, samples)
    note_model("pretrained=somebody/Other-7B")
    assert without_trained_on(release, samples) == samples
    earlier = repo / "snapshots" / ("d" * 40)
    earlier.mkdir()
    (earlier / "config.json").write_text("{}")
    note_model(f"pretrained=somebody/Seer-7B,revision={'d' * 40}")
    assert without_trained_on(release, samples) == samples, "an earlier revision that was not trained"


def test_rows_of_the_benchmark_are_counted_by_part(release: Release, tmp_path: Path) -> None:
    samples = ("Part3/direction_forward/1", "Part3/landmark_reverse/1", "Part4/action_forward/9")
    rows = [{"sample": sample, "clip_sha256": "0" * 64, "world": "official"} for sample in samples]
    note_model(f"pretrained={checkpoint(tmp_path / 'ckpt', release, rows=rows)}")
    assert overlap_metadata(release)["trained_on_parts"] == {"Part3": 2, "Part4": 1}


COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture
def hub(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with two commits of one checkpoint: the older was trained on the first question, `main` on none."""
    from huggingface_hub import constants

    root = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    model = root / "models--someone--walker"
    checkpoint(model / "snapshots" / COMMITS[0], release)
    (model / "snapshots" / COMMITS[1]).mkdir()
    for commit in COMMITS:
        (model / "snapshots" / commit / "config.json").write_text("{}")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMITS[1])
    return model


def refused(release: Release) -> bool:
    try:
        return len(without_trained_on(release, release.samples("direction", "forward"))) < 4
    except ReleaseError:
        return True


def test_a_hub_checkpoint_is_looked_up_at_the_revision_that_is_run(hub: Path, release: Release) -> None:
    note_model("model=someone/walker")
    assert not refused(release), "main was trained on nothing"
    for given in (
        f"model=someone/walker,revision={COMMITS[0]}",
        {"model": "someone/walker", "revision": COMMITS[0]},
    ):
        note_model(given)
        assert refused(release)
    (hub / "refs" / "main").write_text(COMMITS[0])
    note_model("pretrained=someone/walker")
    assert refused(release)


def test_the_base_of_an_adapter_and_what_a_server_says_are_looked_up(
    release: Release, tmp_path: Path
) -> None:
    base = checkpoint(tmp_path / "base", release)
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    note_model(f"pretrained=someone/else,peft={lora}")
    assert refused(release)
    note_model("base_url=http://127.0.0.1:1,model=base")
    assert not refused(release), "a served name alone says nothing"
    note_served("base", str(base))
    assert refused(release)
    note_model("base_url=http://127.0.0.1:1")
    assert not refused(release), "what an earlier server said is forgotten"


ST_R1_NAMES = (
    "openinterx/ST-R1-mcq",
    "st-r1",
    "/data/models/ST-R1-mcq/",
    f"/cache/hub/models--openinterx--ST-R1-mcq/snapshots/{'c' * 40}",
)


@pytest.mark.parametrize("name", ST_R1_NAMES)
def test_the_released_st_r1_is_known_by_each_of_its_names(name: str) -> None:
    note_model(f"pretrained={name},device_map=cpu")
    [found] = noted_manifests()
    assert found.count == 630


def test_names_that_only_look_like_it_are_other_checkpoints() -> None:
    note_model("pretrained=openinterx/ST-R1-mcq-of-mine,model=/runs/st-r1/final,base_url=http://st-r1:8000")
    assert not noted_manifests()


def test_what_was_trained_from_the_released_st_r1_has_its_rows_too(release: Release, tmp_path: Path) -> None:
    note_model(f"model={checkpoint(tmp_path / 'further', release, base='openinterx/ST-R1-mcq')}")
    assert sorted(record.count for record in noted_manifests()) == [1, 630]
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text('{"base_model_name_or_path": "openinterx/ST-R1-mcq"}')
    note_model(f"model={lora}")
    assert [record.count for record in noted_manifests()] == [630]


def released_sample(number: int, **changes: object) -> Sample:
    """A question of the benchmark that one of the 630 released rows was cut from."""
    from egost.training.rows.released_rows import read_rows

    row = read_rows()[number]
    options = tuple(f" {option.upper()}. " for option in row.options)
    fields = {"clip": row.clip, "question": row.question, "options": options, "answer": row.letter, **changes}
    return Sample(
        id=f"Part4/{row.task}_{row.way}/{fields['clip']}-{number}",
        task=row.task,
        way=row.way,
        part=4,
        **fields,
    )  # type: ignore[arg-type]


def test_the_entry_of_st_r1_holds_each_of_the_630_rows_and_nothing_else() -> None:
    from egost.training.rows.released_rows import read_rows

    keys = {question_key(row.clip, row.way, row.options) for row in read_rows()}
    assert len(keys) == 630 and published_training()["st-r1"].questions == keys


def test_a_released_row_is_found_by_clip_way_and_options() -> None:
    record = published_training()["openinterx/st-r1-mcq"]
    official = Release("official", (), "54971f7")
    samples = [released_sample(number) for number in (0, 5, 629)]
    assert record.among(official, samples) == samples
    first = samples[0]
    for other in (
        released_sample(0, clip="another.mp4"),
        released_sample(0, options=first.options[::-1]),
        released_sample(0, options=first.options[:-1]),
    ):
        assert record.among(official, [other]) == []


def test_the_papers_protocol_leaves_st_r1s_rows_out_for_every_model(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGOST_TRAINED_ON", "paper")
    samples = release.samples("direction", "forward")
    note_model("pretrained=Qwen/Qwen2-VL-7B-Instruct")
    assert without_trained_on(release, samples) == list(samples), "the mini world holds none of them"
    official = Release("official", (), "54971f7")
    asked = [released_sample(0), released_sample(0, clip="another.mp4")]
    assert without_trained_on(official, asked) == asked[1:]
    note_model(f"pretrained={checkpoint(tmp_path / 'ckpt', release)}")
    assert without_trained_on(release, samples) == samples[1:], "a checkpoint's own rows are left out as well"
    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    assert overlap_metadata(release)["trained_on_overlap"] == {"direction_forward": 1}
    logger.remove(sink)
    choices = sum(bool(sample.options) for sample in release.index.samples)
    assert said and f"{choices - 1} of {choices} multiple-choice questions of the mini release" in said[0]


def test_the_released_rows_are_counted_by_the_parts_of_their_clips() -> None:
    official = Release("official", (), "54971f7")
    asked = (released_sample(0), replace(released_sample(1), part=3), released_sample(2, clip="another.mp4"))
    vars(official)["index"] = SampleIndex(asked, (), "0" * 64)
    note_model("pretrained=openinterx/ST-R1-mcq")
    assert overlap_metadata(official)["trained_on_parts"] == {"Part3": 1, "Part4": 1}


def test_a_row_may_name_the_release_of_an_earlier_stage(release: Release, tmp_path: Path) -> None:
    first, second, third, *_ = samples = release.samples("direction", "forward")
    other = "mini-1 train seed 0 clips 4"
    rows = [
        {"sample": first.id, "clip_sha256": "0" * 64, "release_revision": release.revision, "method": "sft"},
        {"sample": second.id, "clip_sha256": "0" * 64},
        {
            "sample": third.id,
            "clip_sha256": "0" * 64,
            "world": "official",
            "release_revision": release.revision,
        },
    ]
    folder = checkpoint(tmp_path / "c", release, release_revision=other, rows=rows)
    found = read_manifest(folder / "egost_training.json")
    assert [(row.world, row.release_revision, row.method) for row in found.rows] == [
        ("mini", release.revision, "sft"),
        ("mini", other, ""),
        ("official", release.revision, ""),
    ]
    assert found.sha256 == hashlib.sha256((folder / "egost_training.json").read_bytes()).hexdigest()
    assert found.among(release, samples) == [first], "the others are rows of other releases"


def test_rows_of_the_benchmark_count_at_any_of_its_revisions(release: Release, tmp_path: Path) -> None:
    official = Release("official", release.roots, "a revision")
    first, second, *_ = samples = release.samples("direction", "forward")
    row = {"sample": first.id, "clip_sha256": "0" * 64, "world": "official", "release_revision": "another"}
    folder = checkpoint(tmp_path / "c", release, rows=[row, {**row, "sample": second.id, "world": "mini"}])
    assert read_manifest(folder / "egost_training.json").among(official, samples) == [first]


def test_what_is_said_of_an_overlap(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = release.samples("direction", "forward")
    ids = [sample.id for sample in samples]
    for number, named in ((3, ", ".join(ids[:3]) + ". "), (4, ", ".join(ids[:3]) + ", .... ")):
        note_model(
            {"batch": 1, "x": None, "pretrained": f" {checkpoint(tmp_path / 'c', release, number=number)} "}
        )
        with pytest.raises(ReleaseError) as caught:
            without_trained_on(release, samples)
        assert (
            f"trained on {number} of the 4 samples of direction_forward in the mini release: {named}"
            in str(caught.value)
        )
    with pytest.raises(ReleaseError, match="trained on 1 of the 1 samples of direction_forward"):
        without_trained_on(release, samples[:1])
    monkeypatch.setenv("EGOST_TRAINED_ON", "allow")
    found = overlap_metadata(release)
    assert (found["trained_on"], found["trained_on_rows"]) == ("allow", 4)
    assert found["trained_on_overlap"] == {"direction_forward": 4}
    manifest = hashlib.sha256((tmp_path / "c" / "egost_training.json").read_bytes()).hexdigest()
    assert found["trained_on_sha256"] == [manifest]


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": []}', '{"world": "mini", "rows": [{}]}'])
def test_a_broken_record_is_no_leave_to_go_on(tmp_path: Path, content: str) -> None:
    path = tmp_path / "egost_training.json"
    path.write_text(content)
    with pytest.raises(ReleaseError, match="does not say what the checkpoint was trained on"):
        read_manifest(path)
