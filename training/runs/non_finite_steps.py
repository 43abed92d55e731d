"""Leaves out the optimizer steps whose gradient is not finite, so that one bad batch cannot ruin the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class NonFiniteSteps(TrainerCallback):  # type: ignore[misc]
    """Before each optimizer step: where the gradient holds NaN or infinity on any process, drop it on all.

    Without gradients the optimizer changes neither weights nor its own state; the schedule goes on.
    record: is told 1.0 for a step that is left out, else 0.0.

    DeepSpeed steps inside its own backward pass, out of reach of a callback: see `VideoGRPOTrainer`.
    """

    def __init__(self, record: Callable[[float], None]) -> None:
        self.record = record

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        import torch
        from accelerate.utils import reduce

        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients)
        bad = reduce((~torch.isfinite(norm)).float().reshape(1).to(args.device), "sum").item() > 0
        self.record(float(bad))
        if bad:
            optimizer.zero_grad(set_to_none=True)
