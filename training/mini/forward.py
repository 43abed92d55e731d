"""One pass of the model over packed lessons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from egost.training.mini.packing import TEMPORAL, patches, token_grid

Film = npt.NDArray[np.uint8]


def see(model: Any, films: Sequence[Film]) -> torch.Tensor:
    """The tokens of the films, one after the other, shape (tokens of all films, hidden size)."""
    grids = torch.tensor(
        [[len(film) // TEMPORAL, *(2 * side for side in token_grid(film))] for film in films]
    )
    pixels = torch.from_numpy(np.concatenate([patches(film) for film in films]))
    tokens: torch.Tensor = model.model.visual(pixels, grids).pooler_output
    return tokens


def read(
    model: Any, batch: dict[str, torch.Tensor], seen: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states after the last layer, the one before it and the second, each of shape (b, n, hidden size).

    seen: what `see` gave for the batch's films.
    """
    language = model.model.language_model
    embedded = language.embed_tokens(batch["tokens"])
    if seen is not None:
        video = batch["tokens"] == model.config.video_token_id
        embedded = embedded.masked_scatter(video[..., None], seen)
    out = language(
        inputs_embeds=embedded,
        position_ids=batch["positions"],
        attention_mask=batch["mask"],
        use_cache=False,
        output_hidden_states=True,
    )
    return out.last_hidden_state, out.hidden_states[-2], out.hidden_states[2]


def answer_losses(
    model: Any, batch: dict[str, torch.Tensor], hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each taught token, in the order of the rows: loss, token, what the model would say, whether it is the first.

    First: of a reply.
    """
    taught = batch["taught"][:, 1:]
    wanted = batch["tokens"][:, 1:][taught]
    logits = model.lm_head(hidden[:, :-1][taught])
    first = ~batch["taught"][:, :-1][taught]
    return cross_entropy(logits, wanted, reduction="none"), wanted, logits.argmax(1), first
