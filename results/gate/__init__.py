"""The regression gate: has a run moved from its baseline, and what moved?"""
