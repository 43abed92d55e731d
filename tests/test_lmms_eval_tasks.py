"""Our tasks in lmms-eval's hands: in its lists, below and beside tasks of one's own, in Python."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import serve_chat
from lmms_eval_command import environment, lmms_eval, saved
from preloaded import run_preloaded
from typer.testing import CliRunner

from egost.main import app
from egost.results.compare import compare
from egost.results.run import read_run
from egost.results.run_header import RunError
from egost.tasks.release.release import mini_revision
from egost.tasks.task_names import TASK_FOLDER, TASK_NAMES

REPLY = "B. Walk straight and turn left at the red plain panel."
MODEL = ["--model", "dummy", "--model_args", f"response={REPLY}"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, mini_release: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    mini_release(folder / "mini", clips=3, seed=5)
    return folder


def egost(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})
    return done.exit_code, done.output


def in_python(code: str, argument: Path, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Code with a function `main`, run with an argument in a preloaded process."""
    (cwd / "code_of_ones_own.py").write_text(code)
    entry = "code_of_ones_own:main"
    return run_preloaded(entry, [str(argument)], cwd, {**env, "PYTHONPATH": str(cwd)}, 600)


OWN_WORDS = """
def doc_to_text(doc, kwargs=None):
    return "My own words: " + doc["question"]
"""


def own_yaml(folder: Path, name: str, base: str, *lines: str) -> None:
    """A task of one's own that includes one of ours."""
    included = TASK_FOLDER / "mini" / f"{base}.yaml"
    (folder / f"{name}.yaml").write_text("\n".join((f"include: {included}", f"task: {name}", *lines)) + "\n")


