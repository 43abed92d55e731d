"""Equation 2's weights and GRPO's normalised advantage against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from egost.training.video_grpo import all_equal, normalised_rewards, softmax_weights

NAN = math.nan


def test_the_normalised_advantage_by_hand() -> None:
    # mean 0.5; deviation sqrt(4 x 0.25 / 3) = 0.57735; 0.5 / 0.57745 = 0.86587
    import torch

    assert normalised_rewards(torch.tensor([[1.0, 0.0, 1.0, 0.0]])).tolist()[0] == pytest.approx(
        [0.86587, -0.86587, 0.86587, -0.86587], abs=1e-5
    )


def test_equation_2_by_hand() -> None:
    # Normalised +-0.86587: e^0.86587 = 2.37707, e^-0.86587 = 0.42069; 2.37707 / 5.59552 = 0.42482, times 4.
    import torch

    weights = softmax_weights(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), 1.0)
    assert weights.tolist()[0] == pytest.approx([1.69927, 0.30073, 1.69927, 0.30073], abs=1e-4)
    # At half the temperature the exponents double: e^1.73174 = 5.65048, e^-1.73174 = 0.17698.
    weights = softmax_weights(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), 0.5)
    assert weights.tolist()[0] == pytest.approx([1.93926, 0.06074, 1.93926, 0.06074], abs=1e-4)


def test_weights_of_a_group_add_up_to_its_size() -> None:
    import torch

    weights = softmax_weights(torch.rand(5, 8, generator=torch.Generator().manual_seed(0)), 0.7)
    assert weights.sum(1).tolist() == pytest.approx([8.0] * 5, rel=1e-5)
    assert (weights > 0).all()


def test_a_completion_without_a_reward_has_no_weight() -> None:
    import torch

    weights = softmax_weights(torch.tensor([[1.0, NAN, 0.0, NAN]]), 1.0)[0]
    # Of two rewards: +-0.5 / (0.70711 + 1e-4) = +-0.70701; e^.. = 2.02792, 0.49312; 0.80440 and 0.19560, times 4.
    assert weights.tolist() == pytest.approx([3.21759, 0.0, 0.78241, 0.0], abs=1e-4)


def test_a_group_that_prefers_nothing_has_no_weight() -> None:
    import torch

    rewards = torch.tensor([[1.0, 1.0], [0.0, NAN], [NAN, NAN], [1.0, 0.0]])
    assert all_equal(rewards).tolist() == [True, True, True, False]
    assert softmax_weights(rewards, 1.0)[:3].eq(0).all()


def test_the_gradient_is_that_of_equation_2() -> None:
    """The trainer's loss, a mean of ratio times weight over the group, has equation 2's gradient."""
    import torch

    rewards = torch.tensor([[0.2, 0.9, 0.4]])
    log_probability = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    ratio = torch.exp(log_probability - log_probability.detach())
    (ratio * softmax_weights(rewards, 1.0)[0]).mean().backward()
    wanted = torch.softmax(normalised_rewards(rewards)[0], 0)
    torch.testing.assert_close(log_probability.grad, wanted)
