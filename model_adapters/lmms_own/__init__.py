"""lmms-eval's own adapters, run with the response journal: the engine `hf`.

The way in is `lmms_adapter.open_lmms_adapter`.
"""
