"""One client for language models behind a server: pacing, retries, usage and prices.

It knows no judge; judges, writers and adapters are its users.
"""
