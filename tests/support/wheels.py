"""The wheel, and environments that hold it and not the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT


def build_wheel(folder: Path) -> Path:
    """Build the checkout's wheel into a folder."""
    folder.mkdir(exist_ok=True)
    source = folder / "source"
    # Of the top folder alone: a package may have a folder of such a name.
    left_out = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "tests", "shared")
    shutil.copytree(ROOT, source, ignore=lambda at, names: left_out(at, names) if Path(at) == ROOT else set())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    shutil.rmtree(source)
    [wheel] = folder.glob("egost-*.whl")
    return wheel


def empty_environment(folder: Path) -> Path:
    """A virtual environment without pip, over the packages that egost needs; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages(folder) / "the_packages_that_egost_needs.pth").write_text("\n".join(packages))
    return folder / "bin" / "python"


def site_packages(environment: Path) -> Path:
    [site] = environment.glob("lib/python*/site-packages")
    return site


def install(python: Path, wheel: Path) -> None:
    """Install a wheel alone, without a network."""
    _uv("install", "--python", str(python), "--offline", "--no-deps", str(wheel))


def uninstall(python: Path, name: str) -> None:
    _uv("uninstall", "--python", str(python), name)


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run([str(uv), "pip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def without_checkout() -> dict[str, str]:
    """The environment variables of a process that must not find the checkout."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("EGOST_")}
