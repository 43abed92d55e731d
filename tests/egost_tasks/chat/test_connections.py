from __future__ import annotations

import asyncio

from chat_server import ChatServer, _Handler
from scripted_server import Running

from egost.tasks.chat.http import Http


def test_many_at_once_take_a_connection_each_and_use_it_again() -> None:
    running = Running(ChatServer(latency_s=0.05), _Handler)
    running.start()

    async def rounds() -> None:
        http = Http(running.server.url, 10.0)
        for _ in range(3):
            replies = await asyncio.gather(*(http.send("GET", "/v1/models") for _ in range(300)))
            assert {reply.status for reply in replies} == {200}
        await http.close()

    try:
        asyncio.run(rounds())
    finally:
        running.stop()
    assert len(running._connections) <= 300
