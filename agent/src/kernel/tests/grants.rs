//! What the resolver opens: addresses, for a time, for one session, while the rule lives.

use std::{net::IpAddr, sync::Arc, thread, time::Duration};

use common::{
    decide::Mode,
    flow::{Address, TCP, UDP},
    id::{RuleId, SessionId},
    limits::{GRANTS_PER_ADDRESS_MAX, GRANTS_PER_SESSION_MAX},
    rule::{PortRange, TLS},
};

use super::{
    lab::{Fence, Lab, runtime},
    policies::{NO_LIMITS, policy, with_names},
};
use crate::{
    clock::BootTime,
    kernel::grant::{GrantError, Grants, Scope},
    policy::compiled::CompiledPolicy,
};

/// Longer than any test: an emulated processor takes minutes to fill a table.
pub(super) const LONG: Duration = Duration::from_hours(1);
/// How long the order to destroy a socket may take, on an ordinary machine.
pub(super) const ORDER_WAIT: Duration = Duration::from_mins(1);

pub(super) fn names(rules: &[(u64, u16, u16)]) -> Arc<CompiledPolicy> {
    with_names(&policy(Mode::Enforce, NO_LIMITS, &[]), rules)
}

pub(super) fn range(rule: u64, protocol: u16, port: u16, flags: u8) -> PortRange {
    PortRange {
        rule: RuleId(rule),
        low: port,
        high: port,
        protocol: u8::try_from(protocol).unwrap(),
        flags,
        pad: 0,
    }
}

pub(super) fn at(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().unwrap())
}

pub(super) fn give(grants: &Grants, session: SessionId, address: &str, ranges: &[PortRange]) {
    grants
        .give(session, at(address), ranges, BootTime::now() + LONG)
        .unwrap();
}

#[test]
fn a_grant_opens_its_address_port_and_protocol_to_its_session_only() {
    let lab = Lab::new();
    for server in ["93.184.216.34:443", "93.184.216.34:80", "93.184.216.35:443"] {
        lab.tcp(server);
    }
    lab.tcp("[2606:2800:220:1::34]:443");
    let mut fence = Fence::new(&names(&[(7, TCP, 443)]));
    let (session, mut worker) = fence.worker();
    let (_, mut other) = fence.worker();
    let grants = fence.kernel.grants();
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM");
    let ranges = [range(7, TCP, 443, 0)];
    give(&grants, session, "93.184.216.34", &ranges);
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("stream-echo"), "ok");
    assert_eq!(worker.ask("tcp [::ffff:93.184.216.34]:443"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.34:80"), "EPERM");
    assert_eq!(worker.ask("udp 93.184.216.34:443"), "EPERM");
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    assert_eq!(other.ask("tcp 93.184.216.34:443"), "EPERM");
    assert_eq!(worker.ask("tcp [2606:2800:220:1::34]:443"), "EPERM");
    give(&grants, session, "2606:2800:220:1::34", &ranges);
    assert_eq!(worker.ask("tcp [2606:2800:220:1::34]:443"), "ok");
    // No grant opens what is special.
    give(&grants, session, "10.1.1.1", &ranges);
    assert_eq!(worker.ask("tcp 10.1.1.1:443"), "EPERM");
    assert_eq!(grants.count(), 3);
    assert_eq!(grants.of_session(session).len(), 3);
}

#[test]
fn a_connection_outlives_its_grant_and_dies_with_its_rule() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let mut fence = Fence::new(&names(&[(7, TCP, 443)]));
    let (session, mut worker) = fence.worker();
    let grants = fence.kernel.grants();
    let soon = BootTime::now() + Duration::from_secs(1);
    let ranges = [range(7, TCP, 443, 0)];
    grants
        .give(session, at("93.184.216.34"), &ranges, soon)
        .unwrap();
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM", "it has ended");
    assert_eq!(grants.sweep(BootTime::now()), 1);
    assert_eq!(grants.count(), 0);
    assert_eq!(worker.ask("stream-echo"), "ok");

    let runtime = runtime();
    let _entered = runtime.enter();
    let mut destroyer = fence.kernel.destroyer().unwrap();
    for other in 8..11 {
        fence.push(&names(&[(7, TCP, 443), (other, TCP, 80)]));
        assert_eq!(fence.synced.changed().count(), 1);
        assert_eq!(destroyer.sweep().unwrap().sockets, 0);
        assert_eq!(worker.ask("stream-echo"), "ok");
    }
    give(&grants, session, "93.184.216.34", &ranges);
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    fence.push(&names(&[(8, TCP, 443)]));
    assert_eq!(
        worker.ask("tcp 93.184.216.34:443"),
        "EPERM",
        "its rule is gone"
    );
    // The connection that was closed above may not have gone yet: it is destroyed as well.
    assert!(destroyer.sweep().unwrap().sockets >= 1);
    assert_eq!(worker.ask("stream-echo"), "ECONNABORTED");
}

