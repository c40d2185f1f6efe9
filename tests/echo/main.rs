//! The worker behind the bench of calls: an MCP server over stdio with one tool, `say`, which gives its
//! argument back. With `--json` it answers one call of the `json` protocol and ends.
//!
//! It speaks the revisions with a handshake, does nothing that a server need not do, and so is not what
//! is measured.

use std::io::{self, BufRead as _, Read as _, Write as _};

use serde_json::{Value, json};

/// What it speaks, unless its client wants an older one.
const VERSION: &str = "2025-11-25";
const METHOD_NOT_FOUND: i64 = -32_601;

fn main() -> io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("--json") {
        return once();
    }
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        if let Some(mut answer) = answer(&serde_json::from_str(&line?)?) {
            answer.push(b'\n');
            output.write_all(&answer)?;
            output.flush()?;
        }
    }
    Ok(())
}

/// One call, one answer.
fn once() -> io::Result<()> {
    let mut asked = String::new();
    io::stdin().read_to_string(&mut asked)?;
    let asked: Value = serde_json::from_str(&asked)?;
    println!("{}", json!({"result": said(asked.get("arguments"))}));
    Ok(())
}

/// The answer to a message, if it wants one.
fn answer(message: &Value) -> Option<Vec<u8>> {
    let id = message.get("id")?;
    let params = |name: &str| message.get("params")?.get(name);
    let result = match message.get("method")?.as_str()? {
        "initialize" => json!({
            "protocolVersion": params("protocolVersion").and_then(Value::as_str).unwrap_or(VERSION),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo", "version": "1"},
        }),
        "tools/list" => json!({"tools": [{
            "name": "say",
            "description": "Gives its argument back",
            "inputSchema": {
                "type": "object",
                "properties": {"text": {"type": "string", "maxLength": 256}},
                "required": ["text"],
                "additionalProperties": false,
            },
        }]}),
        "tools/call" => {
            let said = said(params("arguments"));
            json!({
                "content": [{"type": "text", "text": said.get("text")}],
                "structuredContent": said,
                "isError": false,
            })
        }
        "ping" => json!({}),
        method => {
            let error = json!({"code": METHOD_NOT_FOUND, "message": format!("no {method}")});
            return serde_json::to_vec(&json!({"jsonrpc": "2.0", "id": id, "error": error})).ok();
        }
    };
    serde_json::to_vec(&json!({"jsonrpc": "2.0", "id": id, "result": result})).ok()
}

fn said(arguments: Option<&Value>) -> Value {
    json!({"text": arguments.and_then(|arguments| arguments.get("text"))})
}
