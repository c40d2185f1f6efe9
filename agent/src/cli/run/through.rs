//! `run TOOL`: the agent runs the worker; this process lends its streams and hands signals on.

use std::{os::fd::AsFd, process::ExitCode};

use tokio::sync::mpsc;

use super::{
    super::{
        Failure, Target,
        report::{Explain, report},
        runtime,
    },
    streams::{self, Flowing, Told},
};
use crate::{
    cli::signals,
    daemon::{
        Counter,
        control::{
            channel::Channel,
            protocol::{Ended, Meanwhile, Reply, Request},
        },
    },
};

pub(super) fn run(
    target: &Target,
    tool: String,
    arguments: Vec<String>,
    raw: bool,
    explain: Explain,
) -> Result<ExitCode, Failure> {
    let (worker, outlets) = streams::open(raw)?;
    let ended = runtime()?.block_on(async {
        let signals = signals::forwarded().map_err(|error| Failure::runtime(&error))?;
        let mut channel = Channel::connect(&target.instance.control_socket()).await?;
        let request = Request::Run {
            tool,
            arguments,
            counted: outlets.counter() == Counter::Caller,
        };
        channel
            .send_with(&request, &worker.each_ref().map(AsFd::as_fd))
            .await?;
        // The worker's now: an end of its output must mean that it wrote its last.
        drop(worker);
        match channel.receive::<Reply>().await? {
            Some(Reply::Started(started)) => {
                let mut flowing = outlets.flow(started.output)?;
                let ended = until_end(&mut channel, signals, &mut flowing).await?;
                flowing.end()?;
                Ok(ended)
            }
            Some(Reply::Refused(refused)) => Err(refused.into()),
            Some(_) => Err(Failure::odd_answer()),
            None => Err(Failure::silent_agent()),
        }
    })?;
    report(&ended, explain)?;
    Ok(ended.code.into())
}

async fn until_end(
    channel: &mut Channel,
    mut signals: mpsc::Receiver<i32>,
    flowing: &mut Flowing,
) -> Result<Ended, Failure> {
    loop {
        tokio::select! {
            // Where nobody takes it the session is over, and its end is there to be read.
            Some(signal) = signals.recv() => {
                channel.send(&Meanwhile::Signal { signal }).await.ok();
            }
            told = flowing.told() => {
                let said = match told? {
                    Told::Spent => Meanwhile::OutputSpent {},
                    Told::Written(bytes) => Meanwhile::Written { bytes },
                };
                channel.send(&said).await.ok();
            }
            reply = channel.receive::<Reply>() => match reply? {
                Some(Reply::Ended(ended)) => return Ok(ended),
                Some(Reply::Refused(refused)) => return Err(refused.into()),
                Some(
                    Reply::Started(_)
                    | Reply::Status(_)
                    | Reply::Sessions { .. }
                    | Reply::Event(_)
                    | Reply::Lost { .. }
                    | Reply::Grants { .. }
                    | Reply::Switched { .. }
                    | Reply::Token(_)
                    | Reply::Attachment(_)
                    | Reply::Policies(_)
                    | Reply::Suggested(_)
                    | Reply::Reloaded { .. },
                ) => return Err(Failure::odd_answer()),
                None => return Err(Failure::silent_agent()),
            },
        }
    }
}
