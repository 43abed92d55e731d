"""How the embedded checkpoint `mini-base` is made: pre-training on the mini world, from nothing, on a CPU.

    python -m egost.training.mini.pretrain --out runs/mini-base
    python -m egost.training.mini.evaluate --checkpoint runs/mini-base/checkpoint

It stands for the general model that ST-R1 starts from: it sees the walks, describes routes there and back and
reads options, but nobody has taught it to reason before it answers.
"""
