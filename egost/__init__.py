"""Ego-ST Bench and ST-R1: the `egost` command, and the rooms behind it."""
