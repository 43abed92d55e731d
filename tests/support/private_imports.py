"""Does what a user gets have the private modules that lmms-eval imports? Such a module goes without a warning.

`make resolve` resolves setup.cfg without the lock, newest and oldest, on each Python that is supported, and looks into
the wheels of the packages concerned. Nothing of them is imported.
"""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

UV = Path(sys.executable).with_name("uv")
RESOLUTIONS = ("highest", "lowest-direct")

NOT_ASKED = {
    # Gone with the module in transformers 5.24: docs/limits.md.
    "transformers.modeling_attn_mask_utils._prepare_4d_causal_attention_mask_for_sdpa": "cambrians_vsc, cambrians_vsr",
}
"""Names that only models import which egost never asks, and these models."""


def private_imports(package: Path) -> dict[str, str]:
    """Each private name of another package that a package imports, such as `filelock._api`, and a file that does so."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                top, *rest = name.split(".")
                if top != package.name and any(part.startswith("_") for part in rest):
                    found.setdefault(name, str(file.relative_to(package)))
    return found


def missing(names: Iterable[str], site: Path) -> list[str]:
    """The names that a folder of packages has not: neither as a module nor in one."""
    return [name for name in names if not _has(site, name.split("."))]


def _has(folder: Path, parts: list[str]) -> bool:
    """Whether a module or a name is below a folder, as far as can be told without importing it."""
    first, *rest = parts
    if (folder / first).is_dir():
        return not rest or _has(folder / first, rest) or _says(folder / first / "__init__.py", rest)
    if (folder / f"{first}.py").is_file():
        return not rest or _says(folder / f"{first}.py", rest)
    return any(folder.glob(f"{first}.*.so"))


def _says(file: Path, rest: list[str]) -> bool:
    """Whether a module defines or imports a name at any depth, or takes in all names of another one."""
    nodes = list(ast.walk(ast.parse(file.read_bytes()))) if file.is_file() else []
    named = {getattr(node, "name", None) or getattr(node, "id", None) for node in nodes}
    named |= {alias.asname for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return len(rest) == 1 and bool(named & {rest[0], "*"})


def pythons() -> list[str]:
    """The versions of Python that setup.cfg names."""
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    last = [line.rpartition(" ")[2] for line in parsed["metadata"]["classifiers"].splitlines()]
    return [word for word in last if word.startswith("3.")]


def resolved(resolution: str) -> dict[str, dict[str, str]]:
    """Version of each package that a user of Linux gets, for each Python: its newest or its oldest."""
    asked = ["--universal", "--python-version", pythons()[0], "--resolution", resolution]
    said = _uv("compile", "--quiet", "--no-annotate", "--no-header", *asked, str(ROOT / "setup.cfg"))
    lines = [Requirement(line) for line in said.splitlines()]
    return {
        python: {
            canonicalize_name(line.name): str(line.specifier).removeprefix("==")
            for line in lines
            if line.marker is None
            or line.marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"})
        }
        for python in pythons()
    }


def check() -> list[str]:
    """What is missing for some user, one sentence each."""
    spec = find_spec("lmms_eval")
    assert spec and spec.origin
    imports = private_imports(Path(spec.origin).parent)
    distributions = packages_distributions()
    # What lmms-eval does not require is asked for by few of its tasks, and their users.
    owners = {name: canonicalize_name(distributions.get(name.split(".")[0], [""])[0]) for name in imports}
    sets: dict[tuple[str, ...], str] = {}  # The wheels of a set, and a Python that gets it.
    with ThreadPoolExecutor() as pool:
        known = dict(zip(RESOLUTIONS, pool.map(resolved, RESOLUTIONS), strict=True))
    for resolution, python in product(RESOLUTIONS, pythons()):
        versions = known[resolution][python]
        if versions["lmms-eval"] != version("lmms-eval"):
            return [f"lmms-eval {versions['lmms-eval']} is out and was not looked through. Run make lock."]
        wheels = sorted({f"{owner}=={versions[owner]}" for owner in owners.values() if owner in versions})
        sets[tuple(wheels)] = python
        print(f"Python {python}, {resolution}: {', '.join(wheels)}", flush=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        sites = {", ".join(wheels): Path(folder, str(number)) for number, wheels in enumerate(sets)}
        list(pool.map(_fetch, sets, sets.values(), sites.values()))
        return [
            f"lmms_eval/{imports[name]} imports {name}, which is not in {what}. Bound it in setup.cfg."
            for what, site in {**sites, "the lock": Path(spec.origin).parents[1]}.items()
            for name in missing(imports.keys() - NOT_ASKED, site)
            if (site / name.split(".")[0]).exists()
        ]


def _fetch(wheels: Iterable[str], python: str, site: Path) -> None:
    to = ["--python-version", python, "--only-binary", ":all:", "--no-deps", "--target", str(site)]
    _uv("install", "--quiet", *to, *wheels)


def _uv(*arguments: str) -> str:
    done = subprocess.run([str(UV), "pip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"uv pip {' '.join(arguments)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    warnings.simplefilter("ignore", SyntaxWarning)
    sys.exit("\n".join(check()) or None)
