//! What an earlier agent's resolver has opened, and what is left of it under a new one.

use std::net::SocketAddr;

use common::{
    flow::TCP,
    id::SessionId,
    layout::GrantKey,
    verdict::{Outcome, Reason},
};

use super::{
    grants::{LONG, ORDER_WAIT, at, give, names, range},
    lab::{Fence, Lab, POLICY, in_force, runtime, scaled},
    policies::LIMITS,
    worker::Worker,
};
use crate::kernel::Kernel;

const SERVER: &str = "93.184.216.34";
const DIAL: &str = "tcp 93.184.216.34:443";
const DIAL_AND_KEEP: &str = "tcp-keep 93.184.216.34:443";

/// Without an agent grants stand until they end; a new agent forgets the sessions, and with them all
/// that was opened to them: none of its sessions inherits anything, not even one of the same number.
#[test]
fn a_new_agent_keeps_no_grant_of_an_earlier_one() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let rules = names(&[(7, TCP, 443)]);
    let mut fence = Fence::new(&rules);
    let (session, mut worker) = fence.worker();
    let (_, mut ungranted) = fence.worker();
    let ranges = [range(7, TCP, 443, 0)];
    give(&fence.kernel.grants(), session, SERVER, &ranges);
    assert_eq!(worker.ask(DIAL_AND_KEEP), "ok");
    let kept: SocketAddr = worker.ask("stream-local").parse().unwrap();

    let fence = fence.without_agent();
    assert_eq!(worker.ask(DIAL), "ok", "it stands without an agent");
    assert_eq!(ungranted.ask(DIAL), "EPERM", "the fence too");
    let kernel = Kernel::open(&fence.instance, &fence.parent).unwrap();
    assert_eq!(
        worker.ask(DIAL),
        "ok",
        "until the new one's policies are in"
    );
    let key = GrantKey {
        session,
        address: at(SERVER),
    };
    assert!(kernel.grants().at(session, at(SERVER)).unwrap().is_some());

    // The same policy in the same slot: the rule lives on, the grant does not.
    let synced = kernel.sync(&in_force(&rules)).unwrap();
    let attached = kernel.attach(&fence.parent, &synced).unwrap();
    let maps = &kernel.inner.maps;
    assert_eq!(maps.grants.read(&key).unwrap(), None);
    assert_eq!(maps.grants.keys().unwrap(), []);
    assert_eq!(maps.clients.keys().unwrap(), []);
    assert_eq!(maps.usage.keys().unwrap(), [SessionId(0)]);
    assert_eq!(kernel.grants().count(), 0);

    // What the old session's sockets do is refused, a verified connection included.
    assert_eq!(worker.ask(DIAL), "EPERM");
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut events = kernel.events().unwrap();
    while events.try_next().is_some() {}
    let mut destroyer = kernel.destroyer().unwrap();
    worker.say("stream-echo");
    // The dials before may still be closing: an order for one of them may come first.
    let order = async {
        loop {
            let order = destroyer.next().await.unwrap();
            if order.local_port == kept.port() {
                return order;
            }
        }
    };
    let order = async { tokio::time::timeout(scaled(ORDER_WAIT), order).await };
    let order = runtime.block_on(order).unwrap();
    assert_eq!(destroyer.carry_out(&order).unwrap().sockets, 1);
    assert_eq!(worker.answer(), "ECONNABORTED");
    let told = events.try_next().unwrap();
    let of = (told.outcome, told.reason);
    assert_eq!(of, (Outcome::Deny as u8, Reason::UnknownWorker as u8));

    // A new session of the old number has nothing until it is given something.
    let cgroup = fence.parent.session(SessionId(50), &LIMITS).unwrap();
    let _admitted = attached.admit(session, cgroup.id(), POLICY).unwrap();
    let mut fresh = Worker::start(cgroup.path());
    assert_eq!(fresh.ask(DIAL), "EPERM");
    give(&kernel.grants(), session, SERVER, &ranges);
    assert_eq!(fresh.ask(DIAL), "ok");
    drop(fresh);
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
}

/// An agent that can not put its policies in force leaves everything as it is: grants go with the
/// policies, not before.
#[test]
fn an_agent_that_fails_before_its_policies_closes_nothing_and_opens_nothing() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let mut fence = Fence::new(&names(&[(7, TCP, 443)]));
    let (session, mut worker) = fence.worker();
    let (_, mut ungranted) = fence.worker();
    let ranges = [range(7, TCP, 443, 0)];
    give(&fence.kernel.grants(), session, SERVER, &ranges);
    let fence = fence.without_agent();
    let kernel = Kernel::open(&fence.instance, &fence.parent).unwrap();
    let refused = kernel.grants().give(
        session,
        at("93.184.216.35"),
        &ranges,
        crate::clock::BootTime::now() + LONG,
    );
    assert!(refused.is_err(), "it knows no session of its own yet");
    drop(kernel);
    assert_eq!(worker.ask(DIAL), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    assert_eq!(ungranted.ask(DIAL), "EPERM");
}
