"""Calls a tool with the official SDK for Python: call.py SOCKET KEY TOKEN-FILE RESOURCE"""

import asyncio, pathlib, sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from dpop import DPoP


async def main(socket, key, token, resource):
    token = pathlib.Path(token).read_text().strip()
    auth = DPoP(pathlib.Path(key).read_bytes(), token, resource)
    transport = httpx2.AsyncHTTPTransport(uds=socket)
    async with httpx2.AsyncClient(transport=transport, auth=auth, timeout=60) as http:
        # The host of the address means nothing: the socket decides. `/mcp/time` is one tool alone.
        async with Client(streamable_http_client("http://stockade/mcp/time", http_client=http)) as client:
            for tool in (await client.list_tools()).tools:
                print(tool.name, "-", tool.description)
            result = await client.call_tool("now", {"timezone": "Asia/Tokyo"})
            print(result.structured_content["timezone"])


asyncio.run(main(*sys.argv[1:]))
