"""Would the tests notice? Plants small faults in the modules that figures depend on, and runs their quick tests.

    make mutants                                                    # all modules, 25 faults each
    make mutants MUTANTS="--modules scores rubric --count 5 --seed 3"

The faults are those of mutmut's operators (another comparison, a number one off, an argument left out, `in` for
`not in`, a pattern that finds nothing, ...), one at a place, the places drawn at random by the seed. mutmut's own
runner takes no seed, leaves constants and patterns as they are, and imports folders by their names, which
`package_dir` changes. Here a process for each fault imports the faulty text in the module's place, and the files stay
as they are. Left out are annotations, decorators, errors and texts for people. A fault is caught where a quick test of
its module fails, or takes ten times as long as all of them do without it.

The record, tests/benchmarks/records/mutants.json, lists what survives. `equal_mutants.toml` says of survivors that
change nothing why that is so; these do not count.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import spec_from_file_location
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import libcst as cst
import libcst.matchers as m
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[2]
EQUAL = Path(__file__).with_name("equal_mutants.toml")
RECORD = Path(__file__).with_name("records") / "mutants.json"
ROOMS = {"egost_tasks": "egost.tasks", "results": "egost.results", "training": "egost.training"}


class Module(NamedTuple):
    """Where a module is, and its tests under tests/. functions: to plant in; all of the module, if empty.

    slow: whether its tests count as slow, though they only import torch.
    """

    folder: str
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()
    slow: bool = False


MODULES = {
    "protocols": Module("egost_tasks/clips", ("egost_tasks/clips/test_protocols.py",)),
    "prompt": Module(
        "egost_tasks/judging",
        ("egost_tasks/judging/test_openai_judge_reading.py", "test_reference_rules.py"),
    ),
    "route_text": Module(
        "egost_tasks/judging",
        ("egost_tasks/judging/test_route_text.py", "egost_tasks/judging/test_rubric.py"),
    ),
    "rubric": Module(
        "egost_tasks/judging", ("egost_tasks/judging/test_rubric.py", "egost_tasks/judging/test_judge.py")
    ),
    "trained_on": Module("egost_tasks/release", ("egost_tasks/release/test_trained_on.py",)),
    "answer_patterns": Module("egost_tasks/scoring", ("egost_tasks/scoring/test_choices.py",)),
    "choices": Module(
        "egost_tasks/scoring", ("egost_tasks/scoring/test_choices.py", "test_reference_rules.py")
    ),
    "scores": Module("egost_tasks/scoring", ("egost_tasks/scoring/test_scores.py",)),
    "compare": Module("results", ("results/test_compare.py",)),
    "intervals": Module("results", ("results/test_intervals.py",)),
    "rules": Module("results/leaderboard", ("results/leaderboard/test_refusals.py",)),
    "rewards": Module("training", ("training/test_rewards.py",)),
    "video_grpo": Module(
        "training",
        ("training/test_softmax_weights.py",),
        ("normalised_rewards", "softmax_weights", "all_equal"),
        slow=True,
    ),
}


class Fault(NamedTuple):
    """A fault: its line, what the line reads before and after, and the whole faulty module."""

    line: int
    before: str
    after: str
    source: str


def faults(source: str, functions: Sequence[str], draw: random.Random) -> Iterator[Fault]:
    """One fault for each place of a module where an operator finds any, the places in an order drawn at random."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    lines, module, sound = wrapper.resolve(PositionProvider), wrapper.module, _meaning(source)
    named = [
        f
        for f in m.findall(module, m.FunctionDef())
        if cst.ensure_type(f, cst.FunctionDef).name.value in functions
    ]
    places = [
        (node, operator)
        for root in named or [module]
        for node in _nodes(root)
        for kind, operator in mutation_operators
        if isinstance(node, kind)
    ]
    for node, operator in draw.sample(places, len(places)):
        variants = list(operator(node))
        if isinstance(node, cst.SimpleString):
            # Of a text only that it is another; one with a space is for people, unless it is a pattern.
            variants = variants[:1] if "r" in node.prefix or " " not in node.value else []
        if variants:
            faulty = module.deep_replace(node, draw.choice(variants)).code
            if _meaning(faulty) not in ("", sound):
                yield Fault(lines[node].start.line, *_first_difference(source, faulty), faulty)


