"""A worker with the tools that the conformance suite of MCP calls, by their names."""

import json, sys, time

TEXT = {"type": "text", "text": "This is a simple text response for testing."}
# One red pixel, and a WAVE file without a sound.
IMAGE = {"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="}
AUDIO = {"type": "audio", "mimeType": "audio/wav", "data": "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="}
EMBEDDED = {"type": "resource", "resource": {"uri": "test://embedded-resource", "mimeType": "text/plain", "text": "This is an embedded resource content."}}
MIXED = {"type": "resource", "resource": {"uri": "test://mixed-content-resource", "mimeType": "application/json", "text": '{"test":"data","value":123}'}}

CONTENT = {
    "test_simple_text": [TEXT],
    "test_image_content": [IMAGE],
    "test_audio_content": [AUDIO],
    "test_embedded_resource": [EMBEDDED],
    "test_multiple_content_types": [TEXT, IMAGE, MIXED],
    "test_tool_with_logging": [TEXT],
    "test_tool_with_progress": [TEXT],
    "test_error_handling": [{"type": "text", "text": "This tool intentionally returns an error for testing"}],
    "test_reconnection": [TEXT],
    "test_sampling": [],
    "test_elicitation": [],
    "test_elicitation_sep1034_defaults": [],
    "test_elicitation_sep1330_enums": [],
    "json_schema_2020_12_tool": [TEXT],
}
ELICIT = ("elicitation/create", {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"username": {"type": "string"}}}})
ASKED = {
    "test_sampling": ("sampling/createMessage", {"maxTokens": 100, "messages": [{"role": "user", "content": TEXT}]}),
    "test_elicitation": ELICIT,
    "test_elicitation_sep1034_defaults": ELICIT,
    "test_elicitation_sep1330_enums": ELICIT,
}


def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def call(params):
    name, token = params["name"], params.get("_meta", {}).get("progressToken")
    content = CONTENT[name]
    for step in (0, 50, 100):
        if name == "test_tool_with_logging":
            say(method="notifications/message", params={"level": "info", "data": f"step {step}"})
            time.sleep(0.05)
        if name == "test_tool_with_progress" and token is not None:
            say(method="notifications/progress", params={"progressToken": token, "progress": step, "total": 100})
            time.sleep(0.05)
    if name in ASKED:
        method, asked = ASKED[name]
        say(id="asked", method=method, params=asked)
        content = [{"type": "text", "text": json.dumps(json.loads(sys.stdin.readline()))}]
    return {"content": content, "isError": name == "test_error_handling"}


for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if "id" not in request:
        continue
    if request["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "conformance", "version": "1"}}
    elif request["method"] == "tools/list":
        result = {"tools": [{"name": name, "description": name, "inputSchema": {"type": "object"}} for name in CONTENT]}
    else:
        result = call(request["params"])
    say(id=request["id"], result=result)
