"""lmms-eval used as its own users use it: its flags, its caches, tasks of one's own on top of ours."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
from chat_server import serve_chat
from demo_runs import DemoHome
from judge_server import JudgeServer, scores_of, serve_judge
from lmms_eval_command import environment, lmms_eval, saved
from typer.testing import CliRunner

from egost.main import app
from egost.model_adapters.engine import AdapterError, GenerationArguments
from egost.results.compare import compare, unlike
from egost.results.run import read_run
from egost.results.run_header import RunError
from egost.tasks.mini_world import write_mini_release
from egost.tasks.release.release import mini_revision
from egost.tasks.task_names import TASK_FOLDER, TASK_NAMES

REPLY = "B. Walk straight and turn left at the red plain panel."
MODEL = ["--model", "dummy", "--model_args", f"response={REPLY}"]
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "cache"
    write_mini_release(folder / "mini", clips=3, seed=5, progress=False)
    return folder


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serve_judge() as running:
        yield running


def egost(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})
    return done.exit_code, done.output


def test_predict_only_judges_nothing_and_is_scored_afterwards(
    cache: Path, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = {"EGOST_JUDGE": f"openai:judge-model@{server.url}", "EGOST_JUDGE_KEY": KEY}
    done = lmms_eval(
        *("--tasks", "egost_mini_route,egost_mini_direction_forward", *MODEL, "--output_path", "run"),
        *("--predict_only", "--num_fewshot", "2"),
        cwd=tmp_path,
        cache=cache,
        EGOST_ONLY="1",
        **judge,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "num_fewshot has been set to 0 for egost_mini_route_forward" in done.stdout + done.stderr
    assert not server.asks, "nothing was to be scored"
    for command in ("summary", "report"):
        code, said = egost(command, tmp_path / "run")
        assert code == 2 and "was run with --predict_only" in said and "egost judge" in said

    monkeypatch.setenv("EGOST_CACHE", str(cache))
    for name, value in judge.items():
        monkeypatch.setenv(name, value)
    code, said = egost("judge", tmp_path / "run")
    assert code == 0 and len(server.asks) == 6, said
    [written] = tmp_path.rglob("*-judged-*_results.json")
    results = json.loads(written.read_text())
    rows = {
        path.name.split("_samples_")[1].removesuffix(".jsonl"): [json.loads(line) for line in path.open()]
        for path in tmp_path.rglob("*-judged-*_samples_*.jsonl")
    }
    for task in ("egost_mini_route_forward", "egost_mini_route_reverse"):
        by_hand = [sum(scores_of(row["target"], REPLY)) / 3 * 20 for row in rows[task]]
        assert results["results"][task]["percent,none"] == pytest.approx(mean(by_hand))
    right = [100.0 * (row["target"] == "B") for row in rows["egost_mini_direction_forward"]]
    direction = results["results"]["egost_mini_direction_forward"]
    assert direction["percent,none"] == pytest.approx(mean(right)) and direction["n_scored,none"] == 3
    assert results["groups"]["egost_mini_route"]["percent,none"] == pytest.approx(
        mean(results["results"][f"egost_mini_route_{way}"]["percent,none"] for way in ("forward", "reverse"))
    )
    assert egost("summary", written)[0] == 0


def test_other_generation_arguments_and_another_instruction_are_not_alike(demo_home: DemoHome) -> None:
    run, other = read_run(demo_home.output), read_run(demo_home.output)
    assert "gen_kwargs: max_new_tokens=8" in egost("summary", demo_home.output)[1]
    assert not unlike(run, other, sorted(run.header.tasks))
    changed = {"gen_kwargs": "max_new_tokens=9", "system_instruction": "Be brief."}
    other.__dict__["header"] = dataclasses.replace(run.header, **changed)
    assert [str(one) for one in unlike(run, other, sorted(run.header.tasks))] == [
        "generation arguments of all tasks: max_new_tokens=8 against max_new_tokens=9",
        "system instruction of all tasks: the tasks' own against Be brief.",
    ]
    assert other.settings["system_instruction"] == "Be brief."


def test_a_refused_generation_argument_is_named_with_its_value() -> None:
    with pytest.raises(AdapterError, match=r"honour the generation argument num_beams=4; expected"):
        GenerationArguments.read({"max_new_tokens": 8, "num_beams": 4}, seed=0)
    with pytest.raises(AdapterError, match=r"argument best_of=3, penalty=0\.5; expected"):
        GenerationArguments.read({"max_new_tokens": 8, "best_of": 3, "penalty": 0.5, "num_beams": 1}, seed=0)


def test_the_hosts_cache_is_refused_in_one_sentence(cache: Path, tmp_path: Path) -> None:
    done = lmms_eval(
        *("--tasks", "egost_mini_mcq", *MODEL, "--output_path", "run", "--use_cache", "responses"),
        cwd=tmp_path,
        cache=cache,
        EGOST_ONLY="1",
    )
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "egost: --use_cache would keep a failed request" in done.stderr
    assert "--model egost_journal" in done.stderr and not (tmp_path / "responses").exists()


def test_the_results_are_json_and_a_baseline_finds_each_score(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    write_mini_release(cache / "mini", clips=3, seed=5, progress=False)
    next((cache / "mini").rglob("*.mp4")).write_bytes(b"")
    common = ("--model", "dummy", "--log_samples", "--tasks", "egost_mini_mcq,egost_mini_route")
    first = lmms_eval(
        *common, "--model_args", "response=A", "--output_path", "first", cwd=tmp_path, cache=cache
    )
    [baseline] = (tmp_path / "first").rglob("*_samples_egost_mini_direction_forward.jsonl")
    second = lmms_eval(
        *(*common, "--model_args", "response=B", "--output_path", "second", "--baseline", str(baseline)),
        cwd=tmp_path,
        cache=cache,
    )
    assert "[Baseline] Loaded 3 samples" in second.stdout, first.stderr + second.stderr

    [file] = (tmp_path / "second").rglob("*_results.json")
    results = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    _, samples = saved(tmp_path / "second")
    for rows in samples.values():
        for row in rows:
            scored = row["percent"]["unscored"] is None
            assert (row["n_scored"], row["score"] is not None) == (int(scored), scored)
            assert (row["n_unscored"] is None) == scored
    rows = samples["egost_mini_direction_forward"]
    assert [row["score"] for row in rows if row["n_scored"]] == [
        float(row["target"] == "B") for row in rows if row["n_scored"]
    ]
    figures = results["results"]["egost_mini_direction_forward"]
    assert (figures["n_scored,none"], figures["n_unscored,none"]) == (2, 1)
    assert figures["truncated,none"] is None and not [
        name for name in figures if "n_scored_stderr_clt" in name and figures[name] != "N/A"
    ]
    compared = [row["target"] for row in rows if row["n_scored"]]
    assert figures["paired_baseline_score"] == 100 * mean(float(right == "A") for right in compared)
    assert figures["percent,none"] == 100 * mean(float(right == "B") for right in compared)
    found = results["efficiency"]["by_task"]["egost_mini_direction_forward"]
    assert found["total_correct_score"] == compared.count("B")
    for group in ("egost_mini_mcq", "egost_mini_route"):
        shown = {name.partition(",")[0] for name in results["groups"][group] if "_stderr" not in name}
        assert shown == {"percent", "compat", "alias"} | (shown & {" "}), shown
    assert egost("summary", tmp_path / "second")[0] == 1, "too many are unscored"


@pytest.mark.parametrize(
    ("adapter", "more", "argument"),
    [
        ("openai", (), "max_frames_num"),
        ("openai", ("--force_simple",), None),
        ("async_openai", (), "nframes"),
        ("egost_journal", (), "max_frames_num"),
    ],
)
def test_lmms_evals_clients_of_servers_take_all_8_frames(
    cache: Path, tmp_path: Path, adapter: str, more: tuple[str, ...], argument: str | None
) -> None:
    own = "adapter=openai," if adapter == "egost_journal" else ""
    with serve_chat(script=lambda ask: "ok", names=("tiny",)) as server:
        common = f"{own}model=tiny,base_url={server.url}/v1,api_key=none"
        for frames in ("", f",{argument}=8") if argument else ("",):
            done = lmms_eval(
                *("--tasks", "egost_mini_direction_forward", "--output_path", "run", "--log_samples"),
                *("--model", adapter, *more, "--model_args", common + frames),
                cwd=tmp_path,
                cache=cache,
                EGOST_ONLY="1",
            )
            if argument and not frames:
                assert done.returncode == 1 and f"Add {argument}=8 to --model_args" in done.stderr
                assert not server.asks and not (tmp_path / "run").exists()
        assert len(server.questions) == 3
        assert [len(ask.frames) for ask in server.questions if ask.frames is not None] == [8, 8, 8]
    results, _ = saved(tmp_path / "run")
    assert results["results"]["egost_mini_direction_forward"]["n_scored,none"] == 3


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
from lmms_eval.tasks import TaskManager

given = TaskManager("DEBUG", include_path=sys.argv[1], include_defaults=False).all_tasks
import lmms_eval.models

print(json.dumps([given, TaskManager(include_defaults=False).all_tasks]))
"""


def test_a_task_manager_in_python_has_our_tasks(cache: Path, tmp_path: Path) -> None:
    """By the folder; or, as in the HTTP server's list, without one where the models were imported."""
    done = subprocess.run(
        [sys.executable, "-c", LISTS_IN_PYTHON, str(TASK_FOLDER)],
        cwd=tmp_path,
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
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


def test_cached_requests_are_refused(cache: Path, tmp_path: Path) -> None:
    tasks = ("--tasks", "egost_mini_mcq", "--output_path", "run", *MODEL)
    done = lmms_eval(*tasks, "--cache_requests", "true", cwd=tmp_path, cache=cache)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "run").exists()
    assert "egost: --cache_requests would ask what it kept before, without the clips" in done.stderr


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
    done = subprocess.run(
        [sys.executable, "-c", PYTHON_API, str(tmp_path / "trained")],
        cwd=tmp_path,
        env=environment(cache, EGOST_ONLY="1"),
        capture_output=True,
        text=True,
        check=False,
    )
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
