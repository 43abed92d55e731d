"""Runs a notebook's cells as Jupyter would, in one namespace, and keeps what they print and draw.

python tests/support/notebook.py examples/quickstart.ipynb    # writes the outputs into the notebook
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

_DPI = 60


def executed(path: Path) -> dict[str, Any]:
    """The notebook with the outputs of this run. What a cell raises is raised."""
    import matplotlib

    matplotlib.use("Agg")
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), namespace)
        cell["execution_count"] = number
        cell["outputs"] = [*_text(printed.getvalue()), *_figures()]
    return notebook


def printed(notebook: dict[str, Any]) -> list[str]:
    """What each cell of code has printed."""
    return [
        "".join(line for output in cell["outputs"] if "text" in output for line in output["text"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def _text(text: str) -> list[dict[str, Any]]:
    lines = text.splitlines(keepends=True)
    return [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []


def _figures() -> list[dict[str, Any]]:
    from matplotlib import pyplot

    outputs = []
    for number in pyplot.get_fignums():
        drawn = io.BytesIO()
        pyplot.figure(number).savefig(drawn, format="png", dpi=_DPI)
        data = {"image/png": base64.b64encode(drawn.getvalue()).decode(), "text/plain": ["a figure"]}
        outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
    pyplot.close("all")
    return outputs


if __name__ == "__main__":
    for name in sys.argv[1:]:
        notebook = executed(Path(name))
        Path(name).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
