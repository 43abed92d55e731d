"""Where the checkpoints lie that come with the package; how each was made, its `README.md` says."""

from __future__ import annotations

from pathlib import Path

_CHECKPOINTS = Path(__file__).parent / "checkpoints"

MINI_BASE = _CHECKPOINTS / "mini_base"
"""A Qwen2-VL that sees the mini world; what ST-R1 is trained from there."""

MINI_ST_R1 = _CHECKPOINTS / "mini_st_r1"
"""What `make train-demo` made of it: fine-tuned on reverse thinking, then GRPO."""

EMBEDDED = {"mini-base": MINI_BASE, "mini-st-r1": MINI_ST_R1}
"""Short names, as `egost run` and `egost serve` take them. They are no known models: only the mini world is theirs."""
