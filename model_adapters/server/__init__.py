"""vLLM servers: `egost serve` starts them, and the engine spreads requests over them.

The ways in are `serve.plan_server` and `server_engine.open_server`.
"""
