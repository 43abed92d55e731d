"""Diagnosis: is a model looking? Ablations of the video, and how far text alone gets."""
