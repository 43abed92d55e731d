"""Lessons as tensors: branches side by side in one row, each blind to the others.

A row is the opening and then its branches. A branch's positions go on from the opening, and its tokens attend
to the opening and to itself alone, so that each branch is computed as if it stood there by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from egost_tasks.mini_world.steps import ACTIONS, LANDMARKS, TURNS
from egost_tasks.mini_world.wording import tell_action_options
from egost_tasks.sample import TaskKind
from training.mini.lessons import Lesson, Piece

OPTIONS = 4
TEMPORAL, PATCH, MERGE = 2, 14, 2
_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
"""Of CLIP, as Qwen2-VL's processor has them."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One packed lesson of n tokens.

    tokens, branch (0: opening), taught: shape (n,); positions: shape (3, n); film: number or None.
    taught marks the tokens that the loss counts. agrees, shape (n, 4): 1 where an option agrees with the item that
    the token names, 0 where it does not, -1 where nobody asks.
    """

    tokens: Ints
    positions: Ints
    branch: Ints
    taught: npt.NDArray[np.bool_]
    agrees: Ints
    film: int | None


def pack(tokenizer: Any, lesson: Lesson, grid: tuple[int, int] | None, video_token: int) -> Row:
    """One row; `grid`: height and width of the film in tokens, where the lesson has one."""
    items = item_tokens(tokenizer, lesson.asked) if lesson.asked else frozenset()
    opening, _, _ = _encode(tokenizer, lesson.opening, items)
    positions = np.broadcast_to(np.arange(len(opening)), (3, len(opening)))
    after = len(opening)
    if grid is not None:
        opening, positions, after = _with_film(opening, grid, video_token)
    tokens, places = [opening], [positions]
    branch, taught = [np.zeros(len(opening), np.int64)], [np.zeros(len(opening), np.bool_)]
    agrees = [np.full((len(opening), OPTIONS), -1)]
    for number, pieces in enumerate(lesson.branches, start=1):
        row, marks, agreeing = _encode(tokenizer, pieces, items)
        tokens.append(row)
        agrees.append(agreeing)
        taught.append(marks)
        branch.append(np.full(len(row), number))
        places.append(np.broadcast_to(after + np.arange(len(row)), (3, len(row))))
    return Row(
        np.concatenate(tokens),
        np.concatenate(places, axis=1),
        np.concatenate(branch),
        np.concatenate(taught),
        np.concatenate(agrees),
        lesson.film,
    )


def collate(rows: Sequence[Row], pad: int) -> dict[str, Any]:
    """Tensors, padded on the right: tokens, taught (b, n), positions (3, b, n), mask (b, 1, n, n), agrees (b, n, 4)."""
    import torch

    n = max(len(row.tokens) for row in rows)
    tokens = np.full((len(rows), n), pad)
    positions = np.zeros((3, len(rows), n), np.int64)
    branch = np.full((len(rows), n), -1)
    taught = np.zeros((len(rows), n), np.bool_)
    agrees = np.full((len(rows), n, OPTIONS), -1)
    for k, row in enumerate(rows):
        size = len(row.tokens)
        tokens[k, :size] = row.tokens
        positions[:, k, :size] = row.positions
        branch[k, :size] = row.branch
        taught[k, :size] = row.taught
        agrees[k, :size] = row.agrees
    before = np.tri(n, dtype=np.bool_)
    visible = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    # A padding token attends to itself, since an empty row of the mask would give NaN.
    mask = before & visible & (branch[:, None, :] >= 0) | np.eye(n, dtype=np.bool_)
    return {
        "tokens": torch.from_numpy(tokens),
        "positions": torch.from_numpy(positions),
        "mask": torch.from_numpy(mask)[:, None],
        "taught": torch.from_numpy(taught),
        "agrees": torch.from_numpy(agrees),
    }


def token_grid(film: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of a film in the model's tokens."""
    return film.shape[1] // (PATCH * MERGE), film.shape[2] // (PATCH * MERGE)


def patches(film: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The rows that Qwen2-VL's video processor makes of 8 frames: shape (patches, 3 x 2 x 14 x 14), normalised."""
    frames, height, width = film.shape[:3]
    pixels = (film.astype(np.float32) / 255 - _MEAN) / _STD
    blocks = pixels.reshape(
        frames // TEMPORAL,
        TEMPORAL,
        height // (PATCH * MERGE),
        MERGE,
        PATCH,
        width // (PATCH * MERGE),
        MERGE,
        PATCH,
        3,
    )
    rows = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3 * TEMPORAL * PATCH * PATCH)
    return rows.astype(np.float32, copy=False)


@cache
def item_tokens(tokenizer: Any, task: TaskKind) -> frozenset[int]:
    """The tokens that name a panel, a turn or an action, each by itself."""
    actions = [tell_action_options(np.random.default_rng(0), [[action]])[0] for action in ACTIONS]
    names: dict[TaskKind, list[str]] = {
        "landmark": [str(panel) for panel in LANDMARKS],
        "direction": [*TURNS],
        "action": [*actions, *(action.capitalize() for action in actions)],
    }
    return frozenset(
        tokenizer.convert_tokens_to_ids(tokenizer.tokenize(f" {name}"))[0] for name in names[task]
    )


def _encode(
    tokenizer: Any, pieces: Sequence[Piece], items: frozenset[int]
) -> tuple[Ints, npt.NDArray[np.bool_], Ints]:
    rows = [tokenizer.encode(piece.text, add_special_tokens=False) for piece in pieces]
    taught = [piece.taught for piece, row in zip(pieces, rows, strict=True) for _ in row]
    tokens = np.array([token for row in rows for token in row])
    agrees = np.full((len(tokens), OPTIONS), -1)
    start = 0
    for piece, row in zip(pieces, rows, strict=True):
        if piece.agrees:
            places = [start + k for k, token in enumerate(row) if token in items]
            for place, options in zip(places, piece.agrees, strict=True):
                agrees[place, : len(options)] = options
        start += len(row)
    return tokens, np.array(taught), agrees


def _with_film(opening: Ints, grid: tuple[int, int], video_token: int) -> tuple[Ints, Ints, int]:
    """The opening with one token for each place of the film, positions as `Qwen2VLModel.get_rope_index` gives them."""
    [at] = np.flatnonzero(opening == video_token)
    times = 8 // TEMPORAL
    places = np.stack(np.meshgrid(np.arange(times), np.arange(grid[0]), np.arange(grid[1]), indexing="ij"))
    head = np.broadcast_to(np.arange(int(at)), (3, int(at)))
    after, left = int(at) + max(grid), len(opening) - int(at) - 1
    tail = after + np.broadcast_to(np.arange(left), (3, left))
    tokens = np.concatenate([opening[:at], np.full(places[0].size, video_token), opening[at + 1 :]])
    return tokens, np.concatenate([head, at + places.reshape(3, -1), tail], axis=1), after + left
