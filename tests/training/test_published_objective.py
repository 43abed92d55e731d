"""The gradient of GRPO is that of the published objective, worked out here by another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_video_grpo import sampled
from video_runs import World, make_trainer


def published_loss(trainer: Any, batch: dict[str, Any], beta: float) -> Any:
    """The released code's loss in float64, from log-probabilities with the video.

    -(exp(p - p.detach()) A - beta (exp(r - p) - (r - p) - 1)): a mean over each completion's tokens, then over these.
    """
    import torch

    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    trainer.rows = batch["rows"].tolist()
    policy, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, batch["completion_ids"].shape[1]
    )
    policy, reference = policy.double(), batch["ref_per_token_logps"].double()
    ratio = torch.exp(policy - policy.detach())
    penalty = torch.exp(reference - policy) - (reference - policy) - 1
    token = -(ratio * batch["advantages"].double().unsqueeze(1) - beta * penalty)
    said = batch["completion_mask"].double()
    return ((token * said).sum(1) / said.sum(1)).mean()


@pytest.mark.parametrize(("corrected", "published"), [(False, True), (True, False)])
def test_the_gradient_is_that_of_the_published_objective(
    world: World, tmp_path: Path, corrected: bool, published: bool
) -> None:
    """TRL's default multiplies the KL term by the ratio: its value stays, its gradient does not."""
    import torch

    trainer = make_trainer(world, tmp_path, beta=0.5, use_bias_correction_kl=corrected)
    batch = sampled(trainer)
    # Away from the reference, where the KL term has a gradient.
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))

    def gradient(loss: Any) -> Any:
        trainer.model.zero_grad()
        loss.backward()
        return torch.cat(
            [w.grad.flatten().double() for w in trainer.model.parameters() if w.grad is not None]
        )

    ours = trainer._compute_loss(trainer.model, batch)
    by_hand = published_loss(trainer, batch, 0.5)
    assert ours.item() == pytest.approx(by_hand.item(), rel=1e-5)
    found, expected = gradient(ours), gradient(by_hand)
    apart = ((found - expected).norm() / expected.norm()).item()
    assert (apart < 1e-4) is published
    assert published or apart > 1e-2
