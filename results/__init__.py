"""What a run is worth: its samples, figures with intervals, comparisons, and what is published of it.

The way in is `run.read_run`; `leaderboard`, `report`, `gate` and `diagnosis` take the runs that it returns.
"""
