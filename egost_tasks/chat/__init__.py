"""One client for language models behind a server: pacing, retries, usage, prices, and replies kept on disk.

It knows no judge; judges, writers and adapters use `calls.Calls`, `client.ChatClient` and `structured.Asker`.
"""
