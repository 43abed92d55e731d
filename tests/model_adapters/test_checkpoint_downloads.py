"""`egost run --yes` against a hub: whose weights are asked for, and what is said where they do not come."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import Hub, serve_hub
from lmms_eval_command import environment
from places import ROOT

from egost.model_adapters.model_names import MINI_BASE, model_named

MODEL = model_named("qwen2-vl-2b")
NAME, COMMIT = MODEL.model, str(MODEL.revision)
TASK = ("--tasks", "egost_mini_direction_forward", "--limit", "1", "--engine", "hf")


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in MINI_BASE.iterdir()}
    with serve_hub(Hub({NAME: files}, {NAME: COMMIT})) as running:
        yield running


def run(hub: Hub, home: Path, *words: str, largest: int | None = None, **settings: str) -> tuple[int, str]:
    """Exit code and what was said. largest: bytes that a file may have on this disk."""
    told = environment(home / "cache", HF_ENDPOINT=hub.url, HF_HOME=str(home / "hub"), PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", "run", *words],
        cwd=home,
        env={name: value for name, value in told.items() if name != "HF_HUB_OFFLINE"} | settings,
        preexec_fn=largest and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_weights_are_got_after_a_yes_and_the_run_goes_on(hub: Hub, tmp_path: Path) -> None:
    code, said = run(hub, tmp_path, "qwen2-vl-2b", *TASK, "--yes", "--", "--gen_kwargs", "max_new_tokens=4")
    assert code == 0, said
    assert f"getting weights: hf download {NAME} --revision {COMMIT}" in said
    assert "getting data: egost data mini" in said and "1 of 1 samples" in said
    hub.requests.clear()
    again = run(hub, tmp_path, "qwen2-vl-2b", *TASK, "--dry-run")
    assert f"egost: weights: {NAME} in " in again[1] and not hub.requests


def test_a_closed_model_beside_one_without_weights_is_not_asked_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    hub.gated = frozenset({NAME})
    installed = tmp_path / "packages" / "vllm-0.32.0.dist-info"
    installed.mkdir(parents=True)
    (installed.parent / "vllm.py").touch()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    code, said = run(
        *(hub, tmp_path, "gpt-4o", "qwen2-vl-2b", *TASK[:2], "--yes"),
        OPENAI_API_KEY="sk-" + "x7Q" * 12,
        PYTHONPATH=f"{ROOT}{os.pathsep}{installed.parent}",
    )
    assert code == 2 and f"the hub gives {NAME} to those" in said, said
    assert hub.requests and not [path for _, path, _ in hub.requests if "gpt-4o" in path]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("gated", f"the hub gives {NAME} to those who accepted its terms. Accept them at http://"),
        ("not there", f"the hub has no {NAME}, or hides it. Check the spelling"),
        ("v9", f"the hub's {NAME} has no revision v9. Name another with --revision."),
        ("full disk", f"{NAME} did not arrive whole: "),
    ],
)
def test_weights_that_do_not_come(
    hub: Hub, tmp_path: Path, case: str, said: str, mini_release: Callable[..., Path]
) -> None:
    if case == "gated":
        hub.gated = frozenset({NAME})
    elif case == "not there":
        hub.files.clear()
    words = ("--revision", "v9") if case == "v9" else ()
    mini_release(tmp_path / "cache" / "mini", clips=2)
    code, output = run(
        hub, tmp_path, "qwen2-vl-2b", *TASK, *words, "--yes", largest=4096 if case == "full disk" else None
    )
    assert code == 2 and said in output and "Traceback" not in output, output
    assert not list(tmp_path.glob("runs*")), "nothing was started"


def test_a_model_that_the_table_does_not_list_is_got_after_a_yes(hub: Hub, tmp_path: Path) -> None:
    hub.files["somebody/small"] = hub.files[NAME]
    hub.commits["somebody/small"] = COMMIT
    told = run(hub, tmp_path, "somebody/small", *TASK)
    assert told[0] == 2 and "then run: hf download somebody/small" in told[1] and not hub.requests
    # A prompt that is not there ends the command before the run.
    code, said = run(hub, tmp_path, "somebody/small", *TASK, "--yes", "--prompt", "nowhere.yaml")
    assert code == 2 and "getting somebody/small" in said and "nowhere.yaml" in said, said
    planned = run(hub, tmp_path, "somebody/small", *TASK, "--dry-run")
    assert planned[0] == 0 and "egost: weights: somebody/small in " in planned[1]
    code, said = run(hub, tmp_path, "somebody/smal", *TASK, "--yes")
    assert code == 2 and "the hub has no somebody/smal, or hides it. Check the spelling" in said, said
