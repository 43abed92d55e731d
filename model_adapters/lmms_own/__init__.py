"""lmms-eval's own adapters, run with the response journal."""