#[test]
fn a_dropped_name_ends_its_flow_by_the_next_packet() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let mut fence = Fence::new(&names(&[(7, TCP, 443)]));
    let (session, mut worker) = fence.worker();
    give(
        &fence.kernel.grants(),
        session,
        "93.184.216.34",
        &[range(7, TCP, 443, 0)],
    );
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut destroyer = fence.kernel.destroyer().unwrap();
    fence.push(&names(&[]));
    worker.say("stream-echo");
    let order = runtime
        .block_on(async { tokio::time::timeout(ORDER_WAIT, destroyer.next()).await })
        .unwrap()
        .unwrap();
    assert_eq!(destroyer.carry_out(&order).unwrap().sockets, 1);
    assert_eq!(worker.answer(), "ECONNABORTED");
}

#[test]
fn rules_are_a_union_and_one_without_a_name_comes_first() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let mut fence = Fence::new(&names(&[(7, TCP, 443), (8, TCP, 443), (9, UDP, 443)]));
    let (session, mut worker) = fence.worker();
    let grants = fence.kernel.grants();
    let named = range(7, TCP, 443, TLS);
    give(&grants, session, "93.184.216.34", &[named]);
    // The connection opens, but what is no handshake does not pass.
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_ne!(worker.ask("stream-echo"), "ok");
    give(&grants, session, "93.184.216.34", &[range(8, TCP, 443, 0)]);
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("stream-echo"), "ok");
    // The one without a name is gone: the other is left.
    fence.push(&names(&[(7, TCP, 443)]));
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_ne!(worker.ask("stream-echo"), "ok");
}

#[test]
fn a_full_address_takes_what_replaces_the_dead() {
    let _lab = Lab::new();
    let living: Vec<_> = (1..=8).map(|rule| (rule, TCP, 443)).collect();
    let mut fence = Fence::new(&names(&living));
    let (session, _worker) = fence.worker();
    let grants = fence.kernel.grants();
    let ranges: Vec<PortRange> = (1..=8).map(|rule| range(rule, TCP, 443, 0)).collect();
    assert_eq!(ranges.len(), GRANTS_PER_ADDRESS_MAX);
    give(&grants, session, "1.1.1.1", &ranges);
    let more = |rule| {
        let ranges = [range(rule, TCP, 443, 0)];
        grants.give(session, at("1.1.1.1"), &ranges, BootTime::now() + LONG)
    };
    more(3).unwrap();
    let scope = |given| match given {
        Err(GrantError::Full { scope }) => Some(scope),
        _ => None,
    };
    assert_eq!(scope(more(9)), Some(Scope::Address));
    assert_eq!(grants.refused(), 1);
    // A rule that is gone makes room, and so does a grant that has ended.
    let next: Vec<_> = (2..=9).map(|rule| (rule, TCP, 443)).collect();
    fence.push(&names(&next));
    more(9).unwrap();
    assert_eq!(scope(more(10)), Some(Scope::Address));
    let soon = BootTime::now() + Duration::from_millis(50);
    grants.give(session, at("2.2.2.2"), &ranges, soon).unwrap();
    thread::sleep(Duration::from_millis(60));
    give(&grants, session, "2.2.2.2", &[range(10, TCP, 443, 0)]);
    let held = grants.of_session(session);
    assert_eq!(
        held.iter().map(|(_, set)| set.count).collect::<Vec<_>>(),
        [8, 1]
    );
}

#[test]
fn a_session_is_bounded_and_ends_with_its_grants() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&names(&[(7, TCP, 443)]));
    let (session, worker) = fence.worker();
    let grants = fence.kernel.grants();
    let ranges = [range(7, TCP, 443, 0)];
    let address = |n: u32| Address::from_v4((0x0800_0000 + n).to_be_bytes());
    let end = BootTime::now() + LONG;
    for n in 0..GRANTS_PER_SESSION_MAX {
        grants.give(session, address(n), &ranges, end).unwrap();
    }
    let full = grants.give(session, address(GRANTS_PER_SESSION_MAX), &ranges, end);
    assert!(matches!(
        full,
        Err(GrantError::Full {
            scope: Scope::Session
        })
    ));
    grants.give(session, address(0), &ranges, end).unwrap();
    fence.push(&names(&[(8, TCP, 443)]));
    let ranges = [range(8, TCP, 443, 0)];
    grants
        .give(session, address(GRANTS_PER_SESSION_MAX), &ranges, end)
        .unwrap();
    assert_eq!(grants.count(), 1, "addresses of a dropped rule made room");
    let tables = fence.kernel.map_fill().unwrap();
    assert!(tables.iter().any(|f| f.name == "grants" && f.entries == 1));

    let id = fence.cgroup(session).id();
    drop(worker);
    fence.attached.closing(session, id).unwrap();
    while grants.count() > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(fence.kernel.inner.maps.grants.keys().unwrap().is_empty());
    let late = grants.give(session, address(1), &ranges, end);
    assert!(matches!(late, Err(GrantError::NoSession(_))));
}
