"""Copies of a real run, in lmms-eval's own files, with other replies, scores, clips and sizes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from egost.results.run import Run, read_run

HOSTILE = (
    '</script><script>document.title = "owned"</script><!-- <img src="x" onerror="document.title = 1"> '
    "<b>bold</b> &lt;i&gt; \u2028 \ud800 ]]> {{ 7 * 7 }}"
)
"""What a model may say to get out of the place that it is shown in; with half of a surrogate pair."""

THOUGHT = f"<think>Back from the end. {HOSTILE}</think>"
REASONS = f"Two turns fit, one does not. {HOSTILE}"

_CLIPS = ("sun3d_{}.mp4", "ADT_{}.mp4", "{}.mp4", "Nymeria_{}.mp4")


def planted(run: Run, folder: Path, *, times: int = 1, seed: int = 0, model: str = "org/model") -> Run:
    """The run as one of the benchmark, each sample `times` times over, with replies and scores drawn anew.

    Of ten choices about five are right, one names no letter and one is unscored; routes get all scores from 0 to 5.
    """
    draw = random.Random(seed)
    told = json.loads(run.results_file.read_text(encoding="utf-8").replace("egost_mini", "egost"))
    told["model_name"] = model
    for config in told["configs"].values():
        if metadata := config.get("metadata"):
            metadata.update(world="official", release_revision="54971f7")
    for counts in told["n-samples"].values():
        counts["effective"] *= times
    folder.mkdir(parents=True)
    for path in run.samples_files:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [_copied(json.loads(line), number) for line in lines for number in range(times)]
        for row in rows:
            (_describe if "route" in path.name else _choose)(row, draw)
        name = path.name.split("_samples_")[1].replace("egost_mini", "egost")
        (folder / f"run_samples_{name}").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = folder / "run_results.json"
    results.write_text(json.dumps(told), encoding="utf-8")
    return read_run(results)


def _copied(row: dict[str, Any], number: int) -> dict[str, Any]:
    record = row["percent"]
    head, _, key = record["sample_id"].rpartition("/")
    key = int(key) + 1000 * number
    clip = _CLIPS[key % len(_CLIPS)].format(key)
    record.update(sample_id=f"{head}/{key}", clip=clip, clip_id=f"{head.split('/')[0]}/{clip}")
    return row


def _choose(row: dict[str, Any], draw: random.Random) -> None:
    record = row["percent"]
    others = [letter for letter in "ABCD"[: len(record["options"])] if letter != row["target"]]
    kind = draw.choice(["right"] * 5 + ["wrong"] * 3 + ["invalid", "unscored"])
    letter = {"right": row["target"], "wrong": draw.choice(others or [None])}.get(kind)
    how = "answer_tag" if letter else "no_declaration"
    record.update(score=100.0 * (letter == row["target"]), choice={"letter": letter, "how": how})
    row["filtered_resps"] = f"{THOUGHT} <answer>{letter}</answer>"
    row["compat"] = record["score"]
    if kind == "unscored":
        record.pop("score")
        record.update(choice=None, unscored="generation_failed:context_too_long")
        row.update(compat=0.0, filtered_resps="[GENERATION_FAILED] context_too_long: too many tokens")


def _describe(row: dict[str, Any], draw: random.Random) -> None:
    record = row["percent"]
    aspects = {aspect: draw.randint(0, 5) for aspect in ("direction", "landmark", "semantic")}
    record["judgement"].update(aspects, reasons=REASONS)
    record["score"] = row["compat"] = sum(aspects.values()) / 15 * 100
    row["filtered_resps"] = f"Turn left at the red door. {HOSTILE}"
