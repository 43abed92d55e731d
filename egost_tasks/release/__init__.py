"""The release: its 26 question files and its clips, read into samples.

`release.py` is the way in; `hub.py` and `archives.py` get the files, `trained_on.py` keeps trained rows out.
"""
