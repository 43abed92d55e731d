"""`egost construct` as a user types it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from judge_server import serve_judge
from mini_annotations import annotated_folder
from option_writers import good_reply
from typer.testing import CliRunner
from video_files import write_video

from egost.commands.construct import construct_app
from egost.tasks.construction.workfolder import read_lines, write_lines
from egost.tasks.mini_world.steps import ClipTruth
from egost.tasks.text_files import csv_rows


def construct(*arguments: object) -> tuple[int, str]:
    """Exit code and all that was printed, as one line."""
    done = CliRunner().invoke(construct_app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def test_clips_and_annotations_go_in(tmp_path: Path) -> None:
    write_video(tmp_path / "walk.mp4", 20)
    spec, out = tmp_path / "spec.json", tmp_path / "out"
    cut = {"file": "walk.mp4", "start": 0, "end": 0.6, "source": "own", "scene": "indoor_multi"}
    spec.write_text(json.dumps([cut]))
    code, said = construct("clips", spec, out, "--workers", 1)
    assert code == 0 and "1 of 1 clips" in said and "│ own │ 1 │ 0.6" in said
    assert (out / "lengths.png").read_bytes().startswith(b"\x89PNG")
    spec.write_text(json.dumps([cut, {**cut, "start": 0.7, "end": 5}]))
    code, said = construct("clips", spec, out, "--workers", 1)
    assert code == 1 and "beyond_end own_walk_0.7s.mp4" in said and "1 of 2 clips" in said
    spec.write_text(json.dumps([{**cut, "file": "nowhere.mp4"}]))
    code, said = construct("clips", spec, out)
    assert code == 2 and "missing_file" in said
    table = tmp_path / "steps.csv"
    head = "clip,annotator,scene,way,time_s,direction,landmark,action"
    table.write_text(f"{head}\nown_walk.mp4,ana,indoor_multi,forward,0.2,left,red door,\n")
    code, said = construct("annotate", out, "--import", table)
    assert code == 0 and "imported: 1 annotations; 1 of 1 clips are annotated" in said
    table.write_text(f"{head}\nown_walk.mp4,ana,indoor_multi,forward,0.2,left,,\n")
    code, said = construct("annotate", out, "--import", table)
    assert code == 2 and "no_landmark (forward step 1)" in said


def test_a_folder_of_videos_becomes_a_list_to_be_completed(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    (videos / "sun3d").mkdir(parents=True)
    write_video(videos / "sun3d" / "walk.mp4", 20)
    write_video(videos / "a, b.MOV.mp4", 20)
    (videos / "notes.txt").write_text("no video")
    code, said = construct("clips", videos, out)
    assert code == 0 and f"2 videos of {videos} are in {out}/clips.csv" in said
    assert f"Then: egost construct clips {out}/clips.csv {out}" in said and "indoor_multi through" in said
    rows = csv_rows(out / "clips.csv")
    assert [(row["file"], row["source"], row["scene"]) for row in rows] == [
        ("../videos/a, b.MOV.mp4", "videos", ""),
        ("../videos/sun3d/walk.mp4", "sun3d", ""),
    ]
    code, said = construct("clips", out / "clips.csv", out)
    assert code == 2 and "clip 1" in said and "expected one of outdoor_street" in said
    code, said = construct("clips", videos, out)
    assert code == 2 and "is there already, and is not written anew" in said

    (out / "clips.csv").unlink()
    assert construct("clips", videos, out, "--scene", "indoor_single")[0] == 0
    code, said = construct("clips", out / "clips.csv", out, "--workers", 1)
    assert code == 0 and "2 of 2 clips" in said
    code, said = construct("clips", videos, tmp_path / "other", "--scene", "moon")
    assert code == 2 and "the scene is 'moon'; expected one of" in said
    (tmp_path / "empty").mkdir()
    code, said = construct("clips", tmp_path / "empty", tmp_path / "other")
    assert code == 2 and "holds no video (.mp4, .mov" in said


def test_questions_are_written_and_calibrated(
    tmp_path: Path, truths: list[ClipTruth], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EGOST_JUDGE_KEY", raising=False)
    folder = annotated_folder(tmp_path / "out", 0, truths[:10])
    code, said = construct("questions", folder.root)
    assert code == 0 and "│ route_reverse │ 10 │" in said
    code, said = construct("calibrate", folder.root)
    assert code == 0 and "0 dropped" in said and "text_floor all" in said and "too few clips" in said
    assert "10 clips are kept. 10 clips with questions of a kind are enough" in said
    assert re.search(r"some \d+ clips like these show a difference of 10 points between two models", said)
    assert said.rstrip().endswith(f"Next: egost construct publish {folder.root} RELEASE --name NAME")
    code, said = construct("publish", folder.root, tmp_path / "release")
    assert code == 2 and "egost: the clip" in said and "is missing" in said
    rows = read_lines(folder.questions)
    for row in rows:
        if row["options"]:
            row["options"].insert(0, row["options"].pop("ABCD".index(row["answer"])))
            row["answer"] = "A"
    write_lines(folder.questions, rows)
    code, said = construct("calibrate", folder.root)
    assert code == 1 and re.search(r"letter_bias all \d+ 100\.0 .* gives answers away", said)
    with serve_judge(script=lambda ask: f"say:{good_reply(ask)}") as server:
        code, said = construct("questions", folder.root, "--writer", f"openai:judge-model@{server.url}")
    assert code == 0 and f"replies kept: {len(server.asks)}, " in said and "no price known" in said
    code, said = construct("questions", folder.root, "--writer", "llama")
    assert code == 2 and "--writer: No model 'llama'" in said
