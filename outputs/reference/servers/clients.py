"""Which HTTP client the load generator uses, by measurement: each against a server that does nothing.

    python outputs/reference/servers/clients.py [SECONDS]

Closed loop, 8 connections, requests of 10 items with a 512-token query; the server is a process of its own on the same
machine. Each client sends bytes that were made ready and reads the whole answer; ours looks at it too. A client that is
not installed is left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from scorematrix.servers.client import body_of
from scorematrix.servers.load import LoadGenerator, Plan, idle_server, sound_answer
from scorematrix.workload import canonical_workload

CONNECTIONS = 8
REQUESTS = canonical_workload(vocab_size=32_000, query_tokens=512, n_items=10, n_queries=4).score_requests()
BODY = json.dumps(body_of(REQUESTS[0], "default")).encode()
HEADERS = {"Content-Type": "application/json"}


async def closed_loop(ask, seconds: float) -> float:
    """Requests a second of a coroutine that asks once."""
    end, n = time.perf_counter() + seconds, 0

    async def call_on() -> None:
        nonlocal n
        while time.perf_counter() < end:
            await ask()
            n += 1

    await asyncio.gather(*(call_on() for _ in range(CONNECTIONS)))
    return n / seconds


async def with_httpx(url: str, seconds: float) -> float:
    import httpx

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, limits=limits) as client:

        async def ask() -> None:
            (await client.post("/v1/score", content=BODY, headers=HEADERS)).raise_for_status()

        return await closed_loop(ask, seconds)


async def with_aiohttp(url: str, seconds: float) -> float:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as client:

        async def ask() -> None:
            async with client.post(f"{url}/v1/score", data=BODY, headers=HEADERS) as answer:
                await answer.read()

        return await closed_loop(ask, seconds)


def main(seconds: float) -> None:
    """Each client in turn, twice."""
    with idle_server(sound_answer(REQUESTS[0], "sglang")) as url:
        for _ in range(2):
            for name, run in (("httpx", with_httpx), ("aiohttp", with_aiohttp)):
                try:
                    print(f"{name}: {uvloop.run(run(url, seconds)):,.0f} requests/s", flush=True)
                except ImportError:
                    print(f"{name}: not installed")
            point = LoadGenerator(url, REQUESTS).closed(CONNECTIONS, Plan(0.0, seconds, 1))
            print(f"ours, answers checked: {point.requests_per_second:,.0f} requests/s", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
