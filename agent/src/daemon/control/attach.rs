//! Fences around what somebody else started, over the control socket.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{protocol::Reply, server::refused};
use crate::{
    audit::Caller,
    daemon::{
        Engine,
        attachments::{AttachError, AttachOrder, AttachReport, Target},
    },
};

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "attachment", rename_all = "snake_case", deny_unknown_fields)]
pub enum AttachRequest {
    /// Put up a fence.
    Attach {
        /// Around what.
        target: Target,
        /// The tool of the policy.
        tool: String,
        /// Its processes may keep what no fence holds.
        weak: bool,
    },
    /// Take a fence away.
    Detach {
        /// Around what.
        target: Target,
    },
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "attachment", rename_all = "snake_case")]
pub enum AttachReply {
    /// The fence stands.
    Attached(Attached),
    /// The fence is gone.
    Detached {
        /// Its session, where it stood.
        session: Option<u64>,
    },
}

/// A fence around what somebody else started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Its session.
    pub session: u64,
    /// Folder of the cgroup.
    pub cgroup: String,
    /// Whether it stood before.
    pub stood: bool,
    /// Sockets that were there before and were destroyed.
    pub sockets_destroyed: u32,
    /// Sockets that were there before and are left: they reach nothing.
    pub sockets_left: u32,
    /// What its processes have that no fence holds.
    pub holes: Vec<String>,
}

/// The cgroup of a session whose processes somebody else started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttachedInfo {
    /// Its folder.
    pub cgroup: String,
    /// What its processes have that no fence holds.
    pub weak: Vec<String>,
}

/// Answers a request.
pub(super) async fn answer(engine: &Arc<Engine>, ask: AttachRequest, caller: Caller) -> Reply {
    let done = match ask {
        AttachRequest::Attach { target, tool, weak } => {
            let order = AttachOrder {
                target,
                tool,
                weak,
                caller,
            };
            engine.attach(order).await.map(attached)
        }
        AttachRequest::Detach { target } => {
            let detached = engine.detach(&target, caller).await;
            detached.map(|session| AttachReply::Detached { session })
        }
    };
    done.map_or_else(
        |error: AttachError| refused(error.code() as u8, &error),
        Reply::Attachment,
    )
}

fn attached(report: AttachReport) -> AttachReply {
    let AttachReport {
        session,
        cgroup,
        stood,
        cleared,
        holes,
    } = report;
    AttachReply::Attached(Attached {
        session,
        cgroup,
        stood,
        sockets_destroyed: cleared.destroyed,
        sockets_left: cleared.left,
        holes,
    })
}

#[cfg(test)]
mod tests {
    use super::AttachRequest;

    #[test]
    fn requests_are_closed() {
        for good in [
            r#"{"attachment":"attach","target":{"unit":"a.service"},"tool":"a","weak":false}"#,
            r#"{"attachment":"detach","target":{"cgroup":"/sys/fs/cgroup/a"}}"#,
        ] {
            assert!(
                serde_json::from_str::<AttachRequest>(good).is_ok(),
                "{good}"
            );
        }
        for bad in [
            r#"{"attachment":"attach","target":{"unit":"a.service"},"tool":"a"}"#,
            r#"{"attachment":"detach","target":{"unit":"a.service"},"weak":true}"#,
            r#"{"attachment":"detach","target":{"pid":1}}"#,
        ] {
            assert!(serde_json::from_str::<AttachRequest>(bad).is_err(), "{bad}");
        }
    }
}
