"""The wheel, the sdist, and environments that hold it and not the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT


def build(folder: Path, kind: str) -> Path:
    """Build the checkout's "wheel" or "sdist" into a folder."""
    folder.mkdir(exist_ok=True)
    source = folder / "source"
    # Of the top folder alone: a package may have a folder of such a name.
    left_out = shutil.ignore_patterns(
        ".venv*", ".git", ".lint", ".*_cache", "runs", "build", "dist", "*.egg-info", "shared"
    )
    shutil.copytree(ROOT, source, ignore=lambda at, names: left_out(at, names) if Path(at) == ROOT else set())
    command = [
        sys.executable,
        "-m",
        "build",
        f"--{kind}",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(source)
    [built] = folder.glob("egost-*.whl" if kind == "wheel" else "egost-*.tar.gz")
    return built


def empty_environment(folder: Path) -> Path:
    """A virtual environment without pip, over the packages that egost needs; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages(folder) / "the_packages_that_egost_needs.pth").write_text("\n".join(packages))
    return folder / "bin" / "python"


def site_packages(environment: Path) -> Path:
    [site] = environment.glob("lib/python*/site-packages")
    return site


def install(python: Path, package: Path) -> None:
    """Install a wheel or a folder of sources alone, without a network."""
    _uv("install", "--python", str(python), "--offline", "--no-deps", "--no-build-isolation", str(package))


def uninstall(python: Path, name: str) -> None:
    _uv("uninstall", "--python", str(python), name)


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run([str(uv), "pip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def without_checkout() -> dict[str, str]:
    """The environment variables of a process that must not find the checkout."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("EGOST_")}
