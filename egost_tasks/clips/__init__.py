"""Clips: each is decoded once into its frames, in a child process, and kept in a content-addressed cache.

`clips.py` is the way in; `protocols.py` says which frames, `decoders.py` how they are read.
"""
