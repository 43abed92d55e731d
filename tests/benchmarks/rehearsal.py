"""A dress rehearsal at the size of the benchmark: what evaluating costs outside the models. Run by `make rehearsal`.

A release of 789 clips and 5,000 questions in the official layout, 96 of the clips distinct: 720p to 1408 x 1408, 20 to
118 s, the mini world's textures in motion. Its stages are processes of their own against a server that replies at once.
What each took goes into `record.json` in FOLDER: seconds of CPU and the most MiB of one process (children included),
seconds on the clock, and counted work. Stages that are in the record are not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

ITSELF = str(Path(__file__).resolve())
RATE, GOP = 30, 250
SIZES = ((1280, 720), (1408, 1408), (1280, 960))
"""Width and height in pixels of HUJI's, Aria's and SUN3D's kind of clip; each is filmed in two shots of a GOP."""

CAPPED, SMALL = "uniform8+cap602112", "uniform8+224x224"
_TOKENS_OF_A_FRAME = 128


@dataclass(frozen=True)
class Size:
    """How large a rehearsal is.

    distinct: clips of their own; the others are links to them. seconds: of the shortest and the longest clip. frames:
    widths and heights. shots: of each of these, of which its clips are put together.
    """

    clips: int
    distinct: int
    questions: int
    seconds: tuple[int, int]
    frames: tuple[tuple[int, int], ...] = SIZES
    shots: int = 2


WHOLE = Size(789, 96, 5000, (20, 118))
QUICK = Size(24, 6, 150, (20, 40), SIZES[:2], 1)


