from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_server import Hub, serve_hub

from egost.tasks.errors import ReleaseError
from egost.tasks.release.hub import CLIPS_REPO, QUESTIONS_REPO, QUESTIONS_REVISION, download

COMMIT = QUESTIONS_REVISION + "0" * (40 - len(QUESTIONS_REVISION))
CLIPS_COMMIT = "c" * 40


def hub_with(questions: Path, clip: bytes) -> Hub:
    files = {path.name: path.read_bytes() for path in questions.glob("*.json")}
    return Hub(
        {QUESTIONS_REPO: files, CLIPS_REPO: {"part1/11.mp4": clip, "part1/12.mp4": b"small"}},
        {QUESTIONS_REPO: COMMIT, CLIPS_REPO: CLIPS_COMMIT},
    )


def egost(hub_url: str, home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return subprocess.run(
        [sys.executable, "-c", "from egost.main import app; app()", *arguments],
        env={**online, "HF_ENDPOINT": hub_url, "HF_HOME": str(home), "COLUMNS": "300", **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_download_pins_the_revisions_and_uses_the_token(
    questions: Callable[..., Path], tmp_path: Path
) -> None:
    with serve_hub(hub_with(questions(), b"clip")) as hub:
        done = egost(hub.url, tmp_path / "home", "data", "download", HF_TOKEN="hf_secret")
        assert done.returncode == 0, done.stderr
        assert COMMIT in done.stdout and CLIPS_COMMIT in done.stdout
        assert hub.authorization == {"Bearer hf_secret"} and "hf_secret" not in done.stdout + done.stderr

        hub.commits[CLIPS_REPO] = "d" * 40
        hub.requests.clear()
        again = egost(hub.url, tmp_path / "home", "data", "download")
        assert again.returncode == 2
        assert f"has no revision {CLIPS_COMMIT}" in again.stderr, (
            "the clips of the first download are asked for again"
        )

        status = egost(hub.url, tmp_path / "home", "data", "status")
        assert status.returncode == 1
        assert "question files: 26 of 26" in status.stdout
        assert "clips: 2 there, 6 missing" in status.stdout and "egost data download" in status.stdout


def test_a_download_that_was_cut_off_goes_on(questions: Callable[..., Path], tmp_path: Path) -> None:
    clip = os.urandom(1 << 20) * 24
    hub = hub_with(questions(), clip)
    hub.break_after = 14 << 20
    folder = tmp_path / "mine"
    with serve_hub(hub):
        first = egost(hub.url, tmp_path / "home", "data", "download", "--to", str(folder))
        assert first.returncode == 2
        assert "run the same command again" in first.stderr and "Traceback" not in first.stderr
        assert not (folder / "part1" / "11.mp4").exists()

        hub.broken, hub.break_after = False, None
        hub.requests.clear()
        second = egost(hub.url, tmp_path / "home", "data", "download", "--to", str(folder))
        assert second.returncode == 0, second.stderr
        assert (folder / "part1" / "11.mp4").read_bytes() == clip
        fetched = [
            path.rsplit("/", 1)[-1]
            for method, path, _ in hub.requests
            if method == "GET" and "/resolve/" in path
        ]
        assert not [name for name in fetched if name.endswith(".json")], "what had arrived was kept"
        assert f"export EGOST_DATA={folder}" in second.stdout


def test_a_connection_that_breaks_once_is_resumed_where_it_broke(
    questions: Callable[..., Path], tmp_path: Path
) -> None:
    hub = hub_with(questions(), os.urandom(1 << 20) * 24)
    hub.break_after, hub.mends = 14 << 20, True
    with serve_hub(hub):
        done = egost(hub.url, tmp_path / "home", "data", "download")
        assert done.returncode == 0, done.stderr
        assert [wanted for _, path, wanted in hub.requests if path.endswith("11.mp4") and wanted] == [
            f"bytes={10 << 20}-"
        ]


def test_no_hub(tmp_path: Path) -> None:
    done = egost("http://127.0.0.1:9", tmp_path, "data", "download")
    assert done.returncode == 2
    assert "could not download openinterx/Ego-ST-bench" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "mirror", ["https://me:hunter-2-secret@hub.example", "https://hub.example/?token=hunter-2-secret"]
)
def test_a_mirror_with_a_password_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", mirror)
    with pytest.raises(ReleaseError, match="HF_ENDPOINT") as error:
        download()
    assert "hunter" not in str(error.value) and "HF_TOKEN" in str(error.value)
