"""Do a tag, setup.cfg, CITATION.cff and CHANGELOG.md agree? `python tests/support/release.py v0.2.0` prints the notes.

The notes are the version's section of CHANGELOG.md. Exit code 1 names what does not agree.
"""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def notes(tag: str, root: Path) -> str:
    """The changes of the version that a tag names. Raises ValueError where the files say something else."""
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg", encoding="utf-8")
    version = setup["metadata"]["version"]
    citation = dict(
        re.findall(r'^([\w-]+): "?([^"\n]+)"?$', (root / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    )
    sections = SECTION.findall((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    unreleased, newest = [*sections, ("", "", ""), ("", "", "")][:2]
    wrong = []
    if tag != f"v{version}":
        wrong.append(
            f"the tag is {tag}, setup.cfg has version {version}: tag v{version}, or change setup.cfg"
        )
    if citation.get("version") != version:
        wrong.append(f"CITATION.cff has version {citation.get('version')}, setup.cfg has {version}")
    if unreleased[0] != "Unreleased" or unreleased[2].strip():
        wrong.append(
            "CHANGELOG.md must begin with an empty section [Unreleased]: move its changes to the version"
        )
    if newest[0] != version or not newest[1]:
        wrong.append(f"the second section of CHANGELOG.md must be '## [{version}] - YYYY-MM-DD'")
    elif citation.get("date-released") != newest[1]:
        wrong.append(f"CITATION.cff says {citation.get('date-released')}, CHANGELOG.md says {newest[1]}")
    if wrong:
        raise ValueError("\n".join(wrong))
    return newest[2].strip()


if __name__ == "__main__":
    try:
        print(notes(sys.argv[1], Path(__file__).parents[2]))
    except ValueError as error:
        sys.exit(str(error))
