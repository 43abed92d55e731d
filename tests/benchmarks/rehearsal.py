"""A dress rehearsal at the size of the benchmark: what evaluating costs outside the models. Run by `make rehearsal`.

A release of 789 clips and 5,000 questions in the official layout, 96 of the clips distinct: 720p to 1408 x 1408, 20 to
118 s, the mini world's textures in motion. Its stages are processes of their own against a server that replies at once,
or as late as a model of 7 B parameters: then the run is killed at half way, and goes on.
What each took goes into `record.json` in FOLDER: seconds of CPU and the most MiB of one process (children included),
seconds on the clock, and counted work. Stages that are in the record are not run again.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from rehearsed_release import SIZES, Size, write_release
from rehearsed_server import seen, serving

ITSELF = str(Path(__file__).resolve())
CAPPED, SMALL = "uniform8+cap602112", "uniform8+224x224"
MODEL_OF_7B_S = 1.0
"""Seconds that a GPU with a model of 7 B parameters takes for a short reply where 32 are asked at once."""
AT_ONCE = 32

WHOLE = Size(789, 96, 5000, (20, 118))
QUICK = Size(24, 6, 150, (20, 40), SIZES[:2], 1)


@contextmanager
def counted_work() -> Iterator[dict[str, int]]:
    """Count what this process does: clips that it has decoded, and pictures that it encodes."""
    from PIL import Image

    from egost.tasks.clips.decode_process import DecodePool

    counts = {"decodes": 0, "pictures_encoded": 0}
    decode, save = DecodePool.write_clip, Image.Image.save

    def decoding(*given: Any) -> None:
        counts["decodes"] += 1
        decode(*given)

    def saving(*given: Any, **how: Any) -> None:
        counts["pictures_encoded"] += 1
        save(*given, **how)

    DecodePool.write_clip, Image.Image.save = decoding, saving  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        DecodePool.write_clip, Image.Image.save = decode, save  # type: ignore[method-assign]


def asked(url: str, way: str, at_once: int) -> dict[str, Any]:
    """Ask all questions once. way: `file` or `inline` of a server, or `openai`. asking_cpu_s: of this process alone."""
    from egost.model_adapters.api.openai_engine import open_openai
    from egost.model_adapters.questions import choose_questions
    from egost.model_adapters.server.server_engine import open_server

    with counted_work() as counts:
        questions = choose_questions("egost")
        asks = sorted(questions.asks(list(questions.asked)), key=lambda ask: str(ask.clip and ask.clip.path))
        engine: Any
        if way == "openai":
            engine = open_openai("gpt-4o-2024-08-06", base_url=f"{url}/v1", concurrency=at_once)
        else:
            engine = open_server(url, media=way, concurrency=at_once)
        start, clock = time.process_time(), time.monotonic()
        replies = [reply for _, reply in engine.answer(asks)]
        spent = time.process_time() - start, time.monotonic() - clock
        engine.close()
    failed = [reply for reply in replies if not hasattr(reply, "text")]
    assert not failed, failed[0]
    return {
        "questions": len(asks),
        "asking_cpu_s": round(spent[0], 2),
        "asking_s": round(spent[1], 2),
        **counts,
    }


def measured(command: list[str], environment: Mapping[str, str], log: Path) -> dict[str, Any]:
    """Run a command: its CPU and memory with those of all processes that it started, and what its last line says.

    log: where its stderr goes.
    """
    done = subprocess.run(
        [sys.executable, ITSELF, "--measure", *command],
        env={**os.environ, **environment},
        # Not in a checkout: lmms-eval takes its folder `egost` for the task.
        cwd=log.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    log.write_text(done.stderr)
    lines = [line for line in done.stdout.splitlines() if line]
    record: dict[str, Any] = json.loads(lines.pop()) if lines else {"rc": done.returncode}
    if record["rc"]:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    if lines and lines[-1].startswith("{"):
        record |= json.loads(lines[-1])
    return record | {"log_lines": done.stderr.count("\n")}


def killed_at_half(command: list[str], url: str, journal: Path, questions: int) -> dict[str, Any]:
    """Start a run and kill it with all its processes when half its replies are kept. What was in flight is lost."""
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while (kept := _kept(journal)) < questions // 2:
        if run.poll() is not None:
            raise SystemExit(f"the run ended with {run.returncode} before it was killed")
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(2 * MODEL_OF_7B_S)
    return {"kept": (kept := _kept(journal)), "lost": seen(url)["requests"] - kept}


def _kept(journal: Path) -> int:
    kept = 0
    for path in journal.glob("*.sqlite"):
        with closing(sqlite3.connect(path)) as database, suppress(sqlite3.OperationalError):
            kept += database.execute("SELECT count(*) FROM replies").fetchone()[0]
    return kept


def _measure(command: list[str]) -> None:
    # Also a grandchild whose parent has ended is waited for, by PR_SET_CHILD_SUBREAPER.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    start = time.monotonic()
    main = subprocess.Popen(command)
    cpu, most, rc = 0.0, 0, 0
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu += usage.ru_utime + usage.ru_stime
        most = max(most, usage.ru_maxrss)
        if pid == main.pid:
            rc = os.waitstatus_to_exitcode(status)
    spent = {"cpu_s": round(cpu, 2), "peak_mib": most // 1024, "wall_s": round(time.monotonic() - start, 1)}
    print(json.dumps({"rc": rc, **spent}))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.mp4"))


def rehearse(folder: Path, size: Size) -> dict[str, Any]:
    """Run the stages that the record in the folder lacks; returns the record."""
    path = folder / "record.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    cache = folder / "cache"
    base = {
        "EGOST_DATA": str(folder / "release"),
        "EGOST_CACHE": str(cache),
        "EGOST_JUDGE": "offline",
        "HF_HUB_OFFLINE": "1",
        "OPENAI_API_KEY": "sk-none",
    }
    binaries = Path(sys.executable).parent
    python, egost = str(binaries / "python"), str(binaries / "egost")

    def stage(name: str, command: list[str], url: str = "", **settings: str) -> None:
        if name in record:
            return
        before = _bytes(cache)
        found = measured(command, {**base, **settings}, folder / f"{name}.log")
        if url:
            found["server"] = seen(url)
        record[name] = {**found, "cache_bytes": _bytes(cache) - before}
        print(f"{name}: {json.dumps(record[name])}", flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n")

    folder.mkdir(parents=True, exist_ok=True)
    # Of the same clips: what a killed run loses is replies.
    own = folder / "killed"
    own.mkdir(exist_ok=True)
    if not (own / "clips").is_symlink():
        (own / "clips").symlink_to(cache / "clips")
    itself = [python, ITSELF, str(folder)]
    quick = ["--quick"] if size is QUICK else []
    stage("release", [*itself, "--release", *quick])
    with serving(cache) as url:
        plain = "--tasks egost --model egost_server --log_samples"
        lmms_eval = [str(binaries / "lmms-eval"), *plain.split()]
        runs = {"EGOST_ONLY": "1", "EGOST_PROTOCOL": CAPPED}

        def run(at: str, output: str) -> list[str]:
            return [*lmms_eval, "--output_path", str(folder / output), "--model_args", f"base_url={at}"]

        stage("run, cold cache", run(url, "runs"), url, **runs)
        stage("clips build", [egost, "clips", "build"])
        stage(f"clips build {SMALL}", [egost, "clips", "build"], EGOST_PROTOCOL=SMALL)
        judge = f"openai:judge-model@{url}/v1"
        stage("judge", [egost, "judge", str(folder / "runs"), "--judge", judge], EGOST_JUDGE_KEY="none")
        for name in ("report, cold", "report, warm"):
            stage(name, [egost, "report", str(folder / "runs"), "-o", str(folder / "report.html")])
        stage("leaderboard", [egost, "leaderboard", str(folder / "runs"), "-o", str(folder / "board.json")])
    with serving(cache, MODEL_OF_7B_S) as slow:
        command, after = run(slow, "runs-killed"), {**runs, "EGOST_CACHE": str(own)}
        kill = [*itself, "--kill", json.dumps(command), "--url", slow, *quick]
        stage("run of a 7B, killed at half way", kill, **after)
        stage("run of a 7B, gone on", command, slow, **after)
        lost = record["run of a 7B, killed at half way"]["lost"]
        assert 0 <= lost <= AT_ONCE, f"{lost} replies were lost, and {AT_ONCE} were in flight"
    with serving(cache) as url:
        for way, protocol, at_once in (
            ("file", "uniform8", AT_ONCE),
            *([("file", "uniform8", 256)] if size is WHOLE else []),
            ("inline", "uniform8", AT_ONCE),
            ("inline", CAPPED, AT_ONCE),
            ("openai", SMALL, 16),
        ):
            ask = [*itself, "--ask", way, "--url", url, "--at-once", str(at_once)]
            stage(f"ask by {way}, {protocol}, {at_once} at once", ask, url, EGOST_PROTOCOL=protocol)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/rehearsal"))
    parser.add_argument("--quick", action="store_true", help="24 clips and 150 questions")
    for name in ("--release", "--ask", "--kill", "--url", "--at-once"):
        parser.add_argument(name, nargs="?", const="yes", help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = QUICK if given.quick else WHOLE
    if given.release:
        write_release(given.folder / "release", size)
    elif given.ask:
        print(json.dumps(asked(given.url, given.ask, int(given.at_once))))
    elif given.kill:
        journal = Path(os.environ["EGOST_CACHE"]) / "journal"
        print(json.dumps(killed_at_half(json.loads(given.kill), given.url, journal, size.questions)))
    else:
        rehearse(given.folder.absolute(), size)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measure(sys.argv[2:])
    else:
        main()
