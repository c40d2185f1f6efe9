//! What sessions of a running agent hold by a name: asked where there is an agent, left out where
//! there is none.

use std::time::Duration;

use common::flow::Address;

use crate::{
    cli::{Target, ask},
    daemon::control::protocol::{Reply, Request},
    policy::{compiled::CompiledPolicy, domain::DomainName, explain::KnownGrant},
};

/// The grants of a tool's sessions by the rules that cover a name.
///
/// A rule with a wildcard grants for every name below it, and the kernel is not told which: the
/// addresses of its other names are among them.
pub(super) fn grants(
    target: &Target,
    policy: &CompiledPolicy,
    name: &DomainName,
) -> Vec<KnownGrant> {
    let request = Request::Grants {
        tool: policy.tool.to_string(),
    };
    // Without an agent, or without the right to ask it, the policy alone answers.
    let Ok(Reply::Grants { grants }) = ask(target, &request) else {
        return Vec::new();
    };
    let egress = &policy.egress;
    let covering: Vec<&str> = egress
        .names
        .covering(&egress.rules, name)
        .map(|rule| rule.text.as_str())
        .collect();
    let mut known: Vec<KnownGrant> = Vec::new();
    for grant in grants {
        if !covering.contains(&grant.rule.as_str()) {
            continue;
        }
        let grant = KnownGrant {
            address: Address::from(grant.address),
            expires_in: Duration::from_secs(grant.seconds),
        };
        let same = known
            .iter_mut()
            .find(|other| other.address == grant.address);
        match same {
            Some(same) => same.expires_in = same.expires_in.max(grant.expires_in),
            None => known.push(grant),
        }
    }
    known
}
