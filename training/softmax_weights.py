"""How much each completion of a group counts, by equation 2 of the paper (section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NORMALISING_EPSILON = 1e-4
"""Added to a group's standard deviation, as in GRPO's normalised advantage in the released code."""


def normalised_rewards(rewards: torch.Tensor) -> torch.Tensor:
    """(r - mean) / (std + 1e-4) within each group; the standard deviation has n - 1 below.

    rewards: float [groups, completions]; NaN where a completion has no reward, which stays NaN and counts in
    neither mean nor deviation. A group with fewer than two rewards has deviation 0.
    """
    import torch

    known = ~rewards.isnan()
    count = known.sum(1, keepdim=True)
    mean = rewards.nanmean(1, keepdim=True)
    squares = torch.where(known, (rewards - mean) ** 2, 0.0).sum(1, keepdim=True)
    deviation = (squares / (count - 1).clamp(min=1)).sqrt()
    return (rewards - mean) / (deviation + NORMALISING_EPSILON)


def softmax_weights(rewards: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 2's weights w_k = exp(r_k / t) / sum_j exp(r_j / t) over normalised rewards, times the group's size.

    rewards, returned: float [groups, completions]. The trainer's loss is a mean over the group; times its size, the
    mean is equation 2's sum. A completion without a reward (NaN) has weight 0, and so have all of a group
    whose rewards are all equal: it prefers nothing, and equal weights would only push up what was sampled.
    """
    import torch

    size = rewards.shape[1]
    weights = torch.softmax(normalised_rewards(rewards).nan_to_num(nan=-torch.inf) / temperature, dim=1)
    return torch.where(all_equal(rewards).unsqueeze(1), 0.0, weights * size)


def all_equal(rewards: torch.Tensor) -> torch.Tensor:
    """Bool [groups]: the groups whose rewards, as far as there are any, are all the same."""
    import torch

    known = ~rewards.isnan()
    highest = torch.where(known, rewards, -torch.inf).amax(1)
    lowest = torch.where(known, rewards, torch.inf).amin(1)
    return highest - lowest <= 0
