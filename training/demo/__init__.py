"""`egost train demo`: the whole way to ST-R1 on the mini world, with its table and plots."""
