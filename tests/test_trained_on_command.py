"""The plain lmms-eval command on a checkpoint that carries a record of its training rows."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lmms_eval_command import COMMAND, environment, lmms_eval, on_cpu, saved

from egost.model_adapters.tiny_checkpoint import tiny_checkpoint
from egost.tasks.release.release import Release, mini_revision

TASK = "egost_mini_direction_forward"
RUN = ["--tasks", TASK, "--gen_kwargs", "max_new_tokens=2", "--log_samples", "--output_path", "out"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    mini_release(folder / "mini", clips=4, seed=3)
    return folder


@pytest.fixture(scope="module")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A checkpoint whose record names one direction question of the mini world by its id and clip."""
    folder = tiny_checkpoint(tmp_path_factory.mktemp("checkpoints") / "trained")
    root = cache / "mini"
    release = Release("mini", (root,), mini_revision(root))
    samples = release.samples("direction", "forward")[:1]
    rows = [
        {"sample": s.id, "clip_sha256": hashlib.sha256(release.clip_path(s).read_bytes()).hexdigest()}
        for s in samples
    ]
    record = {"world": "mini", "release_revision": release.revision, "rows": rows}
    (folder / "egost_training.json").write_text(json.dumps(record))
    return folder, [s.id for s in samples]


def test_an_overlap_ends_the_run_and_is_named(
    cache: Path, trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    checkpoint, ids = trained
    done = lmms_eval(*RUN, *on_cpu(checkpoint), cwd=tmp_path, cache=cache)
    said = " ".join((done.stdout + done.stderr).split())
    assert f"trained on 1 of the 4 samples of direction_forward in the mini release: {ids[0]}" in said
    assert str(checkpoint / "egost_training.json") in said and "EGOST_TRAINED_ON=leave-out" in said
    assert not list(tmp_path.rglob("*_results.json"))


@pytest.mark.parametrize(("policy", "scored"), [("leave-out", 3), ("allow", 4)])
def test_the_overlap_is_left_out_or_marked(
    cache: Path, trained: tuple[Path, list[str]], tmp_path: Path, policy: str, scored: int
) -> None:
    checkpoint, _ = trained
    adapter = on_cpu(checkpoint)
    if policy == "allow":
        given = f"adapter=qwen2_vl,device_map=cpu,pretrained={checkpoint}"
        adapter = ["--model", "egost_journal", "--device", "cpu", "--model_args", given]
    done = lmms_eval(*RUN, *adapter, cwd=tmp_path, cache=cache, EGOST_TRAINED_ON=policy)
    results, samples = saved(tmp_path / "out")
    assert len(samples[TASK]) == scored, done.stderr[-2000:]
    metadata = results["configs"][TASK]["metadata"]
    assert (metadata["trained_on"], metadata["trained_on_rows"]) == (policy, 1)
    assert metadata["trained_on_overlap"] == {"direction_forward": 1}
    shown = subprocess.run(
        [str(COMMAND.with_name("egost")), "summary", str(tmp_path / "out")],
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    expected = "ARE AMONG THEM" if policy == "allow" else "are left out"
    assert f"trained on: 1 rows; {'the ' if policy == 'leave-out' else ''}1 samples of this release" in shown
    assert expected in shown
