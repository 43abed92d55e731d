"""What is installed: every package is listed, and nobody else's package is touched."""

from __future__ import annotations

import configparser
import subprocess
import zipfile
from pathlib import Path

import pytest
from places import ROOT
from wheels import empty_environment, install, site_packages, uninstall, without_checkout

FOREIGN = ("model_adapters", "results", "training")
"""Names of folders here that are also likely names of somebody's own packages."""


def options() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return parsed


def listed() -> dict[str, Path]:
    """Each package that setup.cfg lists, with its folder."""
    roots = dict(line.split(" = ") for line in options()["options"]["package_dir"].split("\n") if line)
    found = {}
    for package in options()["options"]["packages"].split():
        root = max((r for r in roots if f"{package}.".startswith(f"{r}.")), key=len)
        found[package] = ROOT / roots[root] / package.removeprefix(root).replace(".", "/").strip("/")
    return found


def with_modules() -> set[Path]:
    """Every folder below the five roots that holds a module."""
    roots = ("egost", "egost_tasks", "model_adapters", "results", "training")
    return {file.parent for root in roots for file in (ROOT / root).rglob("*.py")}


def test_every_folder_with_a_module_is_a_listed_package() -> None:
    packages = listed()
    assert set(packages.values()) == with_modules()
    assert all((folder / "__init__.py").is_file() for folder in packages.values())


def test_each_root_says_that_it_is_typed() -> None:
    data = options()["options.package_data"]
    for name in ("egost", "egost.model_adapters", "egost.results", "egost.tasks", "egost.training"):
        assert (listed()[name] / "py.typed").is_file() and "py.typed" in data[name].split(", "), name


def test_the_wheel_holds_the_modules_and_data_of_its_packages_under_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names} == {
        "egost",
        *(n.split("/")[0] for n in names if "dist-info" in n),
    }
    assert not [name for name in names if "pretraining/" in name], "pre-training is not installed"
    for package, folder in listed().items():
        inside = package.replace(".", "/")
        assert {f"{inside}/{file.name}" for file in folder.glob("*.py")} <= names
    roots_here = {folder.relative_to(ROOT).parts[0] for folder in listed().values()}
    files = [file for root in roots_here for file in (ROOT / root).rglob("*")]
    data = {file.relative_to(ROOT) for file in files if file.suffix in (".yaml", ".jinja")}
    assert len(data) > 30
    roots = {"egost_tasks": "egost/tasks"}
    for file in data:
        top, *rest = file.parts
        assert "/".join([roots.get(top, f"egost/{top}"), *rest]) in names, file


def foreign_wheel(folder: Path) -> Path:
    """Somebody's package with the top-level names that folders here have."""
    wheel = folder / "somebodys-1.0-py3-none-any.whl"
    files = {f"{name}/__init__.py": f"OWNER = 'somebody, {name}'\n" for name in FOREIGN}
    files |= {f"{name}/recipe.py": "" for name in FOREIGN}
    about = "somebodys-1.0.dist-info"
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n"
    files[f"{about}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def test_a_foreign_package_is_untouched_while_egost_comes_and_goes(wheel: Path, tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "env")
    site = site_packages(tmp_path / "env")

    def foreign() -> dict[str, bytes]:
        found = [file for name in FOREIGN for file in (site / name).rglob("*.py")]
        return {str(file.relative_to(site)): file.read_bytes() for file in found}

    install(python, foreign_wheel(tmp_path))
    before = foreign()
    assert len(before) == 2 * len(FOREIGN)
    install(python, wheel)
    assert foreign() == before and (site / "egost" / "training" / "__init__.py").is_file()
    owners = (
        "import egost.training, egost.results, egost.model_adapters, training, results, model_adapters as m; "
    )
    owners += "print(egost.training.__file__, training.OWNER, results.OWNER, m.OWNER)"
    said = run_in(tmp_path, python, "-c", owners)
    assert said.startswith(str(site / "egost"))
    assert all(f"somebody, {name}" in said for name in FOREIGN)
    uninstall(python, "egost")
    assert foreign() == before and not (site / "egost").exists()


def run_in(folder: Path, python: Path, *arguments: str, **settings: str) -> str:
    """What a command prints in a folder; it must end well."""
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env={**without_checkout(), "COLUMNS": "200", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel."""
    python = empty_environment(tmp_path_factory.mktemp("installed") / "env")
    install(python, wheel)
    return python


@pytest.fixture
def own_training(tmp_path: Path) -> Path:
    """A folder of somebody who has packages with these names, and breaks whoever imports them."""
    for name in FOREIGN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is my own package')")
    return tmp_path


def test_the_command_in_a_folder_with_a_training_of_its_own(installed: Path, own_training: Path) -> None:
    command = str(installed.with_name("egost"))
    for words in (["--help"], ["models"], ["train", "--help"]):
        assert run_in(own_training, installed, command, *words, PYTHONPATH=".")


def test_a_module_of_training_in_a_folder_with_a_training_of_its_own(
    installed: Path, own_training: Path
) -> None:
    said = run_in(own_training, installed, "-m", "egost.training.grpo", "--help", PYTHONPATH=".")
    assert "--num_generations" in said
