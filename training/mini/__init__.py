"""How the embedded checkpoint `mini-base` was pre-trained: on the mini world, from nothing, on a CPU.

    python -m egost.training.mini.pretrain --out runs/mini-base
    egost run runs/mini-base/checkpoint --tasks egost_mini
    egost diagnose runs/mini-base/checkpoint --tasks egost_mini

It stands for the general model that ST-R1 starts from: it sees the walks, describes routes there and back and
reads options, but nobody has taught it to reason before it answers. This folder is not installed: it runs from a
checkout.
"""
