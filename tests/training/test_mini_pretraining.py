"""Pre-training of the embedded checkpoint: its tokenizer, its packed lessons, and a run that is killed."""

from __future__ import annotations

import configparser
import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from places import ROOT
from pretraining import films
from pretraining.lessons import (
    film_lesson,
    listing_lesson,
    notes_lesson,
    options_lesson,
    retelling_lesson,
    turning_lesson,
    wording_lesson,
)
from pretraining.packing import collate, pack, token_grid
from pretraining.vocabulary import make_tokenizer

from egost.model_adapters.tiny_checkpoint import small_processor
from egost.tasks.mini_world.steps import LANDMARKS
from egost.tasks.mini_world.walks import plan_clip
from egost.training import TrainingError

if TYPE_CHECKING:
    from pretraining.batches import Recipe


def quick() -> Recipe:
    """A recipe of few steps."""
    from pretraining.batches import Recipe

    return Recipe(
        text=3, sight=2, both=4, echoes=2, texts=6, texts_beside=3, films=1, pool=4, warm_up=2, fall=2
    )


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


def test_the_tokenizer_encodes_any_text_and_names_in_one_token(tokenizer: Any) -> None:
    for text in (
        "Turn left at the Süßwarenladen, 東京 \N{PANDA FACE}\n\n x\t",
        "<think>a</think> <answer>B</answer>",
    ):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    for panel in LANDMARKS:
        assert len(tokenizer(f" {panel}").input_ids) == 1
    assert [tokenizer.decode([t]) for t in tokenizer("</think> <answer>B").input_ids] == [
        "</think>",
        " ",
        "<answer>",
        "B",
    ]


