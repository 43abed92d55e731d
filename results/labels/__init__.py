"""People's scores of routes: drawn from a run, kept beside it, held against its judges, and used to correct its score.

The ways in are `label_file.draw_labels`, `agreement.agreement` and `corrected.corrected_score`.
"""
