//! Callers with a key and a token each, and the questions that they have ready: every proof is signed
//! before a clock starts.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use agent::{
    broker::{jose::Algorithm, proof::Signer},
    sys::wire,
};
use anyhow::{Context as _, Result, ensure};
use lab::binary;
use serde_json::{Value, json};

use super::{
    frame::{self, Framing},
    load::{Connection, Question},
};

/// Through which door a question goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Door {
    /// `POST /mcp`
    Http,
    /// `POST /v1/calls`
    Plain,
    /// Newline-delimited JSON-RPC.
    Lines,
}

/// What every caller shares.
pub(super) struct Callers {
    instance: String,
    socket: PathBuf,
    all: Vec<Caller>,
}

struct Caller {
    subject: String,
    signer: Signer,
    token: String,
    resource: String,
}

impl Callers {
    /// So many, each with a key for this algorithm and a session of its own.
    pub(super) fn new(instance: &str, count: usize, proofs: Algorithm) -> Result<Self> {
        let caller = |number| {
            Ok(Caller {
                subject: format!("caller-{number}"),
                signer: Signer::generate(proofs)?,
                token: String::new(),
                resource: String::new(),
            })
        };
        Ok(Self {
            instance: instance.to_owned(),
            socket: Path::new("/run").join(instance).join("broker.sock"),
            all: (0..count).map(caller).collect::<Result<_>>()?,
        })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// New tokens for all.
    pub(super) fn renew(&mut self) -> Result<()> {
        for caller in &mut self.all {
            caller.renew(&self.instance)?;
        }
        Ok(())
    }

    /// The token of one of them.
    pub(super) fn a_token(&self) -> Result<String> {
        let caller = self.all.first().context("no caller")?;
        Ok(caller.token.clone())
    }

    /// A connection of each of so many, with so many questions for a tool.
    pub(super) fn connections(
        &self,
        door: Door,
        tool: &str,
        count: usize,
        questions: usize,
    ) -> Result<Vec<Connection>> {
        let nonce = self.nonce()?;
        let connection = |caller: &Caller| {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_nonblocking(true)?;
            // The runtime's own stream would be woken in the middle of the call, as its question is read.
            let (reader, writer) = wire::ends(stream)?;
            let question = |number| caller.question(door, tool, number, &nonce);
            Ok(Connection {
                reader: Box::new(reader),
                writer: Box::new(writer),
                framing: match door {
                    Door::Http | Door::Plain => Framing::Http,
                    Door::Lines => Framing::Lines,
                },
                questions: (0..questions).map(question).collect::<Result<_>>()?,
            })
        };
        self.all.iter().take(count).map(connection).collect()
    }

    /// The nonce that proofs must carry, from the answer to a request that shows nothing.
    fn nonce(&self) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let body = json!({"tool": "none", "verb": "none"}).to_string();
        let request = format!(
            "POST /v1/calls HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let nonce = frame::header(&answer, "dpop-nonce").context("no nonce")?;
        Ok(nonce.to_owned())
    }
}

impl Caller {
    fn renew(&mut self, instance: &str) -> Result<()> {
        let mut command = Command::new(binary::stockade()?);
        command
            .args(["token", "issue", "--instance", instance, "--json"])
            .args(["--subject", &self.subject, "--client", "bench"])
            .args(["--session-hash", &self.subject])
            .arg(format!("--jkt={}", self.signer.jkt()))
            .args(["--scope", "echo:say"])
            .stdin(Stdio::null());
        let issued: Value = serde_json::from_str(&binary::output(&mut command)?)?;
        let field = |name: &str| {
            let text = issued.get(name).and_then(Value::as_str);
            text.map(str::to_owned).context("a token")
        };
        (self.token, self.resource) = (field("access_token")?, field("resource")?);
        Ok(())
    }

    fn question(&self, door: Door, tool: &str, number: usize, nonce: &str) -> Result<Question> {
        ensure!(!self.token.is_empty(), "no token was issued");
        let nonce = Some(nonce);
        let now = SystemTime::now();
        let (token, resource) = (&self.token, &self.resource);
        let proof = self.signer.proof(resource, token, nonce, None, now)?;
        let text = format!("{} says {number}", self.subject);
        let arguments = json!({"text": text});
        let bytes = match door {
            Door::Plain => {
                let body = json!({"tool": tool, "verb": "say", "arguments": arguments});
                http("/v1/calls", token, &proof, &body)
            }
            Door::Http => {
                let params = json!({"name": format!("{tool}.say"), "arguments": arguments});
                http("/mcp", token, &proof, &rpc(number, &params))
            }
            Door::Lines => {
                let params = json!({
                    "name": format!("{tool}.say"),
                    "arguments": arguments,
                    "_meta": {
                        "stockade/authorization": format!("DPoP {token}"),
                        "stockade/dpop": proof,
                    },
                });
                format!("{}\n", rpc(number, &params)).into_bytes()
            }
        };
        Ok(Question {
            bytes,
            expect: format!("{text}\""),
        })
    }
}

/// A call as MCP words it.
pub(super) fn rpc(id: usize, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

fn http(path: &str, token: &str, proof: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
         Authorization: DPoP {token}\r\nDPoP: {proof}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
