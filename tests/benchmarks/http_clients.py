"""What a small request to a server costs the client, by the HTTP library and by how many are under way.

    python tests/benchmarks/http_clients.py [--requests 3000]

Each client asks a server in a process of its own (`rehearsed_server.py`, which replies at once) the same question of
800 bytes again and again, and reads the JSON of each reply: `Http`, the client of egost; httpx as it is; aiohttp; and
urllib3 in threads. Seconds are of the client's CPU, the best of some passes in turn; ours includes what the others
leave out: a limit of a reply's length, keys taken out of it, no redirect.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import httpx
import urllib3
from rehearsed_server import serving

from egost.tasks.chat.http import Http

AT_ONCE = (16, 64, 256)
PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "rehearsed", "messages": [{"role": "user", "content": "Where? " * 105}]}).encode()
JSON = {"Content-Type": "application/json"}
NO_LIMIT = httpx.Limits(max_connections=None, max_keepalive_connections=None)


async def _under_way(ask: Callable[[], Awaitable[bytes]], requests: int, at_once: int) -> None:
    numbers = iter(range(requests))

    async def slot() -> None:
        for _ in numbers:
            json.loads(await ask())

    await asyncio.gather(*(slot() for _ in range(at_once)))


def by_http(url: str, requests: int, at_once: int) -> None:
    async def run() -> None:
        http = Http(url, 60.0)

        async def ask() -> bytes:
            return (await http.send("POST", PATH, [BODY])).body

        await _under_way(ask, requests, at_once)
        await http.close()

    asyncio.run(run())


def by_httpx(url: str, requests: int, at_once: int) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60.0, limits=NO_LIMIT, trust_env=False) as client:

            async def ask() -> bytes:
                return (await client.post(PATH, content=BODY, headers=JSON)).content

            await _under_way(ask, requests, at_once)

    asyncio.run(run())


def by_aiohttp(url: str, requests: int, at_once: int) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

            async def ask() -> bytes:
                async with client.post(url + PATH, data=BODY, headers=JSON) as reply:
                    return await reply.read()

            await _under_way(ask, requests, at_once)

    asyncio.run(run())


def by_urllib3(url: str, requests: int, at_once: int) -> None:
    with (
        urllib3.PoolManager(maxsize=at_once, block=True) as client,
        ThreadPoolExecutor(at_once) as threads,
    ):

        def ask(_: int) -> None:
            json.loads(client.request("POST", url + PATH, body=BODY, headers=JSON).data)

        list(threads.map(ask, range(requests)))


CLIENTS = {"egost (aiohttp)": by_http, "httpx": by_httpx, "aiohttp": by_aiohttp}
CLIENTS["urllib3 in threads"] = by_urllib3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--passes", type=int, default=3)
    given = parser.parse_args()
    requests = given.requests
    best = dict.fromkeys(itertools.product(CLIENTS, AT_ONCE), float("inf"))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as url:
        for _, (name, at_once) in itertools.product(range(given.passes), best):
            start = time.process_time()
            CLIENTS[name](url, requests, at_once)
            best[name, at_once] = min(best[name, at_once], (time.process_time() - start) / requests)
    print("| ms of the client's CPU a request | " + " | ".join(f"{n} at once" for n in AT_ONCE) + " |")
    print("|---" * (1 + len(AT_ONCE)) + "|")
    for name in CLIENTS:
        print(f"| {name} | " + " | ".join(f"{1000 * best[name, n]:.2f}" for n in AT_ONCE) + " |")


if __name__ == "__main__":
    main()
