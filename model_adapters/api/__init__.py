"""Closed models: OpenAI, Gemini, and servers that speak the chat-completions interface."""
