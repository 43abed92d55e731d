"""Training rows: built from a release or read from the authors' published ones, with reverse thinking and splits.

`build_rows.build_rows` makes them, `training_rows.read_training_rows` reads them.
"""
