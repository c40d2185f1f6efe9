"""Calls the broker as a host would, with a client from PyPI, and says what came of each step.

client.py LIBRARY TRANSPORT ERA SOCKET KEY TOKEN-FILE RESOURCE INSTANCE STOCKADE
"""

import asyncio, contextlib, json, os, pathlib, sys

import anyio, httpx2, mcp_types
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from dpop import DPoP

LIBRARY, TRANSPORT, ERA, SOCKET, KEY, TOKEN, RESOURCE, INSTANCE, STOCKADE = sys.argv[1:]
AUTH = DPoP(pathlib.Path(KEY).read_bytes(), pathlib.Path(TOKEN).read_text().strip(), RESOURCE)


@contextlib.asynccontextmanager
async def lines():
    """Newline-delimited JSON over the socket, with token and proof in each request."""
    read_in, read_out = anyio.create_memory_object_stream(16)
    write_in, write_out = anyio.create_memory_object_stream(16)
    stream = await anyio.connect_unix(SOCKET)

    async def sends():
        async for message in write_out:
            message = json.loads(message.message.model_dump_json(by_alias=True, exclude_unset=True))
            if "id" in message and "method" in message:
                meta = message.setdefault("params", {}).setdefault("_meta", {})
                meta["stockade/authorization"] = f"DPoP {AUTH.token}"
                meta["stockade/dpop"] = AUTH.proof()
            await stream.send(json.dumps(message).encode() + b"\n")

    async def receives():
        buffer = b""
        with contextlib.suppress(anyio.EndOfStream, anyio.ClosedResourceError):
            while True:
                buffer += await stream.receive()
                *whole, buffer = buffer.split(b"\n")
                for line in whole:
                    message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    await read_in.send(SessionMessage(message))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sends)
        tasks.start_soon(receives)
        yield read_out, write_in
        tasks.cancel_scope.cancel()
        await stream.aclose()


def shim():
    words = ["mcp", "--instance", INSTANCE, "--key", KEY, "--token-file", TOKEN]
    return StdioServerParameters(command=STOCKADE, args=words)


@contextlib.asynccontextmanager
async def connected():
    async with contextlib.AsyncExitStack() as stack:
        # The nonce of the next proofs: lines have no second try of their own.
        transport = httpx2.AsyncHTTPTransport(uds=SOCKET)
        http = httpx2.AsyncClient(transport=transport, auth=AUTH, timeout=60)
        http = await stack.enter_async_context(http)
        await http.post("http://stockade/v1/calls", json={"tool": "none", "verb": "none", "arguments": {}})
        if LIBRARY == "fastmcp":
            import fastmcp
            from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

            def factory(**options):
                options = {"timeout": options.get("timeout"), "headers": options.get("headers")}
                uds = httpx2.AsyncHTTPTransport(uds=SOCKET)
                return httpx2.AsyncClient(transport=uds, auth=AUTH, **options)

            if TRANSPORT == "http":
                transport = StreamableHttpTransport("http://stockade/mcp", httpx_client_factory=factory)
            else:
                transport = StdioTransport(shim().command, shim().args)
            yield await stack.enter_async_context(fastmcp.Client(transport, mode=ERA))
            return
        server = {
            "http": lambda: streamable_http_client("http://stockade/mcp", http_client=http),
            "lines": lines,
            "shim": shim,
        }[TRANSPORT]()
        yield await stack.enter_async_context(Client(server, mode=ERA))


async def call(client, name, arguments, **more):
    if LIBRARY == "fastmcp":
        more["raise_on_error"] = False
        if "progress_callback" in more:
            more["progress_handler"] = more.pop("progress_callback")
    return await client.call_tool(name, arguments, **more)


async def main():
    async with connected() as client:
        listed = await client.list_tools()
        print("list", *sorted(tool.name for tool in getattr(listed, "tools", listed)))
        good = await call(client, "everything.echo", {"message": "hello"})
        print("call", good.is_error, good.content[0].text)
        wrong = await call(client, "everything.echo", {"message": 1})
        print("schema", wrong.is_error, wrong.content[0].text.splitlines()[-1])
        # Another one each time: equal calls in a row end at the guard against loops.
        failed = await call(client, "time.now", {"timezone": f"Nowhere/City{os.getpid()}"})
        print("failure", failed.is_error, "Nowhere/City" in failed.content[0].text)
        try:
            answer = await call(client, "time.remove", {})
            print("unknown", answer.is_error)
        except Exception as error:
            print("unknown", "no such operation" in str(error))
        seen = []

        async def progress(done, total, message):
            seen.append((done, total))

        long = await call(client, "everything.long", {"duration": 1, "steps": 4}, progress_callback=progress)
        print("progress", long.is_error, seen == sorted(seen), len(seen) >= 3)
        began = asyncio.Event()

        async def begun(done, total, message):
            began.set()

        arguments = {"duration": 50, "steps": 100}
        running = asyncio.create_task(call(client, "everything.long", arguments, progress_callback=begun))
        await asyncio.wait_for(began.wait(), 90)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        after = await call(client, "everything.echo", {"message": "after"})
        print("cancel", after.content[0].text)


asyncio.run(main())
