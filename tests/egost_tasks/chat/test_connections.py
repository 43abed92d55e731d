from __future__ import annotations

import asyncio

from chat_server import ChatServer, _Handler
from scripted_server import Running

from egost.tasks.chat.http import Http


def test_many_at_once_take_a_connection_each_and_use_it_again() -> None:
    running = Running(ChatServer(latency_s=0.05), _Handler)
    running.start()
    seen = []

    async def rounds() -> None:
        async with Http(running.server.url, 10.0) as client:
            assert client._lines
            for _ in range(3):
                asked = [asyncio.ensure_future(client.get("/v1/models")) for _ in range(40)]
                await asyncio.sleep(0)
                seen.append((len(client._lines.lines), len(client._lines.free)))
                assert {reply.status_code for reply in await asyncio.gather(*asked)} == {200}
                assert len(client._lines.free) == 40

    try:
        asyncio.run(rounds())
    finally:
        running.stop()
    assert seen == [(40, 0)] * 3, "a request looks at its own connection alone"
    assert len(running._connections) <= 40
