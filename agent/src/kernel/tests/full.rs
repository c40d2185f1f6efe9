//! Tables that are full: the next flow is refused, with that reason, and what is there goes on.

use common::{
    event::Hook,
    flow::{Address, TCP, UDP},
    id::{CgroupId, SessionId},
    layout::{Client, ClientKey, GrantKey},
    limits::{CLIENTS_MAX, GRANTS_MAX, GRANTS_PER_SESSION_MAX},
    rule::GrantSet,
    verdict::{Outcome, Reason},
};

use super::{
    grants::{LONG, at, give, names, range},
    lab::{Fence, Lab, POLICY, runtime},
    resolver,
};
use crate::{
    clock::BootTime,
    kernel::{
        Error,
        grant::{GrantError, Scope},
    },
    sys::bpf_map::Write,
};

/// Entries of a table that is full, as [`crate::kernel::Kernel::map_fill`] says.
fn is_full(fence: &Fence, name: &str) -> bool {
    let tables = fence.kernel.map_fill().unwrap();
    let table = tables.iter().find(|table| table.name == name).unwrap();
    table.entries == table.capacity as usize
}

#[test]
fn no_room_for_one_more_client_of_the_resolver() {
    let (_lab, resolver, mut fence) = resolver::fence();
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut events = fence.kernel.events().unwrap();
    let (session, mut worker) = fence.worker();
    assert_eq!(worker.ask("udp-keep 8.8.8.8:53"), "ok");
    assert_eq!(worker.ask("udp-to 8.8.8.8:53"), "ok");
    assert_eq!(worker.ask("udp-receive"), "4 from 8.8.8.8:53");
    let known = resolver.next();

    let clients = &fence.kernel.inner.maps.clients;
    let stranger = |n: u32| ClientKey {
        address: Address::from_v4(n.to_be_bytes()),
        protocol: UDP,
        ..ClientKey::default()
    };
    let nobody = Client::default();
    for n in 1..CLIENTS_MAX {
        clients.write(&stranger(n), &nobody, Write::New).unwrap();
    }
    let more = clients.write(&stranger(CLIENTS_MAX), &nobody, Write::New);
    assert!(matches!(more, Err(Error::Full { .. })), "{more:?}");
    assert!(is_full(&fence, "clients"));

    assert_eq!(worker.ask("udp 8.8.8.8:53"), "EPERM");
    assert_eq!(worker.ask("udp [2001:4860:4860::8888]:53"), "EPERM");
    assert_eq!(fence.count(Reason::TableFull), 2);
    let told = events.try_next().unwrap();
    assert_eq!((told.session, told.hook), (session, Hook::Egress as u8));
    let of = (told.outcome, told.reason);
    assert_eq!(of, (Outcome::Deny as u8, Reason::TableFull as u8));
    // Who is known already goes on asking.
    assert_eq!(worker.ask("udp-to 8.8.8.8:53"), "ok");
    assert_eq!(worker.ask("udp-receive"), "4 from 8.8.8.8:53");
    assert_eq!(resolver.next(), known);

    // The strangers never sent anything: the agent's sweep makes room.
    let swept = fence.kernel.clients().sweep().unwrap();
    assert_eq!(swept, CLIENTS_MAX as usize - 1);
    assert_eq!(worker.ask("udp 8.8.8.8:53"), "ok");
}

#[test]
fn no_room_for_one_more_grant_of_all_sessions() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    lab.tcp("93.184.216.35:443");
    let mut fence = Fence::new(&names(&[(7, TCP, 443)]));
    let (session, mut worker) = fence.worker();
    let grants = fence.kernel.grants();
    let ranges = [range(7, TCP, 443, 0)];
    give(&grants, session, "93.184.216.34", &ranges);

    let end = BootTime::now() + LONG;
    let address = |n: u32| Address::from_v4((0x0800_0000 + n).to_be_bytes());
    let mut left = GRANTS_MAX - 1;
    let mut others = Vec::new();
    while left > 0 {
        let other = SessionId(1_000 + u64::from(left));
        // No process is in these cgroups; their sessions only hold grants.
        let cgroup = CgroupId(u64::MAX - other.0);
        let _admitted = fence.attached.admit(other, cgroup, POLICY).unwrap();
        let share = left.min(GRANTS_PER_SESSION_MAX);
        for n in 0..share {
            grants.give(other, address(n), &ranges, end).unwrap();
        }
        left -= share;
        others.push((other, cgroup));
    }
    assert_eq!(grants.count(), GRANTS_MAX as usize);
    assert!(is_full(&fence, "grants"));

    let refused = grants.give(session, at("93.184.216.35"), &ranges, end);
    let text = refused.as_ref().map_err(ToString::to_string);
    let expected = "grants: too many addresses in all sessions (at most 262144)";
    assert_eq!(text, Err(expected.to_owned()));
    let scope = Scope::Agent;
    assert!(matches!(refused, Err(GrantError::Full { scope: s }) if s == scope));
    assert_eq!(grants.refused(), 1);
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    assert_eq!(fence.count(Reason::NotAllowed), 1);
    // What is open stays so, and can be prolonged.
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    give(&grants, session, "93.184.216.34", &ranges);

    // A session that ends makes room.
    let (gone, cgroup) = others[0];
    fence.attached.closing(gone, cgroup).unwrap();
    while grants.count() == GRANTS_MAX as usize {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    give(&grants, session, "93.184.216.35", &ranges);
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "ok");
}

/// The kernel's table is full although the agent counts less: it says so, and is believed.
#[test]
fn no_room_for_one_more_grant_in_the_kernel() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&names(&[(7, TCP, 443)]));
    let (session, mut worker) = fence.worker();
    let table = &fence.kernel.inner.maps.grants;
    let stranger = |n: u32| GrantKey {
        session: SessionId(u64::MAX),
        address: Address::from_v4(n.to_be_bytes()),
    };
    let nothing = GrantSet::default();
    for n in 0..GRANTS_MAX {
        table.write(&stranger(n), &nothing, Write::New).unwrap();
    }
    let grants = fence.kernel.grants();
    let end = BootTime::now() + LONG;
    let ranges = [range(7, TCP, 443, 0)];
    let refused = grants.give(session, at("93.184.216.34"), &ranges, end);
    let scope = Scope::Agent;
    assert!(matches!(refused, Err(GrantError::Full { scope: s }) if s == scope));
    assert_eq!((grants.count(), grants.refused()), (0, 1));
    assert!(grants.of_session(session).is_empty());
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "EPERM");
    table.remove(&stranger(0)).unwrap();
    give(&grants, session, "93.184.216.34", &ranges);
    assert_eq!((grants.count(), grants.refused()), (1, 1));
}
