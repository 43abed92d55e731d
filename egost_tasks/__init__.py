"""Ego-ST Bench (arXiv 2503.12542) as an lmms-eval plugin: release, clips, prompts and scores."""
