"""`egost run`: the command that it prints for each model, and real runs of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from egost_command import egost, egost_run
from lmms_eval_command import environment, lmms_eval, saved
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.engine import AdapterError
from egost.model_adapters.model_names import MINI_BASE, model_named
from egost.model_adapters.run_plan import RunOptions, plan_run
from egost.tasks.registration import register

TASK = "egost_mini_direction_forward"


def planned(
    name: str, environment: dict[str, str] | None = None, **options: Any
) -> tuple[dict[str, str], list[str]]:
    """Settings and arguments of the command that is shown, read as a shell would read it."""
    plan = plan_run(model_named(name), RunOptions(**{"tasks": "egost", **options}), environment or {})
    words = shlex.split(plan.shown)
    start = words.index("lmms-eval")
    assert words[start + 1 :] == list(plan.command[1:]), "what is shown is what is run"
    return dict(word.split("=", 1) for word in words[:start]), words[start + 1 :]


def run_as_planned(
    name: str, options: RunOptions, cwd: Path, cache: Path
) -> subprocess.CompletedProcess[str]:
    """What `egost run` would start, in a preloaded process."""
    plan = plan_run(model_named(name), options, {})
    return lmms_eval(*plan.command[1:], cwd=cwd, cache=cache, **plan.settings)


def model_args(arguments: list[str]) -> dict[str, str]:
    given = arguments[arguments.index("--model_args") + 1]
    return dict(pair.split("=", 1) for pair in given.split(","))


def without_addresses(value: Any) -> str:
    """As JSON, without the places in memory that lmms-eval writes down of the tasks' functions."""
    return re.sub(r" at 0x[0-9a-f]+", "", json.dumps(value, sort_keys=True))


def test_vllm_is_the_usual_engine_and_the_revision_is_pinned() -> None:
    settings, arguments = planned("qwen2.5-vl-7b", limit=20)
    assert arguments[:4] == ["--tasks", "egost", "--model", "egost_vllm"]
    assert model_args(arguments) == {
        "model": "Qwen/Qwen2.5-VL-7B-Instruct",
        "revision": "cc594898137f460bfe9f0759e9844b3ce807cfb5",
    }
    assert arguments[arguments.index("--limit") + 1] == "20"
    assert arguments[arguments.index("--output_path") + 1] == "runs/qwen2.5-vl-7b"
    assert settings == {"EGOST_PROMPT": "direct", "EGOST_PROTOCOL": "uniform8+cap602112", "EGOST_ONLY": "1"}


def test_a_model_that_no_single_gpu_holds_is_split() -> None:
    _, arguments = planned("qwen2.5-vl-72b")
    assert model_args(arguments)["tensor_parallel_size"] == "4"


def test_st_r1_thinks_and_a_setting_of_the_person_wins() -> None:
    assert planned("st-r1")[0]["EGOST_PROMPT"] == "think"
    settings, _ = planned("st-r1", {"EGOST_PROMPT": "direct", "EGOST_PROTOCOL": "ref-qwen"})
    assert (settings["EGOST_PROMPT"], settings["EGOST_PROTOCOL"]) == ("direct", "ref-qwen")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("st-r1", "st-r1"),
        ("qwen2-vl-7b", "qwen"),
        ("qwen2.5-vl-72b", "qwen"),
        ("internvl2.5-8b", "internvl"),
        ("llava-onevision-7b", "llava"),
        ("gpt-4o", "closed"),
    ],
)
def test_as_published_is_one_word_by_the_models_family(name: str, word: str) -> None:
    assert planned(name, as_published=True)[0] == {"EGOST_AS_PUBLISHED": word, "EGOST_ONLY": "1"}
    assert planned(name, {"EGOST_AS_PUBLISHED": word})[0]["EGOST_AS_PUBLISHED"] == word


@pytest.mark.parametrize(
    ("output", "given"),
    [
        ("8", "./8"),
        ("1e3", "./1e3"),
        ("nan", "./nan"),
        ("True", "./True"),
        ("out", "out"),
        ("runs/8", "runs/8"),
    ],
)
def test_a_folder_is_a_path_to_lmms_eval(output: str, given: str) -> None:
    _, arguments = planned("mini-base", output=Path(output))
    assert arguments[arguments.index("--output_path") + 1] == given


def test_a_folder_that_lmms_eval_would_split_is_refused() -> None:
    with pytest.raises(AdapterError, match=r"no results would be saved in a,b\. Name another"):
        planned("mini-base", output=Path("a,b"))


