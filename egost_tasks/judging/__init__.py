"""Judging: what a route description is worth, by a language model or by the offline rubric.

`judge.py` is the way in.
"""
