//! What is said over the control socket about changes of policies, and how the agent answers. Files
//! travel as a sealed memory file beside the frame: they may be larger than a frame.

use std::{net::IpAddr, os::fd::AsFd as _, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    channel::{Channel, Error},
    protocol::Reply,
    server::refused,
};
use crate::{
    audit::Caller,
    daemon::{
        Engine,
        policies::{ChangeOrder, Changed, Entry},
        push::{Cut, WouldChange},
    },
    exit::Code,
    policy::bundle::{BUNDLE_BYTES_MAX, Bundle},
    sys::memfd,
};

/// Bytes of the files of a push, with the list of their names.
pub const FILES_BYTES_MAX: usize = 2 * BUNDLE_BYTES_MAX;
/// Flows and sessions of a preview; the rest is counted.
const CUTS_MAX: usize = 1_000;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "policies", rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyRequest {
    /// Put these policies in force; their files come beside the frame.
    Push {
        /// Whether they are the whole set.
        replace: bool,
        /// Only say what would change.
        dry_run: bool,
    },
    /// Take tools out.
    Remove {
        /// The tools.
        tools: Vec<String>,
        /// Only say what would change.
        dry_run: bool,
    },
    /// Put an older set in force.
    Rollback {
        /// How its digest begins; the one before where nothing is said.
        digest: Option<String>,
        /// Only say what would change.
        dry_run: bool,
    },
    /// The sets that were in force.
    History {},
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "policies", rename_all = "snake_case")]
pub enum PolicyReply {
    /// The change was made.
    Changed {
        /// Digest of the set before.
        before: String,
        /// Digest of the set in force.
        after: String,
        /// Its tools.
        tools: usize,
        /// Its rules.
        rules: usize,
    },
    /// What the change would cut; the files before and after come beside the frame.
    Preview {
        /// Sessions that would end.
        sessions: Vec<SessionCut>,
        /// Sessions that are missing from the list.
        sessions_missing: usize,
        /// Open flows that would be cut.
        flows: Vec<FlowCut>,
        /// Flows that are missing from the list.
        flows_missing: usize,
    },
    /// The sets that were in force.
    History {
        /// Digest of the one in force.
        in_force: Option<String>,
        /// Oldest first.
        sets: Vec<Entry>,
    },
}

/// A session that would end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionCut {
    /// The session.
    pub session: u64,
    /// Its tool.
    pub tool: String,
}

/// An open flow that would be cut.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowCut {
    /// Its session.
    pub session: u64,
    /// The session's tool.
    pub tool: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its port on this host.
    pub local_port: u16,
    /// The other end.
    pub remote: IpAddr,
    /// The other end's port.
    pub remote_port: u16,
}

/// Answers a request.
pub(super) async fn answer(
    engine: &Arc<Engine>,
    channel: &mut Channel,
    ask: PolicyRequest,
    caller: Caller,
) -> Result<(), Error> {
    let (order, dry_run) = match ask {
        PolicyRequest::Push { replace, dry_run } => match files(channel) {
            Ok(files) => (ChangeOrder::Push { files, replace }, dry_run),
            Err(error) => return channel.send(&refused(Code::Usage as u8, &*error)).await,
        },
        PolicyRequest::Remove { tools, dry_run } => (ChangeOrder::Remove { tools }, dry_run),
        PolicyRequest::Rollback { digest, dry_run } => (ChangeOrder::Rollback { digest }, dry_run),
        PolicyRequest::History {} => {
            let (in_force, sets) = engine.policy_history();
            let reply = Reply::Policies(PolicyReply::History { in_force, sets });
            return channel.send(&reply).await;
        }
    };
    if dry_run {
        return match engine.would_change(order).await {
            Ok(would) => preview(channel, would).await,
            Err(error) => channel.send(&refused(error.code() as u8, &error)).await,
        };
    }
    let reply = match engine.change_policies(order, caller).await {
        Ok(Changed {
            before,
            after,
            tools,
            rules,
        }) => Reply::Policies(PolicyReply::Changed {
            before,
            after,
            tools,
            rules,
        }),
        Err(error) => refused(error.code() as u8, &error),
    };
    channel.send(&reply).await
}

/// The files that came beside the frame.
fn files(channel: &mut Channel) -> Result<Bundle, Box<dyn std::error::Error + Send + Sync>> {
    let fds = channel.take_fds();
    let [fd] = <[_; 1]>::try_from(fds).map_err(|_other_number| "push: its files did not come")?;
    let bytes = memfd::read_sealed(fd, FILES_BYTES_MAX)
        .map_err(|error| format!("push: its files can not be read: {error}"))?;
    Ok(Bundle::decode(&bytes)?)
}

async fn preview(channel: &mut Channel, would: WouldChange) -> Result<(), Error> {
    let WouldChange {
        preview,
        sessions,
        flows,
    } = would;
    let reply = Reply::Policies(PolicyReply::Preview {
        sessions_missing: sessions.len().saturating_sub(CUTS_MAX),
        sessions: sessions
            .into_iter()
            .take(CUTS_MAX)
            .map(|(session, tool)| SessionCut { session, tool })
            .collect(),
        flows_missing: flows.len().saturating_sub(CUTS_MAX),
        flows: flows.into_iter().take(CUTS_MAX).map(flow).collect(),
    });
    let old = memfd::sealed(&preview.old.encode())?;
    let new = memfd::sealed(&preview.new.encode())?;
    channel.send_with(&reply, &[old.as_fd(), new.as_fd()]).await
}

fn flow(cut: Cut) -> FlowCut {
    let Cut {
        session,
        tool,
        protocol,
        local_port,
        remote,
        remote_port,
    } = cut;
    FlowCut {
        session,
        tool,
        protocol: crate::policy::digest::protocol_text(protocol),
        local_port,
        remote,
        remote_port,
    }
}

#[cfg(test)]
mod tests {
    use super::PolicyRequest;

    #[test]
    fn requests_are_closed() {
        for good in [
            r#"{"policies":"push","replace":false,"dry_run":true}"#,
            r#"{"policies":"remove","tools":["web"],"dry_run":false}"#,
            r#"{"policies":"rollback","digest":null,"dry_run":false}"#,
            r#"{"policies":"history"}"#,
        ] {
            assert!(
                serde_json::from_str::<PolicyRequest>(good).is_ok(),
                "{good}"
            );
        }
        for bad in [
            r#"{"policies":"push","replace":false}"#,
            r#"{"policies":"push","replace":false,"dry_run":true,"folder":"/etc"}"#,
            r#"{"policies":"remove","tools":"web","dry_run":false}"#,
            r#"{"policies":"history","all":true}"#,
        ] {
            assert!(serde_json::from_str::<PolicyRequest>(bad).is_err(), "{bad}");
        }
    }
}
