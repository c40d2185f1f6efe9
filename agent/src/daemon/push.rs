//! Policies changed by somebody who asks for it: carried out off the threads that serve everybody,
//! logged and counted; or only looked at, with what it would cut.

use std::{net::IpAddr, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    Engine,
    error::chain,
    policies::{ChangeError, ChangeOrder, Changed, Entry, Preview},
};
use crate::{audit::Caller, kernel, sys::heap};

/// What a change would do to what runs.
#[derive(Clone, Debug)]
pub struct WouldChange {
    /// The files in force, and those that would be.
    pub preview: Preview,
    /// Sessions that would end, each with its tool.
    pub sessions: Vec<(u64, String)>,
    /// Open flows that would be cut.
    pub flows: Vec<Cut>,
}

/// An open flow that would be cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Its session.
    pub session: u64,
    /// The session's tool.
    pub tool: String,
    /// Number of its protocol.
    pub protocol: u16,
    /// Its port on this host.
    pub local_port: u16,
    /// The other end.
    pub remote: IpAddr,
    /// The other end's port.
    pub remote_port: u16,
}

impl Engine {
    /// Changes the policies. On an error everything is as it was.
    pub async fn change_policies(
        self: &Arc<Self>,
        order: ChangeOrder,
        caller: Caller,
    ) -> Result<Changed, ChangeError> {
        let origin = order.origin().word();
        let engine = Arc::clone(self);
        let change = move || {
            let (kernel, journal) = (&engine.kernel, &engine.journal);
            let changed = engine.policies.change(kernel, journal, &order, caller);
            heap::give_back();
            changed
        };
        let changed = spawn_blocking(change).await;
        let changed = changed.unwrap_or(Err(ChangeError::Interrupted));
        self.metrics.policy_change(origin, changed.is_ok());
        match &changed {
            Ok(Changed {
                before,
                after,
                tools,
                rules,
            }) => {
                tracing::info!(
                    caller.uid = caller.uid,
                    policies.origin = origin,
                    policies.before = before,
                    policies.after = after,
                    tools,
                    rules,
                    "policies changed"
                );
                self.follow_policies();
            }
            Err(error) => tracing::warn!(
                caller.uid = caller.uid,
                policies.origin = origin,
                error = chain(error),
                "policies not changed: the last set stays"
            ),
        }
        changed
    }

    /// What a change would do; nothing is changed.
    pub async fn would_change(
        self: &Arc<Self>,
        order: ChangeOrder,
    ) -> Result<WouldChange, ChangeError> {
        let engine = Arc::clone(self);
        let look = move || {
            let preview = engine.policies.preview(&order)?;
            let flows = engine.cuts(&preview)?;
            let sessions = engine.sessions.map(|session, entry| {
                let goes = !preview.wanted.contains_key(&entry.policy_id);
                goes.then(|| (session.0, entry.policy.tool.to_string()))
            });
            Ok(WouldChange {
                sessions: sessions.into_iter().flatten().collect(),
                flows,
                preview,
            })
        };
        let looked = spawn_blocking(look).await;
        looked.unwrap_or(Err(ChangeError::Interrupted))
    }

    /// Digest of the set in force, and the sets that were, oldest first.
    pub(super) fn policy_history(&self) -> (Option<String>, Vec<Entry>) {
        let set = self.policies.current();
        let in_force = set.files.as_ref().map(|files| files.entry.digest.clone());
        (in_force, self.policies.history())
    }

    fn cuts(&self, preview: &Preview) -> Result<Vec<Cut>, kernel::Error> {
        let tools = self.sessions.map(|session, entry| {
            let tool = entry.policy.tool.to_string();
            (session, tool)
        });
        let tool_of = |session| {
            let found = tools.iter().find(|(id, _)| *id == session);
            found.map(|(_, tool)| tool.clone())
        };
        let cuts = self.kernel.cuts(&preview.wanted)?;
        // Sockets of sessions that are over already end by themselves.
        let of_sessions = cuts.into_iter().filter_map(|cut| {
            Some(Cut {
                session: cut.session.0,
                tool: tool_of(cut.session)?,
                protocol: cut.protocol,
                local_port: cut.local_port,
                remote: cut.remote.into(),
                remote_port: cut.remote_port,
            })
        });
        Ok(of_sessions.collect())
    }
}
