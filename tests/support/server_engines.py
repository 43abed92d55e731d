"""The engine over servers, with waits as short as tests need them."""

from __future__ import annotations

from typing import Any

from egost.model_adapters.server.server_engine import ServerEngine


def engine(*urls: str, **settings: Any) -> ServerEngine:
    return ServerEngine(
        urls, **{"first_wait_s": 0.01, "wait_s": 1.0, "timeout_s": 5.0, "concurrency": 4, **settings}
    )
