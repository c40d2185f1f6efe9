//! What a change of policies would cut: the connected sockets of sessions whose flows the new policies
//! refuse. The same judgement as the sweep's after a change, without carrying it out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use common::{
    flow::Address,
    id::{PolicyId, RuleId, SessionId},
};

use super::{Inner, error::Error, flows::owned_sockets};
use crate::{
    policy::{compiled::CompiledPolicy, model::Model},
    sys::sock_diag::Diag,
};

/// An open flow that would be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Whose it is.
    pub session: SessionId,
    /// Number of its protocol.
    pub protocol: u16,
    /// Its port on this host.
    pub local_port: u16,
    /// The other end.
    pub remote: Address,
    /// The other end's port.
    pub remote_port: u16,
}

/// The flows in the agent's network namespace that these policies refuse.
pub(in crate::kernel) fn of(
    inner: &Inner,
    policies: &BTreeMap<PolicyId, Arc<CompiledPolicy>>,
) -> Result<Vec<Cut>, Error> {
    let mut diag = Diag::open().map_err(|source| Error::Diag {
        action: "opening",
        source,
    })?;
    let hosts: BTreeSet<Address> = inner.maps.locals.keys()?.into_iter().collect();
    let rules: BTreeMap<PolicyId, BTreeSet<RuleId>> = policies
        .iter()
        .map(|(id, policy)| {
            (
                *id,
                policy.egress.rules.iter().map(|rule| rule.id).collect(),
            )
        })
        .collect();
    let models: BTreeMap<PolicyId, Model<'_>> = policies
        .iter()
        .map(|(id, policy)| (*id, Model::new(policy, hosts.clone())))
        .collect();
    let mut cuts = Vec::new();
    for owned in owned_sockets(&mut diag, inner)? {
        let socket = &owned.socket;
        if !socket.is_connected() {
            continue;
        }
        let allowed = models.get(&owned.policy).is_some_and(|model| {
            let flow = model.flow(socket.protocol, socket.remote, socket.remote_port);
            model.decide(&flow).passes()
        });
        let own = rules.get(&owned.policy);
        let lives = |rule| own.is_some_and(|rules| rules.contains(&rule));
        let policy = policies.get(&owned.policy);
        if allowed || policy.is_some_and(|policy| inner.carries(policy, &owned, lives)) {
            continue;
        }
        cuts.push(Cut {
            session: owned.session,
            protocol: socket.protocol,
            local_port: socket.local_port,
            remote: socket.remote,
            remote_port: socket.remote_port,
        });
    }
    Ok(cuts)
}
