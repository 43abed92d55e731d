from __future__ import annotations

import asyncio

from chat_server import ChatServer, _Handler
from scripted_server import Running

from egost.tasks.chat.http import Http


def test_many_at_once_take_few_connections_each_and_use_them_again() -> None:
    running = Running(ChatServer(latency_s=0.05), _Handler)
    running.start()
    seen = []

    async def rounds() -> None:
        async with Http(running.server.url, 10.0) as client:
            assert client._pools
            for _ in range(3):
                asked = [asyncio.ensure_future(client.get("/v1/models")) for _ in range(40)]
                await asyncio.sleep(0)
                seen.append(list(client._pools.under_way))
                assert {reply.status_code for reply in await asyncio.gather(*asked)} == {200}
                assert not any(client._pools.under_way)

    try:
        asyncio.run(rounds())
    finally:
        running.stop()
    assert seen == [[8] * 5] * 3, "five pools, in each of which a request looks at eight connections at most"
    assert len(running._connections) <= 40
