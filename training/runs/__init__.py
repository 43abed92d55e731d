"""One training run on disk: its checkpoints and log, what it was made of, the memory that it takes, merged adapters.

`resumable_run.run_recipe` is the way in.
"""