def test_tasks_on_top_of_ours(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text(OWN_WORDS)
    replaced, plain = "egost_mini_landmark_forward", "egost_mini_landmark_reverse"
    words = "doc_to_text: !function mine.doc_to_text"
    own_yaml(own, "my_route", "egost_mini_route_forward", words, "metadata:", "  version: 1.0")
    own_yaml(own, replaced, replaced, words)
    own_yaml(
        own,
        "my_direction",
        "egost_mini_direction_forward",
        *(
            "lmms_eval_specific_kwargs:",
            "  default:",
            '    pre_prompt: "Look. "',
            '    post_prompt: " Be brief."',
        ),
    )
    tasks = ("my_route", "my_direction", replaced, plain)
    with serve_chat(script=lambda ask: "ok") as server:
        done = lmms_eval(
            *(
                "--tasks",
                ",".join(tasks),
                "--include_path",
                str(own),
                "--output_path",
                "run",
                "--log_samples",
            ),
            *("--model", "async_openai"),
            *("--model_args", f"model=tiny,base_url={server.url}/v1,api_key=none,nframes=8,num_cpus=2"),
            cwd=tmp_path,
            cache=cache,
            EGOST_ONLY="1",
        )
        asked = [ask.text for ask, _ in server.asks]
    assert done.returncode == 0 and (tmp_path / "run").exists(), done.stdout[-3000:] + done.stderr[-3000:]
    results, samples = saved(tmp_path / "run")
    for rows in samples.values():
        assert len(rows) == 3 and {row["input"] for row in rows} <= set(asked), "what is saved was sent"
    assert all(row["input"].startswith("My own words: ") for row in samples["my_route"] + samples[replaced])
    for row in samples["my_direction"]:
        assert row["input"].startswith("Look. The video was filmed") and row["input"].endswith(" Be brief.")

    for rows in samples.values():
        for row in rows:
            names = [name for name in row if "score" in name]
            assert names[0] == "score" and row["score"] == row["percent"]["score"] / 100

    told = {task: results["configs"][task]["metadata"] for task in tasks}
    assert told[plain]["prompt"] == "direct-1" and "overridden" not in told[plain]
    for task, field in (
        ("my_route", "doc_to_text"),
        (replaced, "doc_to_text"),
        ("my_direction", "lmms_eval_specific_kwargs"),
    ):
        sent = b"".join(row["input"].encode() + b"\0" for row in samples[task])
        assert told[task]["overridden"] == [field] and told[task]["prompt"] == "own"
        assert told[task]["prompt_sha256"] == hashlib.sha256(sent).hexdigest()
    assert told["my_route"]["version"] == 1.0 and told["my_route"]["world"] == "mini"

    code, said = egost("summary", tmp_path / "run")
    assert code == 0, said
    assert "not comparable my_route: egost_mini_route_forward with its own doc_to_text" in said
    assert (
        "not comparable my_direction: egost_mini_direction_forward with its own lmms_eval_specific_kwargs"
        in said
    )
    assert f"not comparable {replaced}: {replaced} with its own doc_to_text" in said
    run = read_run(tmp_path / "run")
    headers = {task: dataclasses.replace(h, overridden=None) for task, h in run.header.tasks.items()}
    assert set(headers) == {replaced, plain}
    other = read_run(tmp_path / "run")
    other.__dict__["header"] = dataclasses.replace(run.header, tasks=headers)
    with pytest.raises(RunError, match=f"that are others of {replaced}: doc_to_text against not told"):
        compare(run, other)
    monkeypatch.setenv("EGOST_CACHE", str(cache))
    code, said = egost("leaderboard", tmp_path / "run", "--world", "mini")
    assert "a YAML of somebody's own replaced the task" in said, said


def test_ways_without_plugins_find_our_tasks_by_the_printed_folder(cache: Path, tmp_path: Path) -> None:
    code, said = egost("tasks", "--path")
    folder = said.strip()
    assert code == 0 and Path(folder) == TASK_FOLDER
    assert {line.split()[0] for line in egost("tasks")[1].splitlines()} == set(TASK_NAMES)
    listed = lmms_eval(
        "tasks", "list", "--include-path", folder, "--verbosity", "DEBUG", cwd=tmp_path, cache=cache
    )
    assert listed.returncode == 0 and set(TASK_NAMES) <= {line.strip() for line in listed.stdout.splitlines()}
    assert f"in {folder}" not in listed.stderr and "yamls" not in listed.stderr, (
        "no file of ours is left over"
    )
    sizes = lmms_eval(
        "power", "--tasks", "egost_mini_action_reverse", "--include-path", folder, cwd=tmp_path, cache=cache
    )
    assert sizes.returncode == 0, sizes.stdout + sizes.stderr
    assert re.search(r"egost_mini_action_reverse:\n +Sample size: +n = [1-9]", sizes.stdout), sizes.stdout


@pytest.mark.parametrize("what", ["groups", "subtasks"])
def test_the_tables_of_lmms_eval_hold_our_tasks(cache: Path, tmp_path: Path, what: str) -> None:
    done = lmms_eval("tasks", what, "--include-path", str(TASK_FOLDER), cwd=tmp_path, cache=cache)
    shown = {line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")}
    is_group = what == "groups"
    assert {name for name, known in TASK_NAMES.items() if known.is_group == is_group} <= shown, done.stderr


LISTS_IN_PYTHON = """
import json, sys

def main():
    from lmms_eval.tasks import TaskManager

    given = TaskManager("DEBUG", include_path=sys.argv[1], include_defaults=False).all_tasks
    import lmms_eval.models

    print(json.dumps([given, TaskManager(include_defaults=False).all_tasks]))
"""


def test_a_task_manager_in_python_has_our_tasks(cache: Path, tmp_path: Path) -> None:
    """By the folder; or, as in the HTTP server's list, without one where the models were imported."""
    done = in_python(LISTS_IN_PYTHON, TASK_FOLDER, tmp_path, environment(cache))
    assert json.loads(done.stdout) == [sorted(TASK_NAMES)] * 2, done.stderr
    assert "could not be loaded" not in done.stderr


def test_the_wizard_has_our_tasks(cache: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", "eval"],
        input="egost_journal\nadapter=dummy\nsearch egost_mini_route\n",
        cwd=tmp_path,
        env=environment(cache, EGOST_ONLY="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "egost_mini_route_reverse" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]


def test_a_folder_of_ones_own_yamls_as_tasks(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    own_yaml(tmp_path / "own", "mine", "egost_mini_direction_forward", "description: 'Look. '")
    done = lmms_eval(
        *("--tasks", str(tmp_path / "own"), "--output_path", "run", "--log_samples", *MODEL),
        cwd=tmp_path,
        cache=cache,
    )
    results, samples = saved(tmp_path / "run")
    assert len(samples["mine"]) == 3 and samples["mine"][0]["input"].startswith("Look. The video"), (
        done.stderr
    )
    assert results["configs"]["mine"]["metadata"]["overridden"] == ["description"]


@pytest.mark.parametrize("tasks", ["egost_mini_mcq,theirs", "*", "mixed", "tagged"])
def test_a_foreign_task_is_refused_before_an_adapter_of_ours_is_made(
    cache: Path, tmp_path: Path, tasks: str
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "data.json").write_text('[{"question": "?", "answer": "A"}]')
    fields = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(own / "data.json")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "answer",
    }
    (own / "theirs.yaml").write_text(json.dumps({"task": "theirs", "tag": "tagged", **fields}))
    members = ["egost_mini_route", {"task": "theirs", "num_fewshot": 0}]
    (own / "mixed.yaml").write_text(json.dumps({"group": "mixed", "task": members}))
    own_yaml(own, "mine", "egost_mini_route_forward", "doc_to_text: question")
    done = lmms_eval(
        *("--tasks", tasks, "--include_path", str(own), "--model", "egost_journal"),
        *("--model_args", "adapter=none_of_this_name"),
        cwd=tmp_path,
        cache=cache,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert (
        "egost: --model egost_journal evaluates egost tasks only, and theirs is none: run it by itself"
        in done.stderr
    )
    ours = lmms_eval(
        *("--tasks", "egost_mini_mcq,mine", "--include_path", str(own), "--model", "egost_journal"),
        *("--model_args", "adapter=none_of_this_name"),
        cwd=tmp_path,
        cache=cache,
    )
    assert "lmms-eval has no adapter 'none_of_this_name'" in ours.stderr


PYTHON_API = """
import json, os, sys
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models.simple.dummy import Dummy
from lmms_eval.tasks import TaskManager
from egost.model_adapters.adapter import EgostJournal

def tried(model, policy="", manager=None, **more):
    os.environ["EGOST_TRAINED_ON"] = policy
    try:
        done = simple_evaluate(
            model=model, tasks=["egost_mini_direction_forward"], task_manager=manager and TaskManager(), **more
        )
        metadata = done["configs"]["egost_mini_direction_forward"]["metadata"]
        asked = [row["percent"]["sample_id"] for row in done["samples"]["egost_mini_direction_forward"]]
        return {"asked": asked, "overlap": metadata.get("trained_on_overlap")}
    except SystemExit as stopped:
        return str(stopped)

def main():
    folder, named = sys.argv[1], "response=A,model=" + sys.argv[1]
    trained, unrelated, by_arguments = Dummy(response="A"), Dummy(response="A"), Dummy.create_from_arg_string(named)
    trained.path = folder
    ours = EgostJournal(adapter="dummy", response="A", peft=folder)
    print(json.dumps({
        "by name": tried("dummy", model_args=named),
        "unrelated object": tried(unrelated),
        "made of arguments": tried(by_arguments),
        "object": tried(trained),
        "object, own manager": tried(trained, manager=True),
        "object of ours": tried(ours),
        "unrelated name": tried("dummy", model_args="response=A"),
        "object, allow": tried(trained, "allow"),
        "by name, allow": tried("dummy", "allow", model_args=named),
        "object, leave out": tried(trained, "leave-out"),
        "by name, leave out": tried("dummy", "leave-out", model_args=named),
        "unrelated object again": tried(unrelated, "leave-out"),
    }))
"""


def test_the_guard_looks_at_the_model_that_is_asked(cache: Path, tmp_path: Path) -> None:
    ids = ["Part1/direction_forward/1", "Part2/direction_forward/2", "Part4/direction_forward/0"]
    manifest = {
        "world": "mini",
        "release_revision": mini_revision(cache / "mini"),
        "rows": [{"sample": ids[0], "clip_sha256": "0" * 64}],
    }
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "egost_training.json").write_text(json.dumps(manifest))
    done = in_python(PYTHON_API, tmp_path / "trained", tmp_path, environment(cache, EGOST_ONLY="1"))
    assert done.returncode == 0, done.stderr[-3000:]
    came = json.loads(done.stdout.splitlines()[-1])
    for refused in ("by name", "made of arguments", "object", "object, own manager", "object of ours"):
        assert "the model was trained on 1 of the 3 samples of direction_forward" in came[refused], refused
        assert ids[0] in came[refused] and "EGOST_TRAINED_ON=allow" in came[refused]
    for other in ("unrelated object", "unrelated name", "unrelated object again"):
        assert came[other] == {"asked": ids, "overlap": None}, other
    overlap = {"direction_forward": 1}
    for allowed in ("object, allow", "by name, allow"):
        assert came[allowed] == {"asked": ids, "overlap": overlap}, allowed
    for left_out in ("object, leave out", "by name, leave out"):
        assert came[left_out] == {"asked": ids[1:], "overlap": overlap}, left_out
