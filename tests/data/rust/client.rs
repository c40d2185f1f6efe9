//! Calls the broker as a host would, with the SDK for Rust, and says what came of each step.
//!
//! client LIBRARY TRANSPORT ERA SOCKET KEY TOKEN-FILE RESOURCE INSTANCE STOCKADE

mod dpop;

use std::{env, error::Error, fs, future::pending, process, time::Duration};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt as _, RoleClient,
    model::{CallToolRequestParams, CallToolResult, JsonObject, ProgressNotificationParam, ProtocolVersion},
    object,
    service::{NotificationContext, RunningService, ServiceError},
    transport::{
        StreamableHttpClientTransport, TokioChildProcess,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    net::UnixStream,
    sync::mpsc,
    time::timeout,
};

use dpop::Broker;

const ADDRESS: &str = "http://stockade/mcp";
const PATIENCE: Duration = Duration::from_secs(90);
/// Steps of the call that is cancelled.
const ENDLESS: f64 = 100.0;
const PIPE_BYTES: usize = 1 << 16;

/// How far a call is, and of how many steps.
type Step = (f64, Option<f64>);

/// Hands on how far calls are.
struct Host(mpsc::UnboundedSender<Step>);

impl ClientHandler for Host {
    async fn on_progress(&self, said: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.send((said.progress, said.total)).ok();
    }
}

type Client = RunningService<RoleClient, Host>;

async fn call(client: &Client, name: &'static str, arguments: JsonObject) -> Result<CallToolResult, ServiceError> {
    client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await
}

fn text(result: &CallToolResult) -> &str {
    let block = result.content.first().and_then(|block| block.as_text());
    block.map_or("", |block| &block.text)
}

fn failed(result: &CallToolResult) -> bool {
    result.is_error.unwrap_or_default()
}

/// Newline-delimited JSON over the socket, with token and proof in each request.
async fn lines(broker: Broker, socket: &str) -> Result<DuplexStream, Box<dyn Error>> {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let (from_broker, mut to_broker) = UnixStream::connect(socket).await?.into_split();
    let (from_client, mut to_client) = tokio::io::split(theirs);
    tokio::spawn(async move {
        let mut lines = BufReader::new(from_client).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(mut message) = serde_json::from_str::<Value>(&line) else {
                return;
            };
            if message.get("id").is_some() && message.get("method").is_some() {
                let meta = &mut message["params"]["_meta"];
                meta["stockade/authorization"] = broker.authorization().into();
                meta["stockade/dpop"] = broker.proof().into();
            }
            if to_broker.write_all(format!("{message}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut from_broker = BufReader::new(from_broker);
        tokio::io::copy_buf(&mut from_broker, &mut to_client).await.ok();
    });
    Ok(ours)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [_, door, era, socket, key, token_file, resource, instance, stockade] = words.as_slice() else {
        return Err("client LIBRARY TRANSPORT ERA SOCKET KEY TOKEN-FILE RESOURCE INSTANCE STOCKADE".into());
    };
    let (pem, token) = (fs::read_to_string(key)?, fs::read_to_string(token_file)?);
    let broker = Broker::new(socket, ADDRESS, &pem, &token, resource)?;
    // The nonce of the next proofs: lines have no second try of their own.
    broker.renew_nonce().await?;
    let era = match era.as_str() {
        "legacy" => ClientLifecycleMode::Initialize,
        _ => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    };
    let (progress, seen) = mpsc::unbounded_channel();
    let host = Host(progress);
    let client = match door.as_str() {
        "http" => {
            let config = StreamableHttpClientTransportConfig::with_uri(ADDRESS);
            let transport = StreamableHttpClientTransport::with_client(broker, config);
            host.serve_with_lifecycle(transport, era).await?
        }
        "lines" => host.serve_with_lifecycle(lines(broker, socket).await?, era).await?,
        _ => {
            let mut shim = tokio::process::Command::new(stockade);
            shim.args(["mcp", "--instance", instance, "--key", key, "--token-file", token_file]);
            host.serve_with_lifecycle(TokioChildProcess::new(shim)?, era).await?
        }
    };
    steps(&client, seen).await?;
    client.cancel().await?;
    Ok(())
}

/// Waits for a step of the endless call: one of the call before may still be on its way.
async fn begun(seen: &mut mpsc::UnboundedReceiver<Step>) {
    while let Some((_, total)) = seen.recv().await {
        if total == Some(ENDLESS) {
            return;
        }
    }
    pending().await
}

async fn steps(client: &Client, mut seen: mpsc::UnboundedReceiver<Step>) -> Result<(), Box<dyn Error>> {
    let mut names: Vec<_> = client.list_all_tools().await?.into_iter().map(|tool| tool.name).collect();
    names.sort();
    println!("list {}", names.join(" "));
    let good = call(client, "everything.echo", object!({"message": "hello"})).await?;
    println!("call {} {}", failed(&good), text(&good));
    let wrong = call(client, "everything.echo", object!({"message": 1})).await?;
    println!("schema {} {}", failed(&wrong), text(&wrong).lines().last().unwrap_or_default());
    // Another one each time: equal calls in a row end at the guard against loops.
    let nowhere = format!("Nowhere/City{}", process::id());
    let nowhere = call(client, "time.now", object!({"timezone": nowhere})).await?;
    println!("failure {} {}", failed(&nowhere), text(&nowhere).contains("Nowhere/City"));
    let unknown = call(client, "time.remove", object!({})).await;
    println!("unknown {}", format!("{unknown:?}").contains("no such operation"));
    let long = call(client, "everything.long", object!({"duration": 1, "steps": 4})).await?;
    // The SDK hands a notification to a task of its own: it may come after the result that followed it.
    let mut steps = Vec::new();
    while steps.len() < 3 {
        let next = timeout(PATIENCE, seen.recv()).await?;
        steps.push(next.ok_or("the client has ended")?.0);
    }
    println!("progress {} {} {}", failed(&long), steps.is_sorted(), steps.len() >= 3);
    let endless = call(client, "everything.long", object!({"duration": 50, "steps": 100}));
    let first = timeout(PATIENCE, async {
        tokio::select! {
            // Dropped when the other half is there: that cancels it.
            ended = endless => Err(format!("it ended: {ended:?}")),
            () = begun(&mut seen) => Ok(()),
        }
    });
    first.await??;
    let after = call(client, "everything.echo", object!({"message": "after"})).await?;
    println!("cancel {}", text(&after));
    Ok(())
}
