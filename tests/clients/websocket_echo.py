"""A WebSocket server (`serve`) and client (`call PORT`) by the websockets package. The server prints the port it listens on."""

import asyncio
import sys

import websockets


async def serve():
    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def call(port):
    async with websockets.connect(f"ws://127.0.0.1:{port}/chat", max_size=None, proxy=None) as socket:
        for message in ["hello", b"\x00\x01\xff", "x" * 2_000_000, ["in ", "pieces"]]:
            await socket.send(message)
            expected = "".join(message) if isinstance(message, list) else message
            assert await socket.recv() == expected, "another message came back"
        await asyncio.wait_for(await socket.ping(), 5)
    print("fine")


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else call(sys.argv[2]))
