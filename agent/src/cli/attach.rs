//! `stockade attach` and `stockade detach`: fences around what somebody else starts.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use super::{Failure, Target, ask, terminal::harmless};
use crate::{
    daemon::{
        attachments,
        control::{
            attach::{AttachReply, AttachRequest, Attached},
            protocol::{Reply, Request},
        },
    },
    exit::Code,
};

/// Fences the processes of a cgroup or a unit that somebody else started: what they reach, and names.
///
/// The fence stays over restarts of the unit and of the agent, until `stockade detach`. Sockets that
/// were there before are destroyed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  stockade attach --policy weather --unit weather-fetch.service\n  stockade attach --policy weather --cgroup /sys/fs/cgroup/system.slice/docker-77.scope"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The tool whose policy it gets.
    #[arg(long, value_name = "TOOL")]
    policy: String,
    #[command(flatten)]
    around: Around,
    /// Fence it although its processes keep capabilities or sockets that no fence holds.
    #[arg(long)]
    weak: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Takes a fence away that `stockade attach` put up: the processes reach everything again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stockade detach --unit weather-fetch.service")]
pub(super) struct DetachArguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    around: Around,
}

/// What is fenced.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Around {
    /// The cgroup with this folder, and all below it.
    #[arg(long, value_name = "FOLDER")]
    cgroup: Option<PathBuf>,
    /// The unit of this name.
    #[arg(long, value_name = "NAME.service")]
    unit: Option<String>,
}

impl Around {
    fn target(&self) -> Result<attachments::Target, Failure> {
        match (&self.cgroup, &self.unit) {
            (Some(folder), _) => Ok(attachments::Target::Cgroup(folder.clone())),
            (None, Some(unit)) => Ok(attachments::Target::Unit(unit.clone())),
            (None, None) => Err(Failure::odd_answer()),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let request = AttachRequest::Attach {
        target: arguments.around.target()?,
        tool: arguments.policy.clone(),
        weak: arguments.weak,
    };
    let request = Request::Attachment { ask: request };
    let Reply::Attachment(AttachReply::Attached(attached)) = ask(&arguments.target, &request)?
    else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &attached)?;
        writeln!(stdout)?;
    } else {
        tell(&mut stdout, &attached)?;
    }
    Ok(Code::Ok.into())
}

fn tell(out: &mut impl Write, attached: &Attached) -> io::Result<()> {
    let Attached {
        session,
        cgroup,
        stood,
        sockets_destroyed,
        sockets_left,
        holes,
    } = attached;
    let cgroup = harmless(cgroup);
    if *stood {
        return writeln!(out, "{cgroup}: attached already, session {session}");
    }
    writeln!(out, "{cgroup}: attached, session {session}")?;
    if *sockets_destroyed > 0 {
        writeln!(out, "{sockets_destroyed} sockets from before destroyed")?;
    }
    if *sockets_left > 0 {
        writeln!(
            out,
            "{sockets_left} sockets from before left: they reach nothing"
        )?;
    }
    for hole in holes {
        writeln!(out, "weak: {}", harmless(hole))?;
    }
    Ok(())
}

pub(super) fn detach(arguments: &DetachArguments) -> Result<ExitCode, Failure> {
    let target = arguments.around.target()?;
    let request = Request::Attachment {
        ask: AttachRequest::Detach { target },
    };
    let Reply::Attachment(AttachReply::Detached { session }) = ask(&arguments.target, &request)?
    else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout();
    match session {
        Some(session) => writeln!(stdout, "detached, session {session} is over")?,
        None => writeln!(stdout, "detached; no fence stood")?,
    }
    Ok(Code::Ok.into())
}
