//! Other proxies of MCP, with the same worker behind them: mcp-proxy (Rust) and fastmcp (Python). They
//! check no caller, record nothing and have no fence.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lab::netns::Netns;
use serde_json::{Value, json};

use super::{
    callers::rpc,
    frame::{Framing, Reader, header},
    load::{Connection, Question},
};
use crate::peers::built;

const MCP_PROXY: u16 = 5401;
const FASTMCP: u16 = 5402;
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);
/// Its proxy, with one worker for all sessions: a worker each would be started at each connection.
const FASTMCP_PROXY: &str = r#"
import asyncio, sys
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy

async def main():
    worker = StdioTransport(command=sys.argv[1], args=[], keep_alive=True)
    async with Client(worker) as client:
        proxy = create_proxy(client, name="echo")
        await proxy.run_async(transport="http", host="127.0.0.1", port=int(sys.argv[2]),
                              show_banner=False, log_level="error")

asyncio.run(main())
"#;

/// A proxy that runs; it ends with this value.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    address: SocketAddr,
    path: &'static str,
    /// What it calls the worker's tool.
    tool: &'static str,
    child: Child,
}

/// Both, each running or with the reason why not.
pub(super) fn start(
    netns: &Netns,
    folder: &Path,
    worker: &Path,
) -> Result<Vec<(&'static str, Result<Proxy, String>)>> {
    let programs = built()?;
    let program = |name: &str| {
        let program = programs.get(name).cloned();
        program.unwrap_or_else(|| Err("not set up (hint: cargo xtask bench)".to_owned()))
    };
    let started = |name, proxy: Result<Result<Proxy>, String>| {
        (
            name,
            proxy.and_then(|proxy| proxy.map_err(|why| format!("{why:#}"))),
        )
    };
    Ok(vec![
        started(
            "mcp-proxy",
            program("mcp-proxy").map(|program| mcp_proxy(netns, folder, worker, &program)),
        ),
        started(
            "fastmcp",
            program("fastmcp").map(|program| fastmcp(netns, folder, worker, &program)),
        ),
    ])
}

fn mcp_proxy(netns: &Netns, folder: &Path, worker: &Path, program: &Path) -> Result<Proxy> {
    let file = folder.join("mcp-proxy.toml");
    let configuration = format!(
        "[proxy]\nname = \"bench\"\nseparator = \"/\"\n[proxy.listen]\nhost = \"127.0.0.1\"\n\
         port = {MCP_PROXY}\n[[backends]]\nname = \"echo\"\ntransport = \"stdio\"\n\
         command = \"{}\"\n",
        worker.display()
    );
    fs::write(&file, configuration)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(file).env("RUST_LOG", "error");
    Proxy::start(
        netns,
        folder,
        ("mcp-proxy", "/", "echo/say"),
        MCP_PROXY,
        command,
    )
}

/// `program` is the file by which its installation is known, in the folder of its packages.
fn fastmcp(netns: &Netns, folder: &Path, worker: &Path, program: &Path) -> Result<Proxy> {
    let file = folder.join("fastmcp_proxy.py");
    fs::write(&file, FASTMCP_PROXY)?;
    let mut above = program.ancestors();
    let packages = above.find(|folder| folder.join("installed").is_file());
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(file)
        .arg(worker)
        .arg(FASTMCP.to_string())
        .env("PYTHONPATH", packages.context("fastmcp has no folder")?)
        .env("HOME", folder);
    Proxy::start(netns, folder, ("fastmcp", "/mcp", "say"), FASTMCP, command)
}

impl Proxy {
    fn start(
        netns: &Netns,
        folder: &Path,
        (name, path, tool): (&'static str, &'static str, &'static str),
        port: u16,
        mut command: Command,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = netns.enter(|| command.spawn())??;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut proxy = Self {
            name,
            address,
            path,
            tool,
            child,
        };
        let until = Instant::now() + PATIENCE;
        while proxy.dial(netns).is_err() {
            let ended = proxy.child.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                let told = fs::read_to_string(&log).unwrap_or_default();
                let last = told.lines().rev().find(|line| !line.trim().is_empty());
                bail!("it does not listen: {}", last.unwrap_or("says nothing"));
            }
            std::thread::sleep(POLL);
        }
        Ok(proxy)
    }

    fn dial(&self, netns: &Netns) -> Result<TcpStream> {
        let stream = netns.enter(|| TcpStream::connect(self.address))??;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// So many connections, each with a session of its own and so many questions. Wants a runtime.
    pub(super) async fn connections(
        &self,
        netns: &Netns,
        count: usize,
        questions: usize,
    ) -> Result<Vec<Connection>> {
        let mut all = Vec::new();
        for number in 0..count {
            let stream = tokio::net::TcpStream::from_std(self.dial(netns)?)?;
            all.push(self.open(stream, number, questions).await?);
        }
        Ok(all)
    }

    async fn open(
        &self,
        mut stream: tokio::net::TcpStream,
        number: usize,
        questions: usize,
    ) -> Result<Connection> {
        use tokio::io::AsyncWriteExt as _;
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        }});
        stream.write_all(&self.post("", &hello)).await?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = Reader::new(Box::new(reader), Framing::Http);
        let (head, body) = reader.whole().await?;
        ensure!(
            body.contains("protocolVersion"),
            "{}: {head}{body}",
            self.name
        );
        let session = header(&head, "mcp-session-id")
            .context("no session")?
            .to_owned();
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        writer.write_all(&self.post(&session, &done)).await?;
        reader.answer().await.context(self.name)?;
        let question = |question| {
            let text = format!("peer-{number} says {question}");
            let params = json!({"name": self.tool, "arguments": {"text": text}});
            Question {
                bytes: self.post(&session, &rpc(question + 1, &params)),
                expect: format!("{text}\""),
            }
        };
        Ok(Connection {
            reader: reader.into_inner(),
            writer: Box::new(writer),
            framing: Framing::Http,
            questions: (0..questions).map(question).collect(),
        })
    }

    fn post(&self, session: &str, body: &Value) -> Vec<u8> {
        let body = body.to_string();
        let session = if session.is_empty() {
            String::new()
        } else {
            format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n")
        };
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{session}\
             Content-Length: {}\r\n\r\n{body}",
            self.path,
            self.address,
            body.len()
        )
        .into_bytes()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The worker, spoken to directly: a process for each connection. Wants a runtime.
pub(super) struct Direct {
    _workers: Vec<tokio::process::Child>,
}

impl Direct {
    /// Starts them anew, with so many questions each.
    pub(super) fn connections(
        worker: &PathBuf,
        count: usize,
        questions: usize,
    ) -> Result<(Self, Vec<Connection>)> {
        let (mut workers, mut all) = (Vec::new(), Vec::new());
        for number in 0..count {
            let mut child = tokio::process::Command::new(worker)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let (input, output) = (child.stdin.take(), child.stdout.take());
            let question = |question| {
                let text = format!("direct-{number} says {question}");
                let params = json!({"name": "say", "arguments": {"text": text}});
                Question {
                    bytes: format!("{}\n", rpc(question, &params)).into_bytes(),
                    expect: format!("{text}\""),
                }
            };
            all.push(Connection {
                reader: Box::new(output.context("a pipe")?),
                writer: Box::new(input.context("a pipe")?),
                framing: Framing::Lines,
                questions: (0..questions).map(question).collect(),
            });
            workers.push(child);
        }
        Ok((Self { _workers: workers }, all))
    }
}
