"""Makes `mini-base` from nothing: reads first, then sees, then both.

    python -m pretraining.pretrain --out runs/mini-base

Three stages. *Text*: options, questions with the route in words, and at first every other batch random tokens that
come twice, since looking an item up and naming its letter is what so small a model learns last. *Sight*: the heads
of `perception` alone. *Both*: films and texts.

Every step's lessons follow from the seed and the step's number, and the state is written whole from time to time,
so that a run that was killed goes on where it was when the same command is given again.
"""

from __future__ import annotations

import csv
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from egost.model_adapters.tiny_checkpoint import small_processor
from egost.tasks.cache import whole_folder
from egost.tasks.mini_world.steps import LANDMARKS, PATTERNS, TURNS
from egost.training import TrainingError
from egost.training.demo.demo import MAPS, map_mark
from pretraining.batches import Batch, Lessons, Recipe, batches_ahead
from pretraining.films import plan
from pretraining.model import answer_losses, fresh_model, read, see
from pretraining.packing import OPTIONS, item_tokens, token_grid
from pretraining.perception import (
    FrameHead,
    agreement_loss,
    binding_loss,
    groups,
    likeness_loss,
    naming_loss,
    order_loss,
    truth_loss,
)
from pretraining.vocabulary import make_tokenizer


class Trainer:
    """The model, its heads and its optimiser, and the run's folder."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.tokenizer = make_tokenizer()
        self.model = fresh_model(self.tokenizer, recipe.seed)
        torch.manual_seed(recipe.seed)
        width = self.model.config.text_config.hidden_size
        agreement = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, OPTIONS)
        )
        self.heads = torch.nn.ModuleDict(
            {
                "seen": FrameHead(width),
                "read": FrameHead(width),
                "agreement": agreement,
                "binding": torch.nn.Linear(width, 2 * OPTIONS),
                "order": FrameHead(width, OPTIONS),
                "truth": torch.nn.Sequential(
                    torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, 1)
                ),
            }
        )
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
        self.parameters = parameters
        letters = [self.tokenizer.convert_tokens_to_ids(letter) for letter in "ABCD"]
        self._letters = torch.tensor(letters)
        self._items = torch.tensor(list(item_tokens(self.tokenizer)))
        self._words = {
            kind: torch.tensor([self.tokenizer.encode(f" {name}")[0] for name in names])
            for kind, names in (("panel", LANDMARKS), ("turn", TURNS))
        }
        self.step = 0

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step; gives the figures of the log."""
        rate = self.recipe.rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        figures: dict[str, float] = {"rate": rate}
        text = self._texts(batch, figures)
        if batch.film_rows is not None:
            text = text + self._films(batch, batch.film_rows, figures)
        if not torch.isfinite(text):
            raise TrainingError(
                f"the loss of step {self.step} is {text.item()}. Start again with a lower --rate "
                f"than {self.recipe.rate}."
            )
        text.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return {**figures, "gradient_norm": float(norm)}

    def _texts(self, batch: Batch, figures: dict[str, float]) -> torch.Tensor:
        if not batch.texts:
            return torch.zeros(())
        parts, loss = [], torch.zeros(())
        for rows in batch.texts:
            hidden, *below = read(self.model, rows, None)
            parts.append(answer_losses(self.model, rows, hidden))
            loss = loss + self._scaffold("text", rows, below, figures) / len(batch.texts)
        losses, wanted, said, first = map(torch.cat, zip(*parts, strict=True))
        return loss + self._answers("text", losses, wanted, said, first, figures)

    def _films(self, batch: Batch, rows: dict[str, torch.Tensor], figures: dict[str, float]) -> torch.Tensor:
        assert batch.labels is not None and batch.order is not None
        seen = see(self.model, batch.films)
        hidden, *below = read(self.model, rows, seen)
        group = groups([token_grid(frames) for frames in batch.films])
        video = rows["tokens"] == self.model.config.video_token_id
        kept = hidden[video]
        loss = torch.zeros(())
        for name, tokens in (("seen", seen), ("read", kept)):
            part, right = naming_loss(self.heads[name](tokens, group, len(batch.films)), batch.labels)
            loss = loss + part
            kinds = ("kind", "colour", "pattern", "turn", "action")
            figures.update({f"{name}_{kind}": share for kind, share in zip(kinds, right, strict=True)})
        part, right_order = order_loss(
            self.heads["order"](below[1][video], group, len(batch.films)), batch.order
        )
        loss, figures["read_order"] = loss + part, right_order
        panels = batch.labels[:, 1] * len(PATTERNS) + batch.labels[:, 2]
        for name, shown in (("panel", panels.clamp(min=-100)), ("turn", batch.labels[:, 3])):
            words = self.model.get_input_embeddings()(self._words[name])
            part, figures[f"like_{name}"] = likeness_loss(seen, words, group, shown)
            loss = loss + part
        if self.recipe.stage(self.step) == "sight":
            return loss
        answers = self._answers("film", *answer_losses(self.model, rows, hidden), figures)
        return self.recipe.naming * loss + self._scaffold("film", rows, below, figures) + answers

    def _scaffold(
        self, kind: str, rows: dict[str, torch.Tensor], below: list[torch.Tensor], figures: dict[str, float]
    ) -> torch.Tensor:
        before, second = below
        agreement, agreed = agreement_loss(self.heads["agreement"], before, rows["agrees"])
        binding, bound = binding_loss(self.heads["binding"], second, rows["bound"])
        truth, true = truth_loss(self.heads["truth"], before, rows["true"])
        figures.update({f"{kind}_agreement": agreed, f"{kind}_binding": bound, f"{kind}_truth": true})
        return agreement + binding + truth

    def _answers(
        self,
        kind: str,
        losses: torch.Tensor,
        wanted: torch.Tensor,
        said: torch.Tensor,
        first: torch.Tensor,
        figures: dict[str, float],
    ) -> torch.Tensor:
        """The means over the letters by themselves, those after words, what is named and the wording.

        So that many do not drown few.
        """
        letters = torch.isin(wanted, self._letters)
        total = torch.zeros(())
        items = torch.isin(wanted, self._items)
        for name, part, weight in (
            ("letters", letters & first, 1.0),
            ("letters_after", letters & ~first, 1.0),
            ("items", items, 1.0),
            ("words", ~letters & ~items, self.recipe.wording),
        ):
            if part.any():
                mean = losses[part].mean()
                figures[f"{kind}_{name}_loss"] = float(mean.detach())
                figures[f"{kind}_{name}"] = float((wanted == said)[part].float().mean())
                total = total + weight * mean
        return total

    def save(self) -> None:
        """Write the state whole: after a kill the run goes on from the last one."""
        beside = self.folder / "state.part"
        torch.save(
            {
                "recipe": asdict(self.recipe),
                "step": self.step,
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            beside,
        )
        beside.replace(self.folder / "state.pt")

    def resume(self) -> None:
        """Take up the folder's state where there is one. Raises TrainingError when it is of another recipe."""
        path = self.folder / "state.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        lengths = {
            "text",
            "sight",
            "both",
            "texts_beside",
            "films",
            "direct",
            "in_words",
            "listed",
            "wording",
        }
        mine, other = asdict(self.recipe), state["recipe"]
        if differing := [name for name in mine if name not in lengths and mine[name] != other.get(name)]:
            raise TrainingError(
                f"{path} belongs to another recipe: {', '.join(f'{n} {other.get(n)}' for n in differing)}. "
                "Name another folder, or give the same options; the stages' lengths and what the last one mixes may "
                "change."
            )
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def export(self) -> Path:
        """The checkpoint folder that lmms-eval and vLLM load."""
        with whole_folder(self.folder / "checkpoint") as folder:
            self.model.save_pretrained(folder)
            small_processor(self.tokenizer).save_pretrained(folder)
            (folder / "recipe.json").write_text(
                json.dumps({**asdict(self.recipe), "step": self.step}, indent=1)
            )
            marks = sorted(map_mark(plan(number)) for number in range(self.recipe.pool))
            (folder / MAPS).write_text("\n".join(marks) + "\n")
        return self.folder / "checkpoint"