def test_a_packed_branch_is_computed_as_if_it_stood_alone(tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from pretraining.model import fresh_model, read, see

    model, processor = fresh_model(tokenizer, 0).eval(), small_processor(tokenizer)
    video = model.config.video_token_id
    for number in (0, 3):
        frames = films.film(tmp_path, number)
        lesson = film_lesson(
            np.random.default_rng(number), films.plan(number).truth, number, direct=2, in_words=2, listed=1
        )
        row = pack(tokenizer, lesson, token_grid(frames), video)
        batch = collate([row], tokenizer.pad_token_id)
        with torch.no_grad():
            hidden = read(model, batch, see(model, [frames]))[0][0]
            for place in (0, 3, len(lesson.branches) - 1):
                text = "".join(piece.text for piece in (*lesson.opening, *lesson.branches[place]))
                film = torch.from_numpy(frames).permute(0, 3, 1, 2)
                alone = model.model(**processor(text=[text], videos=[film], return_tensors="pt"))
                packed = hidden[torch.from_numpy(row.branch == place + 1)]
                torch.testing.assert_close(
                    alone.last_hidden_state[0, -len(packed) :], packed, rtol=1e-3, atol=1e-4
                )


def test_the_letter_is_that_of_the_one_option_that_agrees_throughout(tokenizer: Any) -> None:
    rng = np.random.default_rng(0)
    for alike in (True, False):
        for _ in range(30):
            lesson = options_lesson(rng, alike)
            row = pack(tokenizer, lesson, None, -1)
            for place, branch in enumerate(lesson.branches[:-1], start=1):
                agrees = row.agrees[row.branch == place]
                throughout = (agrees[agrees[:, 0] >= 0] == 1).all(axis=0)
                assert throughout.sum() == 1
                assert branch[-1].text == f"{'ABCD'[int(throughout.argmax())]}<|im_end|>"


def test_the_words_of_an_answer_are_those_of_its_letter() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        lesson = notes_lesson(rng)
        asked = lesson.opening[0].text
        for branch in lesson.branches:
            words, letter = branch[-2].text.split(": ")[1], re.search("[A-D]", branch[-1].text)[0]  # type: ignore[index]
            assert f"\n{letter}. {words}\n" in asked


def test_each_item_of_an_option_is_bound_to_letter_and_place(tokenizer: Any) -> None:
    truth = films.plan(0).truth
    lesson = film_lesson(np.random.default_rng(1), truth, 0, direct=1, in_words=0, listed=0)
    row = pack(tokenizer, lesson, (4, 4), tokenizer.convert_tokens_to_ids("<|video_pad|>"))
    options = [line.split(". ", 1) for line in lesson.branches[-1][0].text.splitlines() if line[1:3] == ". "]
    answer = lesson.branches[-1][-1].text[0]
    named = row.bound[:, 0] >= 0
    found: dict[int, list[str]] = {}
    for token, (option, place), true in zip(
        row.tokens[named], row.bound[named], row.true[named], strict=True
    ):
        assert place == len(found.setdefault(int(option), []))
        found[int(option)].append(tokenizer.decode([int(token)]).strip())
        if "ABCD"[option] == answer:
            assert true == 1
    assert len(found) == len(options)
    for (letter, text), (option, items) in zip(options, found.items(), strict=True):
        assert "ABCD"[option] == letter
        assert all(item in text for item in items)


def test_what_is_listed_is_what_the_route_tells_and_is_counted(tokenizer: Any) -> None:
    for seed in range(20):
        lesson = listing_lesson(np.random.default_rng(seed))
        route = lesson.opening[-1].text
        turns, turns_back, panels, panels_back = (
            re.findall(kind, branch[-1].text)
            for branch, kind in zip(
                lesson.branches, 2 * ["left|right|around"] + 2 * [r"\w+ \w+ panel"], strict=False
            )
        )
        assert panels == panels_back[::-1]
        mirror = {"left": "right", "right": "left", "around": "around"}
        assert turns == [mirror[turn] for turn in reversed(turns_back)]
        assert set(re.findall(r"\w+ \w+ panel", route)) == set(panels)
        assert re.findall("left|right|around", route) in (turns, turns_back)
        row = pack(tokenizer, lesson, None, -1)
        told = row.branch == 0
        actions = 4 - len(turns) if len(lesson.branches) == 6 else 0
        assert sorted(row.bound[told & (row.bound[:, 1] >= 0), 1]) == sorted(
            [*range(len(turns)), *range(len(panels)), *range(actions)]
        )


def test_no_lesson_reasons() -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        lessons = [
            options_lesson(rng, alike=True),
            notes_lesson(rng),
            retelling_lesson(rng),
            film_lesson(rng, films.plan(number).truth, number, 1, 1, 1),
            listing_lesson(rng),
            turning_lesson(rng),
            wording_lesson(rng),
        ]
        texts = [piece.text for lesson in lessons for branch in lesson.branches for piece in branch]
        assert not any("<think>" in text for text in texts)


def test_the_labels_of_the_frames_are_the_truth() -> None:
    from pretraining.perception import KINDS, frame_labels, frame_order

    truth = films.plan(0).truth
    labels = frame_labels(truth)
    assert labels.shape == (8, 5)
    assert labels[0, 0] == KINDS.index("start")
    assert labels[-1, 0] == KINDS.index("end")
    assert (labels[:, 3] >= 0).sum() == len(truth.turns)
    assert (labels[:, 1] >= 0).sum() == len(truth.landmarks)
    assert (labels[:, 4] >= 0).sum() == len(truth.actions)
    order = frame_order(truth)
    assert order[labels[:, 1] >= 0].tolist() == list(range(len(truth.landmarks)))
    assert order[labels[:, 3] >= 0].tolist() == list(range(len(truth.turns)))


def test_a_film_shows_what_the_clips_file_shows(tmp_path: Path) -> None:
    from video_files import read_film

    from egost.tasks.mini_world.raycast import render, write_film
    from egost.tasks.mini_world.walks import shown_frames

    walk = next(p for p in map(films.plan, range(20)) if (p.truth.width, p.truth.height) == (112, 112))
    path = tmp_path / "walk.mp4"
    write_film(path, render(walk), 10)  # type: ignore[arg-type]
    shown = read_film(path)[shown_frames(walk.truth.frames)].astype(int)
    kept = films.film(tmp_path / "films", walk.number).astype(int)
    assert kept.shape == shown.shape
    assert np.abs(kept - shown).mean() < 3


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    import torch
    from pretraining.pretrain import pretrain

    torch.set_num_threads(1)
    recipe = quick()
    whole = pretrain(recipe, tmp_path / "whole", tmp_path / "films", every=1)
    script = (
        "import torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from pretraining.pretrain import pretrain, Recipe\n"
        f"pretrain({recipe!r}, Path({str(tmp_path / 'killed')!r}), Path({str(tmp_path / 'films')!r}), every=1)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests" / "support")}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as run:
        state = tmp_path / "killed" / "state.pt"
        until = time.monotonic() + 300
        while not state.exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    resumed = pretrain(recipe, tmp_path / "killed", tmp_path / "films", every=1)
    logs = []
    for folder in (whole.parent, resumed.parent):
        with (folder / "log.csv").open(newline="") as file:
            logs.append([{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)])
    assert [row["step"] for row in logs[0]] == [str(step) for step in range(recipe.steps)]
    for one, other in zip(*logs, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if name == "stage" or not value or not other[name]:
                assert value == other[name]
            else:
                assert float(value) == pytest.approx(float(other[name]), rel=1e-4, nan_ok=True)


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    from pretraining.batches import Recipe
    from pretraining.pretrain import pretrain

    quick = Recipe(text=1, sight=0, both=0, texts=4)
    pretrain(quick, tmp_path / "run", tmp_path / "films")
    with pytest.raises(TrainingError, match="seed 0"):
        pretrain(
            Recipe(seed=1, text=1, sight=0, both=0, texts=4),
            tmp_path / "run",
            tmp_path / "films",
        )


def test_pretraining_walks_are_no_test_walks() -> None:
    taught = {films.plan(number).truth.map_hash for number in range(-300, 300)}
    for seed in (0, films.SEED, films.SEED + 1):
        assert taught.isdisjoint(plan_clip(seed, "test", number).truth.map_hash for number in range(300))


def test_nothing_that_is_installed_imports_pretraining() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = setup["options"]["packages"].split()
    assert "egost.training.rows" in packages and not [name for name in packages if "pretraining" in name]
    for room in setup["options"]["package_dir"].split("\n"):
        folder = ROOT / room.partition("=")[2].strip()
        for path in folder.rglob("*.py") if room else ():
            assert not re.search(r"^\s*(from|import) pretraining\b", path.read_text(), re.MULTILINE)
