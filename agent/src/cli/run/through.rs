//! `run TOOL`: the agent runs the worker; this process lends its streams and hands signals on.

use std::{io, os::fd::AsFd, process::ExitCode};

use tokio::sync::mpsc;

use super::super::{
    Failure, Target,
    report::{Explain, report},
    runtime,
};
use crate::{
    cli::signals,
    daemon::control::{
        channel::Channel,
        protocol::{Ended, Reply, Request, Signal},
    },
};

pub(super) fn run(
    target: &Target,
    tool: String,
    arguments: Vec<String>,
    explain: Explain,
) -> Result<ExitCode, Failure> {
    let ended = runtime()?.block_on(async {
        let signals = signals::forwarded().map_err(|error| Failure::runtime(&error))?;
        let mut channel = Channel::connect(&target.instance.control_socket()).await?;
        let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
        let streams = [input.as_fd(), output.as_fd(), errors.as_fd()];
        let request = Request::Run { tool, arguments };
        channel.send_with(&request, &streams).await?;
        until_end(&mut channel, signals).await
    })?;
    report(&ended, explain)?;
    Ok(ended.code.into())
}

async fn until_end(
    channel: &mut Channel,
    mut signals: mpsc::Receiver<i32>,
) -> Result<Ended, Failure> {
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => channel.send(&Signal { signal }).await?,
            reply = channel.receive::<Reply>() => match reply? {
                Some(Reply::Ended(ended)) => return Ok(ended),
                Some(Reply::Refused(refused)) => return Err(refused.into()),
                Some(Reply::Started(_)) => {}
                Some(
                    Reply::Status(_)
                    | Reply::Sessions { .. }
                    | Reply::Event(_)
                    | Reply::Lost { .. }
                    | Reply::Grants { .. }
                    | Reply::Suggested(_)
                    | Reply::Reloaded { .. },
                ) => return Err(Failure::odd_answer()),
                None => return Err(Failure::silent_agent()),
            },
        }
    }
}
