"""`egost run --samples K`: several answers to each question, each drawn in a run with a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from egost.commands.front import console, with_interval
from egost.tasks.cache import write_whole
from egost.tasks.errors import SettingError

if TYPE_CHECKING:
    from egost.model_adapters.known_models import KnownModel
    from egost.model_adapters.run_plan import RunOptions
    from egost.results.draws import Figures
    from egost.results.run import Run

MOST_SAMPLES = 64

_FLAG = "--gen_kwargs"


def draw_options(model: KnownModel, options: RunOptions, samples: int, *, needed: bool) -> list[RunOptions]:
    """The options of so many runs, which differ in their seed and in their folder alone.

    Arguments of the person win over those of the model's card. needed: whether the checkpoint has to be on this disk.
    Raises SettingError where nobody says a temperature, or one at which all answers are the same; AdapterError.
    """
    extra, given = _taken_apart(options.extra)
    asked = dict(part.partition("=")[::2] for part in given.split(",") if part)
    first = asked.pop("seed", "0")
    card = {} if "temperature" in asked else _card(model, needed)
    if card is not None:
        asked = {**card, **asked}
        _check_temperature(asked.get("temperature", ""), model.name)
    if not first.isascii() or not first.isdigit():
        raise SettingError(
            f"seed={first} in {_FLAG}: expected a whole number, the seed of the first answers."
        )
    folder = options.output or Path("runs") / f"{model.name}-samples"

    def words(seed: int) -> str:
        return ",".join(
            f"{name}={value}" for name, value in {**asked, "do_sample": True, "seed": seed}.items()
        )

    return [
        replace(
            options,
            output=folder / f"sample{number + 1}",
            extra=(*extra, _FLAG, words(int(first) + number)),
            # The first run asks for all answers while the model is loaded; the others find theirs in the journal.
            draws=1 if number else samples,
            fresh=options.fresh and not number,
        )
        for number in range(samples)
    ]


def _check_temperature(text: str, model: str) -> None:
    try:
        temperature = float(text or "nan")
    except ValueError:
        temperature = math.nan
    if not 0 < temperature < math.inf:
        raise SettingError(
            f"--samples draws answers, and the temperature of {model} is {text or 'not in generation_config.json'}. "
            f"Give one above 0, for example -- {_FLAG} temperature=0.7"
        )


def _taken_apart(extra: Sequence[str]) -> tuple[list[str], str]:
    """Arguments of lmms-eval without `--gen_kwargs`, and what that says."""
    rest: list[str] = []
    given: list[str] = []
    words = iter(extra)
    for word in words:
        if word == _FLAG:
            given.append(next(words, ""))
        elif word.startswith(f"{_FLAG}="):
            given.append(word.partition("=")[2])
        else:
            rest.append(word)
    return rest, ",".join(given)


def _card(model: KnownModel, needed: bool) -> dict[str, str] | None:
    """How the makers of a model draw its answers; empty for an API, None where the checkpoint is not here yet."""
    from egost.model_adapters.checkpoints import card_sampling, checkpoint_identity
    from egost.model_adapters.engine import AdapterError

    if model.engines == ("api",):
        return {}
    try:
        folder = checkpoint_identity(model.model, model.revision).folder
    except AdapterError:
        if needed:
            raise
        return None
    return {name: f"{value:g}" for name, value in card_sampling(folder).items()}


def show_draws(runs: Sequence[Run], folder: Path) -> None:
    """Print and save what the answers are worth together. Raises RunError."""
    from egost.results.draws import as_json, drawn

    found = drawn(runs)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    for name in ("mean", f"pass@{found.samples}", "majority", "agreement", "scored", "unscored"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, figures: Figures) -> None:
        columns = (figures.mean, figures.best, figures.majority, figures.agreement)
        cells = ["" if one is None else with_interval(one) for one in columns]
        table.add_row(name, *cells, str(figures.mean.n), str(figures.mean.unscored))

    for task, figures in found.by_task.items():
        add(task, figures)
    if len(found.by_task) > 1:
        add("mean of the tasks", found.overall)
    Console(width=150).print(table)
    write_whole(folder / "samples.json", as_json(found).encode())
    console.print(f"figures: {folder / 'samples.json'}")
