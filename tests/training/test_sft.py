"""Fine-tuning on a real tiny model: what is taught, what is seen, and the losses of the first steps."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path

import pytest
from places import GOLDEN as FOLDER
from video_runs import World, logged, make_world

from egost.tasks.release.release import open_release
from egost.training import sft
from egost.training.sft import IGNORED

GOLDEN = FOLDER / "training" / "sft.json"
FIGURES = ("loss", "grad_norm", "mean_token_accuracy", "entropy", "learning_rate")


@pytest.fixture
def flags(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from sft_runs import sft_flags

    monkeypatch.setenv("EGOST_MINI_DATA", str(world.root))
    return sft_flags(world, tmp_path)


def test_the_labels_are_the_answer_and_its_end(flags: list[str], world: World) -> None:
    import torch
    from sft_runs import make

    _, data = make(flags)
    batch = sft.collate(data, [{"row": row} for row in range(3)])
    assert len(set(map(len, (sft.taught(data, row).input_ids for row in range(3))))) > 1
    for row, labels in enumerate(batch["labels"]):
        taught = labels != IGNORED
        decoded = world.processor.tokenizer.decode(labels[taught])
        assert decoded == world.rows[row].solution + "<|im_end|>"
        assert torch.equal(batch["input_ids"][row][taught], labels[taught])
        length = len(world.shown[row].prompt_ids)
        assert tuple(batch["input_ids"][row][:length].tolist()) == world.shown[row].prompt_ids
        assert not taught[:length].any()
        assert not taught[int(batch["attention_mask"][row].sum()) :].any()


def test_the_loss_is_the_cross_entropy_of_the_answer(flags: list[str]) -> None:
    import torch
    from sft_runs import make

    trainer, data = make(flags)
    batch = sft.collate(data, [{"row": row} for row in range(3)])
    model = trainer.model.eval()
    with torch.no_grad():
        found = trainer.compute_loss(model, dict(batch))
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**inputs).logits[:, :-1]
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED
    )
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_another_clip_gives_another_loss(flags: list[str]) -> None:
    import torch
    from sft_runs import make

    trainer, data = make(flags)
    batch = next(iter(trainer.get_train_dataloader()))
    assert {"pixel_values_videos", "video_grid_thw", "mm_token_type_ids"} <= set(batch)
    swapped = dataclasses.replace(data, clips=(data.clips[1], *data.clips[1:]))
    model = trainer.model.eval()
    with torch.no_grad():
        own, again, other = (
            trainer.compute_loss(model, sft.collate(d, [{"row": 0}])).item() for d in (data, data, swapped)
        )
    assert own == again
    assert abs(own - other) > 1e-4


def figures(world: World, folder: Path) -> dict[str, list[float]]:
    """The figures of four steps of two rows, all weights trained."""
    from sft_runs import make, sft_flags

    trainer, _ = make(sft_flags(world, folder, max_steps=4, per_device_train_batch_size=2))
    trainer.train()
    return {name: logged(trainer, name) for name in FIGURES}


def test_the_first_steps_are_as_stored(flags: list[str], world: World, tmp_path: Path) -> None:
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = figures(world, tmp_path)
    for name in FIGURES:
        assert found[name] == pytest.approx(stored[name], rel=1e-4, abs=1e-7), name
    assert stored["loss"][-1] < stored["loss"][0]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made_world = make_world(Path(folder))
        os.environ["EGOST_MINI_DATA"] = str(made_world.root)
        open_release.cache_clear()
        made = figures(made_world, Path(folder))
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def test_a_log_gets_a_line_a_minute_of_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """A resumed run at step 10 of 20, 30 s a step: lines at steps 12 and 14."""
    from types import SimpleNamespace

    from egost.training.resumable_run import StepLines

    now = [0.0]
    lines = StepLines(lambda: now[0])
    state = SimpleNamespace(max_steps=20, global_step=10, is_world_process_zero=True)
    lines.on_train_begin(None, state, None)
    for _ in range(4):
        now[0] += 30.0
        lines.on_step_end(None, state, None)
    said = [line.split(", ")[:2] for line in capsys.readouterr().err.splitlines()]
    assert said == [[f"egost: training: {step} of 20 steps", "0.033 steps/s"] for step in (12, 14)]
