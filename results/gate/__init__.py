"""The regression gate: has a run moved from its baseline, and at which stage?

The way in is `regression.regression`; `baseline` makes a run comparable, `baseline_file` reads and writes it.
"""
