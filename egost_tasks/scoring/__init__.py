"""Scoring: from the text of a response to its scores, and from samples to a figure of a task.

`scores.py` is the one scorer, of the evaluation and of the training reward.
"""
