"""A published construction is a release: it loads, its clips decode, its card counts what is in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lmms_eval_command import lmms_eval, on_cpu, saved
from mini_annotations import annotated_folder, annotation_of, scene_of
from video_files import read_film

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.clips.protocols import parse_protocol
from egost.tasks.construction.annotations import to_json
from egost.tasks.construction.calibration import calibrate
from egost.tasks.construction.cutting import build_clips
from egost.tasks.construction.publication import CARD, CARD_TEXT, publish
from egost.tasks.construction.questions import write_questions
from egost.tasks.construction.workfolder import WorkFolder, import_annotations, read_lines, write_lines
from egost.tasks.construction.writers import OfflineWriter
from egost.tasks.errors import ConstructionError
from egost.tasks.mini_world import read_truths
from egost.tasks.mini_world.steps import ClipTruth
from egost.tasks.release.check import status, verify
from egost.tasks.release.layout import PART_FOLDERS
from egost.tasks.release.release import Release
from egost.tasks.sample import TASK_KINDS, WAYS


def write_inputs(mini: Path, truths: dict[str, ClipTruth], folder: Path) -> tuple[Path, Path]:
    """The list of a mini world's clips and their annotations, as somebody would hand them in."""
    spec = ["file,start,end,source,scene,licence"]
    rows = ["clip,annotator,scene,way,time_s,direction,landmark,action"]
    for truth in truths.values():
        spec.append(f"{mini}/{PART_FOLDERS[truth.part]}/{truth.clip},,,mini,{scene_of(truth)},MIT")
        annotation = annotation_of(truth)
        rows += [
            f"{truth.clip},truth,{annotation.scene},forward,{step.time_s},{step.direction},{step.landmark},{step.action}"
            for step in annotation.forward
        ]
    (folder / "spec.csv").write_text("\n".join(spec))
    (folder / "annotations.csv").write_text("\n".join(rows))
    return folder / "spec.csv", folder / "annotations.csv"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> WorkFolder:
    """A mini world's rendered walks and exact steps, gone in and calibrated."""
    root = tmp_path_factory.mktemp("built")
    mini = mini_release(root / "mini", clips=5, seed=3)
    spec, annotations = write_inputs(mini, read_truths(mini), root)
    folder = WorkFolder(root / "out")
    _, failures = build_clips(folder, spec, workers=1, progress=False)
    assert not failures
    import_annotations(folder, annotations)
    write_questions(folder, OfflineWriter(0))
    assert calibrate(folder).passed
    return folder


def test_walks_come_out_as_they_went_in(built: WorkFolder) -> None:
    mini = built.root.parent / "mini"
    for truth in read_truths(mini).values():
        row = built.clips()[truth.clip]
        assert (row.frames, row.rate, row.width, row.height) == (
            truth.frames,
            truth.rate,
            truth.width,
            truth.height,
        )
        before = read_film(mini / PART_FOLDERS[truth.part] / truth.clip).astype(int)
        after = read_film(built.clip_folder / truth.clip).astype(int)
        assert abs(before - after).mean() < 4
        assert list(built.annotations.of_clip(truth.clip)) == [annotation_of(truth)]


def test_a_release_loads_and_its_clips_decode(built: WorkFolder, tmp_path: Path) -> None:
    done = publish(built, tmp_path / "release", name="walks", progress=False)
    release = Release("official", (tmp_path / "release",), done.revision)
    found = status(release)
    assert found.complete and found.spare_clips == 0 and found.sources == {"mini": len(release.index.samples)}
    assert verify(release, parse_protocol("uniform8"), workers=1) == ([], [])
    drafts = {draft.id: draft for draft in calibrate(built).kept}
    assert len(drafts) == len(release.index.samples)
    for sample in release.index.samples:
        draft = drafts[f"{sample.task}_{sample.way}/{sample.clip}"]
        assert (sample.question, sample.answer, sample.part) == (
            draft.question,
            draft.answer,
            draft.sample().part,
        )
        assert sample.options == tuple(option.text for option in draft.options)


def test_the_card_counts_what_is_in_the_release(built: WorkFolder, tmp_path: Path) -> None:
    done = publish(built, tmp_path / "release", name="walks", progress=False)
    release = Release("official", (tmp_path / "release",), done.revision)
    card = json.loads((tmp_path / "release" / CARD).read_text())
    samples = release.index.samples
    assert (
        card["questions"] == len(samples) == sum(card["by_task"].values()) == sum(card["by_scene"].values())
    )
    choices = [sample for sample in samples if sample.options]
    assert card["by_right_letter"] == {
        letter: sum(s.answer == letter for s in choices) for letter in sorted({s.answer for s in choices})
    }
    assert sum(card["by_number_of_options"].values()) == len(choices)
    assert card["licences"] == {"mini": ["MIT"]} and card["by_source"] == {"mini": len(samples)}
    rows = built.clips().values()
    assert card["lengths_s"]["longest"] == max(row.duration_s for row in rows)
    assert card["revision"] == done.revision and done.revision.startswith("walks constructed ")
    text = (tmp_path / "release" / CARD_TEXT).read_text()
    assert "| mini | 5 | MIT |" in text and done.revision in text and "not known" in text


