"""`egost train demo`: the whole way to ST-R1 in small, on the mini world.

`demo.make_demo` runs its steps; `egost/commands/train_demo.py` reports on them.
"""
