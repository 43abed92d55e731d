"""Lessons as tensors: branches side by side in one row, each blind to the others.

A row is the opening and then its branches. A branch's positions go on from the opening, and its tokens attend
to the opening and to itself alone, so that each branch is computed as if it were alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from egost.tasks.mini_world.steps import ACTION_WORDS, LANDMARKS, TURNS
from egost.tasks.sample import TaskKind
from pretraining.lessons import Lesson, Piece

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
    taught marks the tokens that the loss counts. agrees, shape (n, 4): 1 where an option has the item that the token
    names in the same place, 0 where it does not, -1 where nobody asks. bound, shape (n, 2): for the items of options
    the number of the option and the item's place in it, for those of `agrees` and of what is counted the place alone;
    -1 elsewhere. true,
    shape (n,): for the items of options, where it is known which is the right one, whether that has this item in this
    place; -1 elsewhere.
    """

    tokens: Ints
    positions: Ints
    branch: Ints
    taught: npt.NDArray[np.bool_]
    agrees: Ints
    bound: Ints
    true: Ints
    film: int | None


def pack(tokenizer: Any, lesson: Lesson, grid: tuple[int, int] | None, video_token: int) -> Row:
    """One row; `grid`: height and width of the film in tokens, where the lesson has one."""
    opening, _, _, bound = _encode(tokenizer, lesson.opening)
    positions = np.broadcast_to(np.arange(len(opening)), (3, len(opening)))
    after = len(opening)
    if grid is not None:
        opening, positions, after = _with_film(opening, grid, video_token)
        bound = np.full((len(opening), 2), -1)
    tokens, places, bounds, true = [opening], [positions], [bound], [np.full(len(opening), -1)]
    branch, taught = [np.zeros(len(opening), np.int64)], [np.zeros(len(opening), np.bool_)]
    agrees = [np.full((len(opening), OPTIONS), -1)]
    for number, pieces in enumerate(lesson.branches, start=1):
        row, marks, agreeing, bound = _encode(tokenizer, pieces)
        tokens.append(row)
        agrees.append(agreeing)
        bounds.append(bound)
        true.append(_truths(row, bound, [piece.right for piece in pieces if piece.right is not None]))
        taught.append(marks)
        branch.append(np.full(len(row), number))
        places.append(np.broadcast_to(after + np.arange(len(row)), (3, len(row))))
    return Row(
        np.concatenate(tokens),
        np.concatenate(places, axis=1),
        np.concatenate(branch),
        np.concatenate(taught),
        np.concatenate(agrees),
        np.concatenate(bounds),
        np.concatenate(true),
        lesson.film,
    )


def echo(rng: np.random.Generator, tokens: Ints, rows: int) -> dict[str, Any]:
    """A batch of random ones of the tokens that come twice; what comes the second time is taught."""
    made = []
    for _ in range(rows):
        once = rng.choice(tokens, int(rng.integers(8, 32)))
        size = 2 * len(once)
        nothing = np.full((size, OPTIONS), -1)
        made.append(
            Row(
                np.concatenate([once, once]),
                np.broadcast_to(np.arange(size), (3, size)),
                np.zeros(size, np.int64),
                np.arange(size) > len(once),
                nothing,
                nothing[:, :2],
                nothing[:, 0],
                None,
            )
        )
    return collate(made, 0)


