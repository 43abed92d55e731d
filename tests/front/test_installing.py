"""Installing without the lock: what the metadata says, what make refuses, and what the sdist holds."""

from __future__ import annotations

import configparser
import email
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from missing_programs import not_run
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from places import ROOT
from private_imports import missing, private_imports, pythons
from wheels import build, empty_environment, install, without_checkout

from egost.tasks.errors import install_command

X86 = {"platform_machine": "x86_64", "sys_platform": "linux"}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def requirement(metadata: Message, name: str) -> Requirement:
    [found] = [r for r in map(Requirement, metadata.get_all("Requires-Dist", [])) if r.name == name]
    return found


def test_each_python_that_is_named_may_install_it_and_no_older_one(metadata: Message) -> None:
    assert pythons() == ["3.11", "3.12", "3.13"]
    allowed = SpecifierSet(metadata["Requires-Python"])
    assert all(f"{python}.0" in allowed for python in pythons()) and "3.10.19" not in allowed
    classifiers = metadata.get_all("Classifier", [])
    assert {f"Programming Language :: Python :: {python}" for python in pythons()} <= set(classifiers)


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("transformers", ["5.16.1", "5.19.0", "5.24.0", "5.24.3"], ["5.16.0", "5.25.0"]),
        ("filelock", ["4.2.12"], ["4.3.0", "4.3.1"]),
        ("typer", ["0.15.4", "0.29.2"], ["0.15.0", "0.15.3"]),
        ("vllm", ["0.31.0", "0.33.1"], ["0.30.9", "0.34.0"]),
    ],
)
def test_bounds(metadata: Message, name: str, allowed: list[str], refused: list[str]) -> None:
    bound = requirement(metadata, name).specifier
    assert all(version in bound for version in allowed) and not any(version in bound for version in refused)


@pytest.mark.parametrize(
    ("machine", "system", "wanted"),
    [
        ("x86_64", "linux", True),
        ("AMD64", "win32", True),
        ("x86_64", "darwin", False),
        ("arm64", "darwin", False),
        ("aarch64", "linux", False),
        ("ARM64", "win32", False),
    ],
)
def test_decord_is_asked_for_where_it_has_wheels(
    metadata: Message, machine: str, system: str, wanted: bool
) -> None:
    marker = requirement(metadata, "decord").marker
    assert marker and marker.evaluate({"platform_machine": machine, "sys_platform": system}) is wanted


def test_the_extras_can_be_had_from_an_index(metadata: Message) -> None:
    extras = metadata.get_all("Provides-Extra", [])
    assert {"train", "vllm", "dev"} <= set(extras) and "vllm-cpu" not in extras
    assert not [r for r in metadata.get_all("Requires-Dist", []) if "+" in r or "#" in r]


def test_the_description_points_nowhere_into_a_checkout(metadata: Message) -> None:
    text = metadata.get_payload()
    assert "egost run qwen2.5-vl-7b" in text and metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links and all(link.startswith("https://") for link in links)
    assert "Take part: development" in text, "the text of a link stays"
    headings = re.findall(r"^#+ .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) > 5 and re.findall(r"^#+ .*$", text, re.MULTILINE) == headings
    assert "![" not in text and "!Right" not in text
    assert metadata.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2503.12542"]


def test_each_upper_bound_has_its_reason_beside_it() -> None:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    lists = [parsed["options"]["install_requires"], *parsed["options.extras_require"].values()]
    lines = [line for text in lists for line in text.splitlines() if line]
    assert len(lines) > 30
    bounded = [line for line in lines if re.search(r"<\d", line)]
    assert len(bounded) >= 7 and all(re.search(r"  # \w.{10}", line) for line in bounded), bounded


def test_the_lock_holds_no_pre_release_and_fits_setup_cfg() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate(X86)]
    versions = {r.name: Version(str(r.specifier).removeprefix("==")) for r in locked}
    assert len(versions) > 150 and not [name for name, found in versions.items() if found.is_prerelease]
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    for line in parsed["options"]["install_requires"].splitlines()[1:]:
        wanted = Requirement(line.split("  #")[0])
        assert versions[wanted.name.replace("_", "-")] in wanted.specifier, line