class Log:
    """`log.csv` of a run: one row a step, cut back to the step from which a run goes on."""

    _COLUMNS = (
        *("step", "stage", "seconds", "rate", "gradient_norm"),
        *(
            f"{kind}_{name}"
            for kind in ("text", "film")
            for part in ("letters", "letters_after", "items", "words")
            for name in (f"{part}_loss", part)
        ),
        *("text_agreement", "text_binding", "film_agreement", "film_binding", "text_truth", "film_truth"),
        *("seen_kind", "seen_colour", "seen_pattern", "seen_turn", "seen_action"),
        *("read_kind", "read_colour", "read_pattern", "read_turn", "read_action", "read_order"),
        *("like_panel", "like_turn"),
    )

    def __init__(self, path: Path, step: int) -> None:
        rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, self._COLUMNS)
        self._writer.writeheader()
        self._writer.writerows(rows)

    def write(self, row: dict[str, Any]) -> None:
        self._writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        self._file.flush()


def pretrain(recipe: Recipe, folder: Path, films: Path, every: int = 25) -> Path:
    """Run the recipe, or go on with it, and give the checkpoint's folder.

    films: where rendered films are kept. every: steps between two lines of progress, and four times as many between
    two states. Raises TrainingError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, folder)
    trainer.resume()
    lessons = Lessons(recipe, trainer.tokenizer, films)
    log = Log(folder / "log.csv", trainer.step)
    console = Console(stderr=True, soft_wrap=True)
    pace = 0.0
    for batch in batches_ahead(lessons, trainer.step, recipe.steps):
        step, began = trainer.step, time.monotonic()
        figures = trainer.learn(batch)
        seconds = time.monotonic() - began
        pace = seconds if not pace else 0.95 * pace + 0.05 * seconds
        log.write({"step": step, "stage": recipe.stage(step), "seconds": seconds, **figures})
        if trainer.step % every == 0:
            shown = " ".join(f"{k} {v:.3g}" for k, v in figures.items() if k != "gradient_norm")
            left = pace * (recipe.steps - trainer.step) / 60
            console.print(
                f"step {trainer.step} of {recipe.steps} ({recipe.stage(step)}), {pace:.2f} s a step, "
                f"{left:.0f} min left: {shown}",
                markup=False,
            )
        if trainer.step % (4 * every) == 0:
            trainer.save()
    trainer.save()
    return trainer.export()


def main(
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that was killed goes on.")],
    films: Annotated[
        Path | None, typer.Option(help="Folder of rendered films; by default in the run's.")
    ] = None,
    seed: int = 0,
    text: int = Recipe.text,
    sight: int = Recipe.sight,
    both: int = Recipe.both,
    texts: int = Recipe.texts,
    pool: int = Recipe.pool,
    rate: float = Recipe.rate,
    threads: Annotated[int, typer.Option(help="Threads of torch; on a busy machine one is the fastest.")] = 1,
) -> None:
    """Pre-train the embedded checkpoint."""
    recipe = Recipe(seed=seed, text=text, sight=sight, both=both, texts=texts, pool=pool, rate=rate)
    torch.set_num_threads(threads)
    typer.echo(str(pretrain(recipe, out, films or out / "films")))


if __name__ == "__main__":
    typer.run(main)