def test_as_published_says_what_a_person_has_set_otherwise_and_who_was_never_asked() -> None:
    plan = plan_run(
        model_named("st-r1"),
        RunOptions("egost", as_published=True),
        {"EGOST_PROTOCOL": "uniform8", "EGOST_PROMPT": "think"},
    )
    assert plan.remarks == (
        "EGOST_PROTOCOL=uniform8 is used, as you set it, and not ref-qwen+cap100352-151200, so that the run does not "
        "count as published.",
    )
    with pytest.raises(
        AdapterError, match=r"asked no model of the family qwen3_vl.*Leave --as-published out"
    ):
        planned("qwen3-vl-8b", as_published=True)


def test_foreign_tasks_beside_ours_are_indexed() -> None:
    assert "EGOST_ONLY" not in planned("qwen2.5-vl-7b", tasks="egost_mcq,mmmu_val")[0]


def test_the_setting_leaves_out_foreign_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmms_eval.tasks import TaskManager

    register()
    monkeypatch.setenv("EGOST_ONLY", "1")
    names = TaskManager("ERROR").all_tasks
    assert len(names) == 24 and all(name.startswith("egost") for name in names)


def test_servers_and_apis() -> None:
    _, arguments = planned("qwen2-vl-7b", base_url="http://a:8000;http://b:8000", fresh=True)
    assert arguments[3] == "egost_server"
    assert model_args(arguments) == {
        "base_url": "http://a:8000;http://b:8000",
        "model": "Qwen/Qwen2-VL-7B-Instruct",
        "fresh": "True",
    }
    settings, arguments = planned("gpt-4o", base_url="http://localhost:1/v1")
    assert arguments[3] == "egost_openai" and settings["EGOST_PROTOCOL"] == "uniform8+224x224"
    assert model_args(arguments) == {"model": "gpt-4o-2024-08-06", "base_url": "http://localhost:1/v1"}
    assert planned("gemini-3.5-flash")[1][3] == "egost_gemini"


@pytest.mark.parametrize("name", ["mini-base", "mini-st-r1", "tiny"])
def test_the_embedded_checkpoint_needs_no_vllm(name: str) -> None:
    assert planned(name, tasks="egost_mini")[1][3] == "egost_journal"


def test_hf_is_lmms_evals_own_adapter_and_transformers_is_our_loop() -> None:
    _, arguments = planned("mini-base", engine="hf", tasks="egost_mini")
    assert arguments[3] == "egost_journal" and model_args(arguments)["adapter"] == "qwen2_vl"
    settings, arguments = planned("mini-base", engine="transformers", tasks="egost_mini, egost_mini_mcq")
    assert arguments[3] == "egost_transformers" and set(model_args(arguments)) == {"model"}
    assert (Path(model_args(arguments)["model"]) / "config.json").is_file()
    assert settings["EGOST_ONLY"] == "1"
    pinned = model_args(planned("qwen2.5-vl-7b", engine="transformers")[1])
    assert pinned["revision"] == "cc594898137f460bfe9f0759e9844b3ce807cfb5"
    with pytest.raises(AdapterError, match="internvl3-8b is not run by engine 'transformers'"):
        planned("internvl3-8b", engine="transformers")


def test_a_folder_is_asked_as_its_config_says(tmp_path: Path) -> None:
    folder = shutil.copytree(MINI_BASE, tmp_path / "my-checkpoint")
    _, arguments = planned(str(folder), engine="hf", extra=("--gen_kwargs", "max_new_tokens=8"))
    assert arguments[3] == "egost_journal" and arguments[-2:] == ["--gen_kwargs", "max_new_tokens=8"]
    assert model_args(arguments)["adapter"] == "qwen2_vl"
    assert model_args(arguments)["pretrained"] == str(folder)
    _, served = planned(str(folder), base_url="http://a:8000")
    assert model_args(served)["model"] == "my-checkpoint", "the name that egost serve gives it"
    assert model_args(served)["checkpoint"] == str(folder), "where its training rows are looked up"
    assert arguments[arguments.index("--output_path") + 1] == "runs/my-checkpoint"


