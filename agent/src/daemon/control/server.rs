//! The agent's end of the control socket.
//!
//! Who may speak: the socket has the control group and mode 0660, which the kernel checks against the
//! *process* that connects, supplementary groups included. Whoever may speak may ask for everything:
//! there is no request for callers, who have the broker's socket. The credentials go to the record, and
//! a worker's uid is refused even so.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::unistd::getegid;
use serde::Serialize;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    attach,
    channel::{Channel, Error, REQUEST_BYTES_MAX},
    policies,
    protocol::{Ended, Meanwhile, Output, Refused, Reply, Request},
};
use crate::{
    audit::{Caller, End, HandedOut},
    daemon::{
        Engine, doors,
        error::{LaunchError, StartError, chain, told},
        explained::explained,
        session::{CommandLine, Counter, Finished, Order, Session, Stdio},
    },
    exit::{Code, SIGNAL_BASE},
    observe::dispatch::Received,
    sandbox::{Enforced, uids},
    sys::private_socket,
};

/// Connections beside those of sessions.
const CONNECTIONS_EXTRA: usize = 64;
/// Time a client has to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Everybody gets through and sees no names: each socket in the folder is for a group of its own.
const FOLDER_MODE: u32 = 0o711;

/// The control socket, bound.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, for root and the members of `group` where that group exists.
    pub fn bind(engine: &Engine, group: &str) -> Result<Self, StartError> {
        let gid = doors::gid(group, "control")?;
        let path = engine.instance.control_socket();
        let failed = |source| StartError::Socket {
            path: path.clone(),
            source,
        };
        let folder = engine.instance.run_folder();
        // An earlier version gave it to one group for both sockets.
        chown(&folder, None, Some(getegid().as_raw())).map_err(failed)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(FOLDER_MODE)).map_err(failed)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            // The instance's lock is ours, so a socket that is there has no owner.
            Ok(()) | Err(_) => {}
        }
        let listener = private_socket::bind(&path, gid).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Serves until the engine is closed.
    pub async fn serve(self, engine: Arc<Engine>) {
        let mut stopping = engine.stopping();
        let slots = (engine.sessions_max as usize).saturating_add(CONNECTIONS_EXTRA);
        let slots = Arc::new(Semaphore::new(slots));
        loop {
            let slot = tokio::select! {
                () = stopping.wait() => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            let accepted = tokio::select! {
                () = stopping.wait() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let engine = Arc::clone(&engine);
                    tokio::spawn(async move {
                        connection(&engine, stream).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "control socket not removed");
        }
    }
}

async fn connection(engine: &Arc<Engine>, stream: UnixStream) {
    let mut channel = Channel::new(stream, REQUEST_BYTES_MAX);
    match serve_one(engine, &mut channel).await {
        Ok(()) => {}
        Err(Error::Io(error)) => tracing::debug!(%error, "control connection ended early"),
        Err(error) => {
            tracing::warn!(error = chain(&error), "control request refused");
            let refused = refused(Code::Usage as u8, &error);
            // The other end may be gone or be the reason.
            drop(channel.send(&refused).await);
        }
    }
}

/// `Reply::Started`, its record borrowed: that is long, and of every launch.
#[derive(Serialize)]
#[serde(tag = "reply", rename = "started")]
struct Begun<'a> {
    session: u64,
    enforced: &'a Enforced,
    output: u64,
}

async fn serve_one(engine: &Arc<Engine>, channel: &mut Channel) -> Result<(), Error> {
    let peer = channel.peer()?;
    if uids::of_any_instance().contains(&peer.uid()) {
        tracing::warn!(
            caller.uid = peer.uid(),
            "control request of a worker refused"
        );
        return Ok(());
    }
    let caller = Caller {
        uid: peer.uid(),
        gid: peer.gid(),
        pid: peer.pid().unwrap_or(0),
    };
    let request = timeout(REQUEST_TIMEOUT, channel.receive()).await;
    let Some(request) = request.map_err(|_elapsed| Error::Slow)?? else {
        return Ok(());
    };
    match request {
        Request::Run {
            tool,
            arguments,
            counted,
        } => {
            let order = order(channel, caller, (tool, arguments), counted)?;
            run(engine, channel, order).await
        }
        Request::Status {} => channel.send(&status(engine)).await,
        Request::Sessions {} => {
            let sessions = engine.session_infos();
            channel.send(&Reply::Sessions { sessions }).await
        }
        Request::Events { session, tool } => events(engine, channel, session, tool).await,
        Request::Reload {} => {
            let reply = match engine.reload(Some(caller)).await {
                Ok(policies) => Reply::Reloaded { policies },
                Err(error) => refused(error.code() as u8, &error),
            };
            channel.send(&reply).await
        }
        Request::Switch { tool, on } => channel.send(&switch(engine, caller, &tool, on)).await,
        Request::Grants { tool } => {
            let grants = engine.grants_of(&tool);
            channel.send(&Reply::Grants { grants }).await
        }
        Request::Attachment { ask } => {
            let reply = attach::answer(engine, ask, caller).await;
            channel.send(&reply).await
        }
        Request::Token { ask } => {
            let reply = match engine.answer_token(ask, caller).await {
                Ok(reply) => Reply::Token(reply),
                Err(error) => refused(error.code() as u8, &error),
            };
            channel.send(&reply).await
        }
        Request::Policies { ask } => policies::answer(engine, channel, ask, caller).await,
        Request::Suggest {
            tool,
            session,
            seconds,
        } => {
            let within = seconds.map(Duration::from_secs);
            let reply = suggest(engine, &tool, session, within).await;
            channel.send(&reply).await
        }
    }
}

fn status(engine: &Engine) -> Reply {
    match engine.status() {
        Ok(status) => Reply::Status(Box::new(status)),
        Err(error) => refused(Code::Software as u8, &error),
    }
}

async fn suggest(
    engine: &Engine,
    tool: &str,
    session: Option<u64>,
    within: Option<Duration>,
) -> Reply {
    // What is in the ring was done before somebody asked.
    engine.drain_events().await;
    match engine.suggest(tool, session, within) {
        Ok(proposal) => Reply::Suggested(proposal.into()),
        Err(error) => refused(error.code() as u8, &error),
    }
}

fn switch(engine: &Engine, caller: Caller, tool: &str, on: bool) -> Reply {
    match engine.switch(tool, on) {
        Ok(changed) => {
            tracing::warn!(
                caller.uid = caller.uid,
                tool,
                on,
                changed,
                "kill switch used"
            );
            Reply::Switched { changed }
        }
        Err(error) => refused(error.code() as u8, &error),
    }
}

fn order(
    channel: &mut Channel,
    caller: Caller,
    (tool, arguments): (String, Vec<String>),
    told: bool,
) -> Result<Order, Error> {
    let fds = channel.take_fds();
    let stdio: Stdio = fds.try_into().map_err(|_other_number| Error::Descriptors)?;
    let who = if told {
        Counter::Caller
    } else {
        Counter::Nobody
    };
    Ok(Order {
        tool,
        command: CommandLine::OfPolicy(arguments),
        stdio,
        caller,
        under: None,
        counter: who,
    })
}

async fn run(engine: &Arc<Engine>, channel: &mut Channel, order: Order) -> Result<(), Error> {
    let mut session = match engine.launch(order).await {
        Ok(session) => session,
        Err(error) => return channel.send(&not_started(&error)).await,
    };
    let started = Begun {
        session: session.id().0,
        enforced: session.enforced(),
        output: session.policy().limits.output,
    };
    let finished = match channel.send(&started).await {
        Ok(()) => follow(&mut session, channel).await,
        Err(error) => Err(error),
    };
    match finished {
        Ok(finished) => channel.send(&Reply::Ended(ended(finished))).await,
        Err(error) => {
            session.abandon().await;
            Err(error)
        }
    }
}

/// Hands signals on until the session is over. A caller that goes away ends it.
async fn follow(session: &mut Session, channel: &mut Channel) -> Result<Finished, Error> {
    loop {
        tokio::select! {
            finished = session.finished() => return Ok(finished),
            frame = channel.receive::<Meanwhile>() => match frame? {
                Some(Meanwhile::Signal { signal }) => session.signal(signal).await,
                Some(Meanwhile::OutputSpent {}) => session.output_spent().await,
                Some(Meanwhile::Written { bytes }) => session.written(bytes).await,
                None => {
                    session.abandon().await;
                    return Ok(session.finished().await);
                }
            },
        }
    }
}

async fn events(
    engine: &Engine,
    channel: &mut Channel,
    session: Option<u64>,
    tool: Option<String>,
) -> Result<(), Error> {
    let mut subscription = engine.dispatcher.subscribe();
    let mut stopping = engine.stopping();
    loop {
        let received = tokio::select! {
            () = stopping.wait() => return Ok(()),
            received = subscription.next() => received,
            // Nothing more is expected: it tells when the listener goes away.
            said = channel.receive::<Meanwhile>() => match said? {
                Some(_) => continue,
                None => return Ok(()),
            },
        };
        match received {
            Received::Event(event) => {
                let wanted = (session.is_none() || event.session == session)
                    && (tool.is_none() || event.tool == tool);
                if wanted {
                    channel
                        .send(&Reply::Event(Box::new((*event).clone())))
                        .await?;
                }
            }
            Received::Lost(events) => channel.send(&Reply::Lost { events }).await?,
            Received::Closed => return Ok(()),
        }
    }
}

pub(super) fn refused(code: u8, error: &dyn std::error::Error) -> Reply {
    let message = told(error);
    Reply::Refused(Refused { code, message })
}

fn not_started(error: &LaunchError) -> Reply {
    refused(error.code() as u8, error)
}

/// The end of a session as the command line shows it.
#[must_use]
pub fn ended(finished: Finished) -> Ended {
    let Finished {
        end,
        output,
        refused,
        missing,
    } = finished;
    let signalled = |number: i32| SIGNAL_BASE.saturating_add(u8::try_from(number).unwrap_or(0));
    let killed = signalled(nix::libc::SIGKILL);
    let of_policy = |limit| (killed, Some(format!("ended: `{limit}` of its policy")));
    let (code, note) = match end {
        End::Exit(code) => (code, None),
        End::Signal(number) => (signalled(number), None),
        End::WallTimeout => of_policy("wall_timeout"),
        End::IdleTimeout => of_policy("idle_timeout"),
        End::CpuTime => of_policy("limits.cpu_time"),
        End::Memory => of_policy("limits.memory"),
        End::Output => of_policy("limits.output"),
        End::CallerGone => (killed, Some("ended: its caller went away".to_owned())),
        End::AgentStopped => (killed, Some("ended: the agent stopped".to_owned())),
        End::PolicyRemoved => (killed, Some("ended: its policy was removed".to_owned())),
        End::NotStarted(why) => (Code::NotStarted as u8, Some(why)),
        End::Unknown(why) => (Code::Software as u8, Some(why)),
    };
    let output = match output {
        None => None,
        Some(HandedOut::Folder { path, files, .. }) => Some(Output::Folder { path, files }),
        Some(HandedOut::Refused(why)) => Some(Output::Refused { why }),
    };
    Ended {
        code,
        note,
        output,
        refused: refused.into_iter().map(explained).collect(),
        missing,
    }
}
