"""Closed models: OpenAI, Gemini, and servers that speak the chat-completions interface.

The ways in are `openai_engine.open_openai` and `gemini_engine.open_gemini`.
"""
