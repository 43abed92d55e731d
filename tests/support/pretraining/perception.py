"""Heads for training alone, which ask for the steps on the way to an answer; the checkpoint does not hold them.

Cross-entropy on the answers alone leaves so small a model at chance for long. One kind of head names what each of
the 8 frames shows; it reads the film's tokens twice, as the vision tower gives them and as they leave the last
layer. Another says, at each item of an answer in words, which options have it in this place; it reads the layer
before the last, so that the last one can gather what was found. A third says of each item that an option names
which option and which place in it that is; it reads the second layer. Two more are about films: which panel of the
walk, counted from its start, a frame belongs to (second layer), and of each item that an option names whether
it is the true one in this place (layer before the last).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from egost.tasks.mini_world.steps import ACTIONS, COLOURS, PATTERNS, TURNS, ClipTruth
from egost.tasks.mini_world.walks import SHOWN, shown_frames
from pretraining.packing import OPTIONS, TEMPORAL

KINDS = ("start", "junction", "turning", "action", "end", "passing")
"""What a frame can be: before a junction, in the middle of a turn, or on the way with nothing to say."""

_CLASSES = (len(KINDS), len(COLOURS), len(PATTERNS), len(TURNS), len(ACTIONS))
_UNKNOWN = -100
_LIKENESS = 0.2
"""Factor before the softmax: an embedding of the size that the model starts with scores about 6 with itself."""

_GROUPS = SHOWN // TEMPORAL


def frame_labels(truth: ClipTruth) -> npt.NDArray[np.int64]:
    """What each frame shows, shape (8, 5): kind, the panel's colour and pattern, turn, action; -100 where none."""
    labels = np.full((SHOWN, len(_CLASSES)), _UNKNOWN)
    labels[:, 0] = KINDS.index("passing")
    slots = {frame: slot for slot, frame in enumerate(shown_frames(truth.frames))}
    for step in truth.steps:
        first, last = slots[step.frames[0]], slots[step.frames[-1]]
        if step.kind == "turn":
            labels[first, 0] = KINDS.index("junction")
        labels[last, 0] = KINDS.index("turning" if step.kind == "turn" else step.kind)
        if step.landmark:
            labels[first, 1] = COLOURS.index(step.landmark.colour)
            labels[first, 2] = PATTERNS.index(step.landmark.pattern)
        if step.turn:
            labels[last, 3] = TURNS.index(step.turn)
        if step.action:
            labels[last, 4] = ACTIONS.index(step.action)
    return labels


def frame_order(truth: ClipTruth) -> npt.NDArray[np.int64]:
    """Which of the panels that are walked up to a frame belongs to, counted from 0, shape (8,); -100 where none."""
    order = np.full(SHOWN, _UNKNOWN)
    slots = {frame: slot for slot, frame in enumerate(shown_frames(truth.frames))}
    for place, step in enumerate(step for step in truth.steps if step.landmark):
        order[[slots[frame] for frame in step.frames]] = place
    return order


class FrameHead(nn.Module):  # type: ignore[misc]
    """Names what the frames show, or something of `classes` kinds, from the tokens of a film."""

    def __init__(self, width: int, classes: int = sum(_CLASSES)) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.name = nn.Linear(width, TEMPORAL * classes)

    def forward(self, tokens: torch.Tensor, group: torch.Tensor, films: int) -> torch.Tensor:
        """Logits, shape (films x 8, classes), of tokens (n, width); `group`: film x 4 + pair of frames, shape (n,)."""
        total = tokens.new_zeros(films * _GROUPS, tokens.shape[1]).index_add(0, group, self.look(tokens))
        count = tokens.new_zeros(films * _GROUPS).index_add(0, group, torch.ones_like(tokens[:, 0]))
        logits: torch.Tensor = self.name(total / count[:, None])
        return logits.reshape(films * SHOWN, -1)


def groups(grids: Sequence[tuple[int, int]]) -> torch.Tensor:
    """For each token of the films, which pair of frames it belongs to, counted over all films."""
    sizes = [height * width for height, width in grids for _ in range(_GROUPS)]
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def naming_loss(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Cross-entropy summed over the five kinds of label, and the share of each that is right."""
    loss: Any = logits.new_zeros(())
    right = []
    for k, part in enumerate(logits.split(_CLASSES, dim=1)):
        known = labels[:, k] != _UNKNOWN
        # Where no film of the batch holds an action, the mean over none of them would be NaN.
        if known.any():
            loss = loss + nn.functional.cross_entropy(part[known], labels[known, k])
        right.append(float((part.argmax(1)[known] == labels[known, k]).float().mean()))
    return loss, right


def agreement_loss(head: nn.Module, hidden: torch.Tensor, agrees: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Binary cross-entropy on `agrees`, shape (b, n, 4), where it is known, and the share that is right.

    Zero where nobody asks in the whole batch.
    """
    asked = agrees[..., 0] >= 0
    if not asked.any():
        return hidden.new_zeros(()), float("nan")
    logits, labels = head(hidden[asked]), agrees[asked]
    known = labels >= 0
    loss = nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    return loss, float(((logits > 0) == (labels == 1))[known].float().mean())


def binding_loss(head: nn.Module, hidden: torch.Tensor, bound: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Cross-entropy on both columns of `bound`, shape (b, n, 2), where they are known, and the share that is right."""
    loss, right = hidden.new_zeros(()), []
    for column, logits in enumerate(head(hidden).split(OPTIONS, dim=-1)):
        known = bound[..., column] >= 0
        if known.any():
            loss = loss + nn.functional.cross_entropy(logits[known], bound[..., column][known])
            right.append((logits[known].argmax(1) == bound[..., column][known]).float().mean())
    return loss, float(sum(right) / len(right)) if right else float("nan")


def order_loss(logits: torch.Tensor, order: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Cross-entropy on the frames' panels, -100 where none, and the share that is right."""
    known = order != _UNKNOWN
    loss = nn.functional.cross_entropy(logits[known], order[known])
    return loss, float((logits.argmax(1)[known] == order[known]).float().mean())


def truth_loss(head: nn.Module, hidden: torch.Tensor, true: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Binary cross-entropy on `true`, shape (b, n), where it is known (not -1), and the share that is right."""
    known = true >= 0
    if not known.any():
        return hidden.new_zeros(()), float("nan")
    logits, labels = head(hidden[known])[:, 0], true[known]
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    return loss, float(((logits > 0) == (labels == 1)).float().mean())


def likeness_loss(
    seen: torch.Tensor, words: torch.Tensor, group: torch.Tensor, shown: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """How far the tokens of a film are from the words for what they show.

    seen: tokens (n, width). words: embeddings of some words that exclude each other (m, width). group: film x 4 + pair
    of frames, shape (n,). shown: which of the words each frame shows, shape (films x 8,), -100 where none.
    Gives the cross-entropy, each pair of frames scored by its most alike tokens, and the share of frames that is right.
    So a word is found in a film as it is found in a text.
    """
    alike = seen @ words.T * _LIKENESS
    pairs = len(shown) // TEMPORAL
    logits = torch.stack([alike[group == pair].logsumexp(0) for pair in range(pairs)])
    logits = logits.repeat_interleave(TEMPORAL, 0)
    known = shown != _UNKNOWN
    loss = nn.functional.cross_entropy(logits[known], shown[known])
    return loss, float((logits.argmax(1)[known] == shown[known]).float().mean())
