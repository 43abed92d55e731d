"""Diagnosis: does a model look? Controls ask it without video or with altered clips; text-only baselines see no frame.

`control_figures.compare_controls` and `text_only.text_only` compute the figures, `controls_of` and `text_only_of` read
what was written for a run.
"""
