"""vLLM in the process: evaluation, and the rollouts of GRPO."""
