"""A WebSocket client of another maker: text, binary, fragments, ping and a close with its code."""

import asyncio
import os
import sys

import websockets


async def main(url):
    async with websockets.connect(url, max_size=None, compression="deflate") as ws:
        for message in ["hello", "caf\u00e9" * 1000, os.urandom(3_000_000), b""]:
            await ws.send(message)
            if await ws.recv() != message:
                raise SystemExit("an echo differs")
        await ws.send(["one ", "two ", "three"])  # fragments
        if await ws.recv() != "one two three":
            raise SystemExit("fragments were not joined")
        await asyncio.wait_for(await ws.ping(), 10)
        await ws.close(code=1000, reason="done")
        print("closed", ws.close_code)


asyncio.run(main(sys.argv[1]))