# The real interpreter, which calls itself something else.
FAKE = """#!/bin/sh
exec {python} -c 'import sys; sys.version_info = ({version}, 4, "final", 0); exec(sys.argv[1])' "$2"
"""


def make(folder: Path, version: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make install`, without doing it, by a Python of some version."""
    python = folder / "python"
    python.write_text(FAKE.format(python=sys.executable, version=version))
    python.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), f"PYTHON={python}", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["install", "demo", "test", "check", "vllm-cpu", "install-check"])
@pytest.mark.parametrize("version", ["2, 7", "3, 9", "3, 10"])
def test_make_refuses_an_old_python_before_anything_is_built(
    tmp_path: Path, target: str, version: str
) -> None:
    for name in ("requirements.lock", "requirements-vllm.lock", "setup.cfg", "setup.py", "pyproject.toml"):
        (tmp_path / name).touch()
    done = make(tmp_path, version, target)
    assert done.returncode == 2 and done.stderr.startswith("egost needs Python 3.11 or later, and ")
    assert f"is {version.replace(', ', '.')}. Name another one" in done.stderr
    assert not (tmp_path / ".venv").exists() and not (tmp_path / ".venv-checked").exists()


def test_make_refuses_another_python_than_that_of_the_environment(tmp_path: Path) -> None:
    for name in ("requirements.lock", "setup.cfg", "setup.py", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/lib/python3.12").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    (tmp_path / ".venv/.installed").touch()
    refused = make(tmp_path, "3, 13", "install")
    assert refused.returncode == 2 and "was made with another Python than" in refused.stderr
    assert "(3.13). Take an environment of its own (VENV=.venv-3.13)" in refused.stderr
    same = make(tmp_path, "3, 12", "install")
    assert same.returncode == 0, same.stderr


def test_a_private_module_that_is_gone_is_found(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "deep").mkdir(parents=True)
    (host / "__init__.py").write_text("import filelock._api\nfrom host._own import x\nfrom . import _near\n")
    (host / "deep" / "late.py").write_text(
        "def f():\n    from lib._inner import shown\n    from lib import _module, _name, public\n    import lib._gone\n"
        "    from lib.__about__ import _hidden\n    from lib._package import _far\n    import lib._built\n"
    )
    found = private_imports(host)
    assert found["filelock._api"] == "__init__.py" and found["lib._gone"] == "deep/late.py"
    assert "lib.public" not in found and not [name for name in found if name.startswith("host")]
    site = tmp_path / "site"
    (site / "lib" / "_package").mkdir(parents=True)
    (site / "filelock").mkdir()
    files = {
        "filelock/__init__.py": "",
        "lib/__init__.py": "try:\n    from fast import name as _name\nexcept ImportError:\n    _name = None\n",
        "lib/_inner.py": "def shown(): ...\n",
        "lib/_module.py": "",
        "lib/_package/__init__.py": "",
        "lib/_built.cpython-311-x86_64-linux-gnu.so": "",
        "lib/__about__.py": "shown = 1\n",
    }
    for name, text in files.items():
        (site / name).write_text(text)
    assert sorted(missing(found, site)) == [
        "filelock._api",
        "lib.__about__._hidden",
        "lib._gone",
        "lib._package._far",
    ]


@pytest.mark.parametrize(
    ("extra", "packages"),
    [("train", {"peft", "tensorboard", "trl"}), ("vllm", {"vllm"})],
)
def test_advice_names_the_packages_of_an_extra_with_their_bounds(extra: str, packages: set[str]) -> None:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    lines = parsed["options.extras_require"][extra].splitlines()
    wanted = {Requirement(line.split("  #")[0]) for line in lines if line}
    pip, verb, *asked = shlex.split(install_command(extra))
    assert (pip, verb) == ("pip", "install") and set(map(Requirement, asked)) == wanted
    assert {requirement.name for requirement in wanted} == packages


def test_no_advice_names_a_package_that_is_on_no_index() -> None:
    roots = ("egost", "egost_tasks", "model_adapters", "training", "results", "docs")
    files = [file for root in roots for file in (ROOT / root).rglob("*")] + list(ROOT.glob("*.md"))
    texts = {
        file: file.read_text(encoding="utf-8") for file in files if file.suffix in (".py", ".md", ".yaml")
    }
    assert len(texts) > 200
    wrong = r"pip install [^\n`#]*?(?<![\w/.-])egost(?![\w-])(?!(\[\w+\])? @)"
    assert re.search(wrong, "pip install 'egost[train]'") and re.search(wrong, "uv pip install egost")
    assert not [str(file) for file, text in texts.items() if re.search(wrong, text)]


def test_what_a_missing_program_left_out_is_counted_and_named() -> None:
    def skip(test: str, reason: str) -> Any:
        return SimpleNamespace(nodeid=f"tests/test_x.py::{test}", longrepr=("x.py", 1, f"Skipped: {reason}"))

    chromium = "no chromium on this machine (Debian: apt-get install chromium)"
    reports = [skip("test_b", chromium), skip("test_a[1]", chromium), skip("test_c", "vLLM is not here")]
    reports.append(skip("test_d", "no pdflatex on this machine"))
    assert not_run(reports) == [
        f"not run: 2 tests, {chromium}: test_a[1], test_b",
        "not run: 1 test, no pdflatex on this machine: test_d",
    ]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(folder, "sdist")) as archive:
        archive.extractall(folder, filter="data")
    [root] = folder.glob("egost-*/")
    return root


