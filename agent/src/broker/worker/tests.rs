//! Workers as plain child processes: what they may say, and what becomes of the rest.

mod ended;
mod json;
mod mcp;
mod runtimes;

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Answer, Asked, Blame, Bounds, Client, Ended, Failure, Fenced, NotStarted, Order, Process,
    Starting,
};
use crate::{
    audit::Caller,
    broker::{Host, reason::Reason},
    policy::{compile, compiled::CompiledPolicy},
};

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 1,
};
const BOUNDS: Bounds = Bounds {
    bytes: 256 * 1024,
    depth: 16,
};

/// A host whose workers are python scripts without a fence.
struct Children {
    script: String,
    started: AtomicU64,
}

impl Host for Children {
    fn policy(&self, _tool: &str) -> Option<Arc<CompiledPolicy>> {
        None
    }

    fn policies(&self) -> Vec<Arc<CompiledPolicy>> {
        Vec::new()
    }

    fn is_worker(&self, _uid: u32) -> bool {
        false
    }

    fn launch(&self, order: Order) -> Starting {
        let session = self.started.fetch_add(1, Ordering::Relaxed);
        let [input, output, errors] = order.stdio;
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", &self.script])
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors));
        Box::pin(async move {
            let mut command = tokio::process::Command::from(command);
            let mut child = command
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| NotStarted::Failed(error.to_string()))?;
            // The parent's ends of the worker's streams go with it.
            drop(command);
            let (stop, stopped) = oneshot::channel::<()>();
            let (tell, ended) = oneshot::channel();
            tokio::spawn(async move {
                let ended = tokio::select! {
                    status = child.wait() => match status {
                        Ok(status) if status.success() => Ended::Well,
                        Ok(status) => Ended::Badly(status.to_string()),
                        Err(error) => Ended::Badly(error.to_string()),
                    },
                    _ = stopped => {
                        child.kill().await.expect("it can be killed");
                        Ended::Badly("killed".to_owned())
                    }
                };
                tell.send(ended).ok();
            });
            Ok(Fenced {
                session,
                stop,
                ended,
            })
        })
    }
}

fn children(script: &str) -> Children {
    Children {
        script: script.to_owned(),
        started: AtomicU64::new(1),
    }
}

fn policy() -> Arc<CompiledPolicy> {
    Arc::new(compile("t.toml", "version = 1\ntool = \"t\"\n").unwrap())
}

async fn process(host: &Children) -> Process {
    Process::start((host, &Handle::current()), &policy(), CALLER, BOUNDS)
        .await
        .unwrap()
}

fn asked(arguments: &Value) -> Asked<'_> {
    Asked {
        tool: "t",
        verb: "echo",
        arguments,
        progress: None,
    }
}

/// Nothing here takes this long unless it hangs.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("an end")
}

fn said(outcome: Result<Answer, Failure>) -> String {
    match outcome {
        Ok(answer) => format!(
            "{} {} {}",
            if answer.is_error { "error" } else { "done" },
            Value::from(answer.content),
            answer.structured.unwrap_or(json!(null))
        ),
        Err(failure) => format!(
            "{} {} ({})",
            if failure.begun { "begun" } else { "not begun" },
            failure.refused.reason.code(),
            failure.refused.detail
        ),
    }
}

#[test]
fn a_worker_answers_for_its_own_start_and_for_no_host_that_did_not_try() {
    for (not_started, blame) in [
        (NotStarted::Failed("no such file".to_owned()), Blame::Worker),
        (NotStarted::Busy, Blame::Other),
        (NotStarted::Stopping, Blame::Other),
        (NotStarted::Changed, Blame::Other),
    ] {
        let failure = Failure::from(not_started);
        assert!(!failure.begun, "{failure:?}");
        assert_eq!(failure.blame, blame, "{failure:?}");
    }
    for (reason, blame) in [
        (Reason::WorkerTimeout, Blame::Worker),
        (Reason::WorkerMalformed, Blame::Worker),
        (Reason::Cancelled, Blame::Other),
        (Reason::Killed, Blame::Other),
        (Reason::ToolPin, Blame::Other),
    ] {
        assert_eq!(Failure::of_start(reason.into()).blame, blame);
        assert_eq!(Failure::of_call(reason.into()).blame, blame);
    }
}
