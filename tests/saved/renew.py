"""Makes tests/saved/mini_run anew, for when the results or samples files have other fields: python tests/saved/renew.py

Its places are written as those of /home/somebody, so that no file names the machine that made it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

SAVED = Path(__file__).parent / "mini_run"
sys.path.insert(0, str(SAVED.parent.parent / "support"))


def renew() -> None:
    from demo_runs import make_demo_home

    with tempfile.TemporaryDirectory() as folder:
        home = make_demo_home(Path(folder) / "results_demo")
        for old in SAVED.iterdir():
            old.unlink()
        for made in sorted(home.output.rglob("*.json*")):
            text = made.read_text(encoding="utf-8").replace(folder, "/home/somebody")
            text = text.replace(str(SAVED.parents[2]), "/home/somebody/egost")
            (SAVED / made.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    renew()