@pytest.mark.parametrize(
    ("trained", "protocol"),
    [
        ({"protocol": "uniform8", "smallest_pixels": 3136, "largest_pixels": 151200}, "uniform8+cap151200"),
        (
            {"protocol": "ref-qwen", "smallest_pixels": 100352, "largest_pixels": 153664},
            "ref-qwen+cap100352-153664",
        ),
        # The frames were 364 x 364 at most before training looked at its own, larger limit.
        (
            {"protocol": "uniform8+cap151200", "smallest_pixels": 3136, "largest_pixels": 602112},
            "uniform8+cap151200",
        ),
        (
            {"protocol": "uniform8+224x224", "smallest_pixels": 3136, "largest_pixels": 602112},
            "uniform8+224x224",
        ),
    ],
)
def test_a_checkpoint_is_asked_as_it_was_trained(
    tmp_path: Path, trained: dict[str, Any], protocol: str
) -> None:
    folder = shutil.copytree(MINI_BASE, tmp_path / "trained-here")
    settings = {"prompt": "think", **trained}
    manifest = {"world": "mini", "release_revision": "r", "rows": [], "settings": settings}
    (folder / "egost_training.json").write_text(json.dumps(manifest))
    assert planned(str(folder), engine="hf")[0] == {
        "EGOST_PROMPT": "think",
        "EGOST_PROTOCOL": protocol,
        "EGOST_ONLY": "1",
    }

    own = {"EGOST_PROTOCOL": "uniform8+cap602112"}
    plan = plan_run(model_named(str(folder)), RunOptions("egost", engine="hf"), own)
    assert plan.settings["EGOST_PROTOCOL"] == "uniform8+cap602112"
    assert plan.remarks == (
        f"EGOST_PROTOCOL=uniform8+cap602112 is used, as you set it; trained-here was trained with {protocol}.",
    )
    assert model_named(str(folder)).tasks == "egost_mini"
    known = plan_run(model_named("st-r1"), RunOptions("egost"), own)
    assert not known.remarks, "what the table of models says is no training of this project"


@pytest.mark.parametrize(
    ("world", "samples", "tasks"),
    [
        ("mini", ["Part1/direction_forward/1", "Part4/action_reverse/2"], "egost_mini_mcq"),
        ("official", ["Part1/direction_forward/1"], "egost_mcq"),
        ("official", ["Part1/route_forward/1", "Part1/route_reverse/1"], "egost_route"),
        ("official", ["Part1/route_forward/1", "Part1/landmark_reverse/1"], "egost"),
    ],
)
def test_a_checkpoint_runs_what_it_was_taught(
    tmp_path: Path, own_cache: Path, world: str, samples: list[str], tasks: str
) -> None:
    folder = shutil.copytree(MINI_BASE, tmp_path / "trained-here")
    settings = {"prompt": "think", "protocol": "uniform8", "smallest_pixels": 3136, "largest_pixels": 602112}
    rows = [{"sample": name, "clip_sha256": "0" * 64, "world": world} for name in samples]
    manifest = {"world": world, "release_revision": "r", "rows": rows, "settings": settings}
    (folder / "egost_training.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(app, ["run", str(folder), "--engine", "hf", "--dry-run"])
    assert done.exit_code == 0 and f"lmms-eval --tasks {tasks} --model" in done.stdout
    named = CliRunner().invoke(
        app, ["run", str(folder), "--engine", "hf", "--tasks", "egost_st", "--dry-run"]
    )
    assert "lmms-eval --tasks egost_st --model" in named.stdout


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gemini-1.5-pro", {}, "retired.*take gemini-3.5-flash"),
        ("o3-mini", {}, "no image input"),
        ("qwen2-vl-7b", {"engine": "server"}, "egost serve qwen2-vl-7b"),
        ("qwen2-vl-7b", {"engine": "api"}, "expected vllm or server or hf or transformers"),
        ("qwen2-vl-7b", {"engine": "vllm", "base_url": "http://a"}, "takes no --base-url"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_started(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        planned(name, **options)


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(MINI_BASE, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "seldom_vl"}))
    with pytest.raises(AdapterError, match=r"a 'seldom_vl'.*expected one of qwen2_vl"):
        planned(str(folder))


def test_a_folder_that_lmms_eval_would_read_wrongly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="Rename the folder"):
        planned(str(shutil.copytree(MINI_BASE, tmp_path / "a,b=c")), engine="hf")


def test_the_printed_command_alone_starts_nothing(tmp_path: Path, own_cache: Path) -> None:
    done = egost("run", "qwen2.5-vl-7b", "--dry-run", cwd=tmp_path, cache=own_cache)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    assert done.stdout.startswith(
        "EGOST_PROMPT=direct EGOST_PROTOCOL=uniform8+cap602112 EGOST_ONLY=1 lmms-eval "
    )


