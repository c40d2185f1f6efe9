"""The worker of the `invoice` examples: a stand-in for a client of a billing system.

Without arguments it is a `json` worker: one request on standard input, one answer on standard output.
With `--mcp` it is an MCP server over stdio. It needs nothing but Python.
"""

import hashlib
import json
import sys

SAMPLE = {
    "id": "INV-0A1B2C3D",
    "payee": "Example Ltd",
    "currency": "EUR",
    "cents": 119000,
    "state": "open",
}

TOOLS = [
    {
        "name": "read_invoice",
        "description": "Reads one invoice by its id",
        "inputSchema": {
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
        },
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "create_invoice",
        "description": "Creates an invoice",
        "inputSchema": {
            "type": "object",
            "properties": {
                "payee": {"type": "string"},
                "currency": {"type": "string"},
                "due": {"type": "string"},
                "lines": {"type": "array", "items": {"type": "object"}},
                "note": {"type": "string"},
            },
            "required": ["payee", "currency", "lines"],
        },
    },
]


class Failed(Exception):
    """What the caller gets to read."""


def read(arguments):
    if arguments["id"] != SAMPLE["id"]:
        raise Failed("there is no such invoice")
    return SAMPLE


def create(arguments):
    said = json.dumps(arguments, sort_keys=True).encode()
    return {
        "id": "INV-" + hashlib.sha256(said).hexdigest()[:8].upper(),
        "payee": arguments["payee"],
        "currency": arguments["currency"],
        "cents": sum(line["cents"] for line in arguments["lines"]),
        "state": "open",
    }


def write_off(arguments):
    raise Failed("the billing system does not do this without a person")


VERBS = {
    "read": read,
    "read_invoice": read,
    "create": create,
    "create_invoice": create,
    "write-off": write_off,
}


def answer_once():
    request = json.load(sys.stdin)
    try:
        answer = {"result": VERBS[request["verb"]](request["arguments"])}
    except Failed as failed:
        answer = {"error": {"message": str(failed)}}
    json.dump(answer, sys.stdout)


def call(params):
    try:
        result = VERBS[params["name"]](params.get("arguments", {}))
    except Failed as failed:
        return {"content": [{"type": "text", "text": str(failed)}], "isError": True}
    text = {"type": "text", "text": json.dumps(result)}
    return {"content": [text], "structuredContent": result}


def initialize(params):
    return {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "invoice", "version": "1"},
    }


METHODS = {
    "initialize": initialize,
    "ping": lambda params: {},
    "tools/list": lambda params: {"tools": TOOLS},
    "tools/call": call,
}


def serve():
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        method = METHODS.get(request["method"])
        if method is None:
            reply["error"] = {"code": -32601, "message": "no such method"}
        else:
            reply["result"] = method(request.get("params") or {})
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    serve() if "--mcp" in sys.argv[1:] else answer_once()