def collate(rows: Sequence[Row], pad: int) -> dict[str, Any]:
    """Tensors, padded on the right.

    tokens, taught (b, n), positions (3, b, n), mask (b, 1, n, n), agrees (b, n, 4), bound (b, n, 2), true (b, n).
    """
    import torch

    n = max(len(row.tokens) for row in rows)
    tokens = np.full((len(rows), n), pad)
    positions = np.zeros((3, len(rows), n), np.int64)
    branch = np.full((len(rows), n), -1)
    taught = np.zeros((len(rows), n), np.bool_)
    agrees = np.full((len(rows), n, OPTIONS), -1)
    bound = np.full((len(rows), n, 2), -1)
    true = np.full((len(rows), n), -1)
    for k, row in enumerate(rows):
        size = len(row.tokens)
        tokens[k, :size] = row.tokens
        positions[:, k, :size] = row.positions
        branch[k, :size] = row.branch
        taught[k, :size] = row.taught
        agrees[k, :size] = row.agrees
        bound[k, :size] = row.bound
        true[k, :size] = row.true
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
        "bound": torch.from_numpy(bound),
        "true": torch.from_numpy(true),
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
def item_tokens(tokenizer: Any) -> dict[int, TaskKind]:
    """The tokens that name a panel, a turn or an action, each by itself, with the task that asks about these."""
    actions = ACTION_WORDS.values()
    names: dict[TaskKind, Sequence[str]] = {
        "landmark": [*map(str, LANDMARKS)],
        "direction": TURNS,
        "action": [*actions, *(action.capitalize() for action in actions)],
    }
    return {
        tokenizer.convert_tokens_to_ids(tokenizer.tokenize(f" {name}"))[0]: kind
        for kind, some in names.items()
        for name in some
    }


@cache
def _lines(tokenizer: Any) -> tuple[dict[int, int], int, frozenset[int]]:
    """Number of the option that a letter's token opens, the full stop, and the tokens that hold a line's end."""
    letters = {tokenizer.convert_tokens_to_ids(letter): k for k, letter in enumerate("ABCD")}
    ends = {number for number in range(len(tokenizer)) if "\n" in tokenizer.decode([number])}
    return letters, tokenizer.convert_tokens_to_ids("."), frozenset(ends)


def _encode(tokenizer: Any, pieces: Sequence[Piece]) -> tuple[Ints, npt.NDArray[np.bool_], Ints, Ints]:
    items = item_tokens(tokenizer)
    rows = [tokenizer.encode(piece.text, add_special_tokens=False) for piece in pieces]
    taught = [piece.taught for piece, row in zip(pieces, rows, strict=True) for _ in row]
    tokens = np.array([token for row in rows for token in row])
    agrees, bound = np.full((len(tokens), OPTIONS), -1), np.full((len(tokens), 2), -1)
    start = 0
    for piece, row in zip(pieces, rows, strict=True):
        if piece.counted:
            _count_items(row, items, bound[start : start + len(row)])
        elif piece.agrees:
            places = [start + k for k, token in enumerate(row) if token in items]
            for order, (place, options) in enumerate(zip(places, piece.agrees, strict=True)):
                agrees[place, : len(options)] = options
                bound[place, 1] = order
        elif not piece.taught:
            _bind_options(tokenizer, row, items, bound[start : start + len(row)])
        start += len(row)
    return tokens, np.array(taught), agrees, bound


def _truths(tokens: Ints, bound: Ints, right: Sequence[int]) -> Ints:
    """`Row.true` of a branch; right: place of the right option, where one is named."""
    true = np.full(len(tokens), -1)
    for option in right:
        named = {int(place): token for token, (k, place) in zip(tokens, bound, strict=True) if k == option}
        for k in np.flatnonzero(bound[:, 0] >= 0):
            true[k] = named.get(int(bound[k, 1])) == tokens[k]
    return true


def _count_items(row: Sequence[int], items: Mapping[int, TaskKind], bound: Ints) -> None:
    """Write into `bound` the place of each panel, turn and action among those of its kind."""
    met: Counter[TaskKind] = Counter()
    for k, token in enumerate(row):
        if token in items:
            bound[k, 1] = met[items[token]]
            met[items[token]] += 1


def _bind_options(tokenizer: Any, row: Sequence[int], items: Collection[int], bound: Ints) -> None:
    """Write into `bound` the option and the place of each item that a line such as `B. left, then right` names."""
    letters, stop, ends = _lines(tokenizer)
    option, place = -1, 0
    for k, token in enumerate(row):
        if token in ends:
            option = -1
        elif token in letters and k and row[k - 1] in ends and row[k + 1 : k + 2] == [stop]:
            option, place = letters[token], 0
        elif token in items and option >= 0:
            bound[k] = option, place
            place += 1


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
