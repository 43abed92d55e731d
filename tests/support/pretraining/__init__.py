"""How the embedded checkpoint `mini-base` was pre-trained: on the mini world, from nothing, on a CPU.

    PYTHONPATH=tests/support python -m pretraining.pretrain --out runs/mini-base
    egost run runs/mini-base/checkpoint --tasks egost_mini
    egost diagnose runs/mini-base/checkpoint --tasks egost_mini

It plays the general model that ST-R1 starts from: it sees the walks, describes routes in both ways and reads options,
but nobody has taught it to reason before it answers. Only its tests and its README use this code.
"""
