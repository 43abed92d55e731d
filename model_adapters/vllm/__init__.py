"""vLLM in this process, for evaluation and for the rollouts of GRPO.

The way in is `vllm_engine.open_vllm`.
"""