def test_the_sdist_holds_the_checkout(unpacked: Path) -> None:
    tops = (
        ".ci",
        ".github",
        "docs",
        "egost",
        "egost_tasks",
        "model_adapters",
        "results",
        "tests",
        "training",
    )
    kept = {Path("Makefile"), Path("requirements-vllm.in"), Path("SECURITY.md"), Path("setup.py")}
    for top in tops:
        kept |= {file.relative_to(ROOT) for file in (ROOT / top).rglob("*") if file.is_file()}
    kept = {file for file in kept if "__pycache__" not in file.parts and ".egg-info" not in str(file)}
    assert len(kept) > 500
    assert not [str(file) for file in sorted(kept) if not (unpacked / file).is_file()]


def test_the_tests_run_from_the_sdist(unpacked: Path, tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "env")
    install(python, unpacked)
    slice_of_them = [
        "tests/front/test_settings.py",
        "tests/egost_tasks/scoring/test_scores.py",
        "tests/egost_tasks/test_prompts.py",
    ]
    done = subprocess.run(
        [str(python), "-P", "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", *slice_of_them],
        cwd=unpacked,
        env=without_checkout(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 40


def test_torch_for_a_cpu_leaves_out_all_that_is_for_cuda(tmp_path: Path) -> None:
    """The command line alone: the build itself is on torch's own index."""
    for name in ("requirements.lock", "setup.cfg", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    [command] = [
        line
        for line in make(tmp_path, "3, 11", "-n", "install", "TORCH=cpu").stdout.splitlines()
        if "--torch" in line
    ]
    assert "--torch-backend cpu" in command
    shown = command[command.index("<(") + 2 : command.index(")", command.index("requirements.lock"))]
    kept = subprocess.run(
        ["bash", "-c", shown], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    names = [line.partition("==")[0] for line in kept.splitlines()]
    assert "torch" in names and "torchvision" in names and "transformers" in names
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]
    assert "--torch-backend" not in make(tmp_path, "3, 11", "-n", "install").stdout