def write_release(root: Path, size: Size) -> None:
    """Write a release in the official layout; what is there is kept."""
    from egost.tasks.mini_world.question_files import question_files
    from egost.tasks.mini_world.release_writer import clip_path
    from egost.tasks.mini_world.walks import plan_clip
    from egost.tasks.release.layout import write_question_files

    truths = [plan_clip(0, "test", number).truth for number in range(size.clips)]
    shortest, longest = size.seconds
    for number, truth in enumerate(truths[: size.distinct]):
        path = clip_path(root, truth)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            seconds = shortest + (longest - shortest) * number // max(1, size.distinct - 1)
            width, height = size.frames[number % len(size.frames)]
            _film(path, _shots(root.parent / "shots", width, height, size.shots), number, seconds)
    for number, truth in enumerate(truths[size.distinct :]):
        path = clip_path(root, truth)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(clip_path(root, truths[number % size.distinct]))
    files = question_files(truths, 0)
    places = [(name, key) for name, entries in files.items() for key in entries]
    for place in range(len(places) - size.questions):
        name, key = places[place * len(places) // (len(places) - size.questions)]
        del files[name][key]
    write_question_files(root, files)


def _shots(folder: Path, width: int, height: int, count: int) -> list[Path]:
    """GOPs: a pan and a walk over a scene, in front of another that moves otherwise, under a sensor's noise."""
    import numpy as np

    from egost.tasks.mini_world.raycast import render
    from egost.tasks.mini_world.walks import Camera, plan_clip

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{width}x{height}-{shot}.mp4" for shot in range(count)]
    for shot, path in enumerate(paths):
        if path.exists():
            continue
        random = np.random.default_rng(shot)
        plan = plan_clip(7, "test", shot)
        truth = replace(plan.truth, frames=1, width=width * 3 // 2, height=height * 3 // 2)
        camera = Camera(*(getattr(plan.camera, field.name)[:1] for field in fields(Camera)))
        scene = render(replace(plan, truth=truth, camera=camera))[0]
        blocks = [side // 2 + 1 for side in scene.shape[:2]]
        grain = random.integers(0, 16, blocks, dtype=np.uint8).repeat(2, 0).repeat(2, 1)
        scene = scene // 8 * 7 + grain[: scene.shape[0], : scene.shape[1], None]
        noise = random.integers(0, 3, (4, height, width, 1), dtype=np.uint8)
        most_x, most_y = scene.shape[1] - width, scene.shape[0] - height

        def frames(
            scene: Any = scene, noise: Any = noise, most: tuple[int, int] = (most_x, most_y)
        ) -> Iterator[Any]:
            for i in range(GOP):
                x = round(most[0] * (0.5 - 0.5 * np.cos(i / 40)))
                y = round(most[1] * (0.5 + 0.5 * np.sin(i / 23)))
                behind = scene[most[1] - y :, most[0] - x :][:height, :width]
                yield scene[y : y + height, x : x + width] // 2 + behind // 2 + noise[i % len(noise)]

        _encode(path, frames(), width, height)
    return paths


def _encode(path: Path, frames: Iterator[Any], width: int, height: int) -> None:
    import av
    import numpy as np

    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "superfast", "crf": "30", "g": str(GOP), "sc_threshold": "0"}
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.rename(path)


def _film(path: Path, shots: list[Path], number: int, seconds: int) -> None:
    """Put the packets of shots one behind the other, in an order of the number's own."""
    import av

    part = path.with_suffix(".part")
    with av.open(str(shots[0])) as first, av.open(str(part), "w", format="mp4") as film:
        target: Any = film.add_stream_from_template(first.streams.video[0])
        ticks = round(GOP / RATE / first.streams.video[0].time_base)
        for place in range(max(1, round(seconds * RATE / GOP))):
            with av.open(str(shots[(number >> place) % len(shots)])) as shot:
                for packet in shot.demux(video=0):
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + place * ticks, packet.dts + place * ticks
                        packet.stream = target
                        film.mux(packet)
    part.rename(path)


async def _reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: dict[str, Any]) -> None:
    """Serve one connection: vLLM's chat completions, each reply at once."""
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            content = json.dumps(_answer(head.split(" ", 2)[1], body, seen)).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(content), content)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _answer(path: str, body: bytes, seen: dict[str, Any]) -> Any:
    if path == "/seen":
        said = dict(seen)
        seen.update(requests=0, bytes=0, clips_before=None)
        return said
    if path == "/version":
        return {"version": "0.32.0"}
    if path.endswith("/models"):
        names = ("rehearsed", "egost?family=qwen2_vl&revision=1")
        return {"data": [{"id": name, "root": "some/rehearsed"} for name in names]}
    if path == "/health":
        return {}
    if b'"text":"?"' not in body.replace(b'"text": "?"', b'"text":"?"')[-200:]:
        if seen["clips_before"] is None:
            manifests = Path(seen["cache"]).glob("clips/??/*/manifest.json")
            seen["clips_before"] = len({json.loads(m.read_text())["source_sha256"] for m in manifests})
        seen["requests"] += 1
        seen["bytes"] += len(body)
    start = body.find(b"video/jpeg;base64,")
    frames = 8 if start < 0 else body.count(b",", start, body.find(b'"', start))
    details = {"multimodal_tokens": {"video": frames * _TOKENS_OF_A_FRAME}}
    usage = {"prompt_tokens": 1100, "completion_tokens": 2, "prompt_tokens_details": details}
    message = {"role": "assistant", "content": "A."}
    return {
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


async def _serve(cache: str) -> None:
    seen = {"requests": 0, "bytes": 0, "clips_before": None, "cache": cache}
    server = await asyncio.start_server(lambda *line: _reply(*line, seen), "127.0.0.1", 0, limit=1 << 26)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def serving(cache: Path) -> Iterator[str]:
    """The URL of a server in a process of its own. cache: whose clips it counts when the first question comes."""
    server = subprocess.Popen(
        [sys.executable, ITSELF, "--serve", str(cache)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def seen(url: str) -> dict[str, Any]:
    """Questions and bytes of their bodies since it was asked last, and clips in the cache before the first one."""
    with urllib.request.urlopen(f"{url}/seen") as response:
        found: dict[str, Any] = json.load(response)
    return {name: found[name] for name in ("requests", "bytes", "clips_before")}


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
    itself = [python, ITSELF, str(folder)]
    stage("release", [*itself, "--release", *(["--quick"] if size is QUICK else [])])
    with serving(cache) as url:
        run = ["--output_path", str(folder / "runs"), "--log_samples"]
        lmms_eval = [str(binaries / "lmms-eval"), "--tasks", "egost", "--model", "egost_server", *run]
        stage(
            "run, cold cache",
            [*lmms_eval, "--model_args", f"base_url={url}"],
            url,
            EGOST_ONLY="1",
            EGOST_PROTOCOL=CAPPED,
        )
        stage("clips build", [egost, "clips", "build"])
        stage(f"clips build {SMALL}", [egost, "clips", "build"], EGOST_PROTOCOL=SMALL)
        for way, protocol, at_once in (
            ("file", "uniform8", 32),
            ("file", "uniform8", 256),
            ("inline", "uniform8", 32),
            ("inline", CAPPED, 32),
            ("openai", SMALL, 16),
        ):
            ask = [*itself, "--ask", way, "--url", url, "--at-once", str(at_once)]
            stage(f"ask by {way}, {protocol}, {at_once} at once", ask, url, EGOST_PROTOCOL=protocol)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/rehearsal"))
    parser.add_argument("--quick", action="store_true", help="24 clips and 150 questions")
    for name in ("--release", "--ask", "--url", "--at-once"):
        parser.add_argument(name, nargs="?", const="yes", help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = QUICK if given.quick else WHOLE
    if given.release:
        write_release(given.folder / "release", size)
    elif given.ask:
        print(json.dumps(asked(given.url, given.ask, int(given.at_once))))
    else:
        rehearse(given.folder.absolute(), size)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        _measure(sys.argv[2:])
    elif sys.argv[1:2] == ["--serve"]:
        asyncio.run(_serve(sys.argv[2]))
    else:
        main()