def test_the_eight_tasks_run_on_it(built: WorkFolder, tmp_path: Path) -> None:
    done = publish(built, tmp_path / "release", name="walks", progress=False)
    ran = lmms_eval(
        *["--tasks", "egost", *on_cpu(tiny_checkpoint(tmp_path / "tiny")), "--limit", "1", "--log_samples"],
        *["--gen_kwargs", "max_new_tokens=8", "--output_path", "runs"],
        cwd=tmp_path,
        cache=tmp_path / "cache",
        EGOST_DATA=str(tmp_path / "release"),
        EGOST_JUDGE="offline",
    )
    assert ran.returncode == 0 and (tmp_path / "runs").is_dir(), ran.stdout[-3000:] + ran.stderr[-3000:]
    results, samples = saved(tmp_path / "runs")
    tasks = {f"egost_{task}_{way}" for task in TASK_KINDS for way in WAYS}
    assert set(samples) == tasks
    for task in tasks:
        assert results["configs"][task]["metadata"]["release_revision"] == done.revision
        [row] = samples[task]
        assert row["percent"]["clip"] in built.clips() and row["percent"]["unscored"] is None


def test_a_publication_can_be_brought_up_to_date(built: WorkFolder, tmp_path: Path) -> None:
    own = WorkFolder(tmp_path / "out")
    shutil.copytree(built.root, own.root)
    first = publish(own, tmp_path / "release", name="walks", progress=False)
    rows = [row for row in read_lines(own.questions) if row["scene"] != "outdoor_street"]
    write_lines(own.questions, rows)
    with pytest.raises(ConstructionError, match="have changed since they were calibrated"):
        publish(own, tmp_path / "release", name="walks", progress=False)
    calibrate(own)
    second = publish(own, tmp_path / "release", name="walks", progress=False)
    assert second.revision != first.revision
    assert not list((tmp_path / "release" / "part1").iterdir())
    release = Release("official", (tmp_path / "release",), "x")
    assert status(release).spare_clips == 0 and len(release.index.samples) == len(rows)


def test_what_is_not_ready_is_refused(built: WorkFolder, tmp_path: Path, truths: list[ClipTruth]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ConstructionError, match=r"is not empty \(for example thesis\.txt\)"):
        publish(built, tmp_path / "full", name="walks")
    with pytest.raises(ConstructionError, match=r"letters, digits"):
        publish(built, tmp_path / "release", name="a/b")
    publish(built, tmp_path / "release", name="walks", progress=False)
    with pytest.raises(ConstructionError, match="holds the release 'walks', not 'others'"):
        publish(built, tmp_path / "release", name="others")
    folder = annotated_folder(tmp_path / "out", 0, truths[:12])
    write_questions(folder, OfflineWriter(0))
    with pytest.raises(ConstructionError, match="is not calibrated"):
        publish(folder, tmp_path / "none", name="walks")
    rows = read_lines(folder.questions)
    for row in rows:
        if row["options"]:
            right = row["options"].pop("ABCD".index(row["answer"]))
            row["options"].insert(0, right)
            row["answer"] = "A"
    write_lines(folder.questions, rows)
    calibrate(folder)
    with pytest.raises(ConstructionError, match=r"letter_bias \(all\).*--with-findings"):
        publish(folder, tmp_path / "none", name="walks")
    with pytest.raises(ConstructionError, match=r"the clip .* is missing"):
        publish(folder, tmp_path / "none", name="walks", with_findings=True)
    assert not (tmp_path / "none").exists()


def test_an_import_takes_all_or_nothing(tmp_path: Path, truths: list[ClipTruth]) -> None:
    folder = annotated_folder(tmp_path / "out", 0, truths[:3])
    shutil.rmtree(folder.annotations.folder)
    good = [to_json(annotation_of(truth)) for truth in truths[:4]]
    good[1]["forward"][0]["landmark"] = ""
    good[2]["scene"] = next(s for s in ("indoor_single", "indoor_multi") if s != good[2]["scene"])
    file = tmp_path / "all.json"
    file.write_text(json.dumps(good))
    with pytest.raises(ConstructionError) as caught:
        import_annotations(folder, file)
    for said in ("3 problems", "unknown_clip", "other_scene", "no_landmark (forward step 1)"):
        assert said in str(caught.value)
    assert not list(folder.annotations.all())
    file.write_text(json.dumps(good[0]))
    assert import_annotations(folder, file) == [annotation_of(truths[0])]
    file.write_text(json.dumps([good[0], good[0]]))
    with pytest.raises(ConstructionError, match="twice"):
        import_annotations(folder, file)
    csv = tmp_path / "some.csv"
    csv.write_text("clip,annotator\na.mp4,ana\n")
    with pytest.raises(ConstructionError, match="lacks the columns action, direction"):
        import_annotations(folder, csv)
    with pytest.raises(ConstructionError, match="cannot be read"):
        import_annotations(folder, tmp_path / "nowhere.csv")