def test_a_run_its_repetition_from_the_journal_and_the_printed_command(
    tmp_path: Path, own_cache: Path, mini_release: Callable[..., Path]
) -> None:
    mini_release(own_cache / "mini", clips=4)
    command = (
        "tiny",
        "--tasks",
        TASK,
        "--limit",
        "2",
        "--engine",
        "hf",
        "--",
        "--gen_kwargs",
        "max_new_tokens=8",
    )

    done = egost_run(*command, cwd=tmp_path, cache=own_cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "egost: 2 of 2 samples" in done.stderr and ", 0 from the journal" in done.stderr
    assert "smart_nframes" not in done.stdout + done.stderr
    assert re.search(rf"^{TASK} .* 2 +0 *$", done.stdout, re.MULTILINE), "the summary ends the run"
    saved(tmp_path / "runs" / "tiny")
    [manifest] = (tmp_path / "runs" / "tiny").rglob("*_manifest.json")
    told = json.loads(manifest.read_text(encoding="utf-8"))
    assert told["tasks"][TASK]["asked"] == 2 and told["machine"]["cores"] and str(tmp_path) not in str(told)

    again = egost_run(*command, "--output_path", "again", cwd=tmp_path, cache=own_cache)
    assert ", 2 from the journal" in again.stderr
    assert again.returncode == 2 and "is of an earlier one" in again.stderr, "its results went elsewhere"

    command_line = done.stdout.splitlines()[0].replace("EGOST_ONLY=1 ", "")
    plain = subprocess.run(
        f"{command_line} --output_path plain",
        shell=True,
        cwd=tmp_path,
        env={**environment(own_cache), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert plain.returncode == 0
    results, samples = saved(tmp_path / "plain")
    by_egost_run, same_samples = saved(tmp_path / "again")
    assert results.keys() == by_egost_run.keys()
    assert without_addresses(results["configs"]) == without_addresses(by_egost_run["configs"])
    assert results["results"] == by_egost_run["results"]
    assert samples == same_samples


def test_a_run_that_lmms_eval_gives_up_is_no_success(tmp_path: Path, own_cache: Path) -> None:
    done = egost_run("tiny", "--tasks", "egost_no_such_task", "--engine", "hf", cwd=tmp_path, cache=own_cache)
    assert done.returncode == 2
    assert (
        "did not finish" in done.stderr and "Tasks not found: egost_no_such_task" in done.stdout + done.stderr
    )


def test_our_loop_over_transformers_evaluates_and_is_journaled(
    tmp_path: Path, own_cache: Path, mini_release: Callable[..., Path]
) -> None:
    mini_release(own_cache / "mini", clips=4)
    extra = ("--gen_kwargs", "max_new_tokens=8")
    options = RunOptions(TASK, "transformers", limit=2, extra=extra)
    done = run_as_planned("tiny", options, tmp_path, own_cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "egost: 2 of 2 samples" in done.stderr and ", 0 from the journal" in done.stderr
    _, samples = saved(tmp_path / "runs" / "tiny")
    for row in samples[TASK]:
        generation = row["percent"]["generation"]
        assert generation["engine"].startswith("transformers 5.") and generation["video_tokens"] > 0
        assert generation["revision"].startswith("sha256:") and generation["completion_tokens"] <= 8
    again = run_as_planned("tiny", options, tmp_path, own_cache)
    assert again.returncode == 0 and ", 2 from the journal" in again.stderr


def test_eight_requests_at_once_are_answered_as_one_by_one(
    tmp_path: Path, own_cache: Path, mini_release: Callable[..., Path]
) -> None:
    """Questions of unlike length, so that the shorter ones are padded; 32 bits on a CPU."""
    mini_release(own_cache / "mini", clips=4)
    options = RunOptions(
        "egost_mini_landmark_forward,egost_mini_action_reverse",
        "hf",
        fresh=True,
        extra=("--gen_kwargs", "max_new_tokens=16"),
    )
    answers = []
    for size in (8, 1):
        output = Path(str(size))
        done = run_as_planned(
            "mini-base", replace(options, output=output, batch_size=size), tmp_path, own_cache
        )
        assert done.returncode == 0, done.stdout + done.stderr
        _, samples = saved(tmp_path / output)
        answers.append({name: [row["filtered_resps"] for row in rows] for name, rows in samples.items()})
        questions = {len(row["input"]) for rows in samples.values() for row in rows}
    assert len(questions) > 1 and answers[0] == answers[1]
