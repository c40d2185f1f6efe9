//! Which sockets can be made: a network client's, route netlink, and unix streams.
//!
//! A refusal has the errno of a kernel that lacks the family or the protocol: programs fall back.

use super::{Host, Rule, Verdict};
use crate::policy::compiled::Profile;

const FAMILY: u8 = 0;
const TYPE: u8 = 1;
const PROTOCOL: u8 = 2;
/// Bits of the second argument that are the type; the others are flags.
const TYPE_MASK: u32 = 0xf;

const UNIX: u32 = 1;
const INET: u32 = 2;
const INET6: u32 = 10;
const NETLINK: u32 = 16;

const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;
const RAW: u32 = 3;

/// The family's own choice: TCP for streams, UDP for datagrams.
const ANY: u32 = 0;
const TCP: u32 = 6;
const UDP: u32 = 17;
/// The only netlink protocol: addresses and routes, which libc asks for.
const ROUTE: u32 = 0;

const NO_FAMILY: Rule = Rule::Always(Verdict::NoFamily);
const NO_PROTOCOL: Rule = Rule::Always(Verdict::NoProtocol);

/// `socket`
pub(super) fn socket(profile: Profile, host: Host) -> Rule {
    let client = types(&[(STREAM, &[ANY, TCP]), (DATAGRAM, &[ANY, UDP])]);
    let netlink = types(&[(RAW, &[ROUTE]), (DATAGRAM, &[ROUTE])]);
    let mut families = vec![(INET, client.clone()), (INET6, client), (NETLINK, netlink)];
    // Only where landlock keeps abstract names inside (ABI 6).
    let wanted = profile == Profile::Interpreter || host.named_unix_streams;
    if wanted && host.abstract_sockets_scoped {
        families.push((UNIX, streams()));
    }
    Rule::choice(FAMILY, u32::MAX, families, NO_FAMILY)
}

/// `socketpair`
pub(super) fn pair() -> Rule {
    Rule::choice(FAMILY, u32::MAX, [(UNIX, streams())], NO_FAMILY)
}

/// Streams of any protocol: a unix socket knows no other than its family's own.
fn streams() -> Rule {
    Rule::choice(TYPE, TYPE_MASK, [(STREAM, Rule::ALLOW)], NO_PROTOCOL)
}

fn types(allowed: &[(u32, &[u32])]) -> Rule {
    let types = allowed.iter().map(|(kind, protocols)| {
        let protocols = protocols.iter().map(|protocol| (*protocol, Rule::ALLOW));
        let rule = Rule::choice(PROTOCOL, u32::MAX, protocols, NO_PROTOCOL);
        (*kind, rule)
    });
    Rule::choice(TYPE, TYPE_MASK, types, NO_PROTOCOL)
}