_LEFT_OUT = cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom | cst.Raise


def _nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        if not isinstance(child, _LEFT_OUT) and not m.matches(child, m.Subscript(m.Name("Literal"))):
            yield from _nodes(child)


def _meaning(source: str) -> str:
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return ""


def _first_difference(before: str, after: str) -> tuple[str, str]:
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    one, other = next((one, other) for one, other in pairs if one != other)
    return one.strip(), other.strip()


class _Faulty(SourceLoader, MetaPathFinder):
    """Imports a text in a module's place; the module keeps its path, by which it finds its data."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_data(self, path: bytes | str) -> bytes:
        return self.source.encode()


def survives(name: str, path: Path, source: str, of: Module, limit_s: float) -> bool:
    """Whether the tests pass on a module's text, in a process of its own."""
    child = os.fork()
    if child == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        sys.meta_path.insert(0, _Faulty(name, path, source))
        os._exit(_tests(of))
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _tests(of: Module, *flags: str) -> int:
    quick = () if of.slow else ("-m", "not slow")
    usual = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-k", "not _time")
    return int(pytest.main([*usual, *quick, *flags, *(str(ROOT / "tests" / one) for one in of.tests)]))


def _load_packages(of: Module) -> None:
    """Import the packages that the tests need, and forget what is ours: each fault imports that anew."""
    if _tests(of, "--collect-only", "-qq"):
        raise SystemExit(f"no tests in {', '.join(of.tests)}")
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if (name.split(".")[0] == "egost" or file.startswith(f"{ROOT}/tests")) and name != "__main__":
            del sys.modules[name]


def examine(module: str, count: int, seed: int, reasons: dict[str, str]) -> dict[str, Any]:
    """Plant some faults in a module. reasons: why a fault changes nothing, by what the line reads with it."""
    of = MODULES[module]
    path = ROOT / of.folder / f"{module}.py"
    room, _, rest = of.folder.partition("/")
    name = ".".join(part for part in (ROOMS[room], *rest.split("/"), module) if part)
    source = path.read_text(encoding="utf-8")
    _load_packages(of)
    start = time.monotonic()
    if not survives(name, path, source, of, 600):
        raise SystemExit(f"the tests of {module} fail without a fault")
    limit_s = 10 * (time.monotonic() - start)
    draw = random.Random(f"{seed} {module}")
    chosen = sorted(islice(faults(source, of.functions, draw), count), key=lambda fault: fault.line)
    left = [fault for fault in chosen if survives(name, path, fault.source, of, limit_s)]
    equal = [fault for fault in left if fault.after in reasons]
    survivors = [f"{fault.line}: {fault.before}  ->  {fault.after}" for fault in left if fault not in equal]
    counts = {"planted": len(chosen), "caught": len(chosen) - len(left), "equal": len(equal)}
    return {"mutmut": version("mutmut"), "seed": seed, **counts, "survivors": survivors}


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--count", type=int, default=25, help="faults a module")
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--record", type=Path, default=RECORD)
    asked = parser.parse_args()
    reasons = tomllib.loads(EQUAL.read_text(encoding="utf-8")) if EQUAL.exists() else {}
    record = json.loads(asked.record.read_text(encoding="utf-8")) if asked.record.exists() else {}
    for module in asked.modules:
        found = examine(module, asked.count, asked.seed, reasons.get(module, {}))
        record[module] = found
        differing = found["planted"] - found["equal"]
        print(
            f"{module}: {found['caught']} of {differing} caught, {found['equal']} more change nothing",
            flush=True,
        )
        print(*(f"  {line}" for line in found["survivors"]), sep="\n", flush=True)
        asked.record.parent.mkdir(parents=True, exist_ok=True)
        asked.record.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
