"""Parity: do two engines give the same answers to the same questions, token by token?

`parity_run` loads and asks the engines, `parity` compares what they were given and answered.
"""
