//! Policies that change under running sessions.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    decide::Mode,
    flow::{TCP, UDP},
    id::RuleId,
    verdict::Reason,
};

use super::{
    lab::{Fence, Lab, in_force, runtime, scaled},
    policies::{NO_LIMITS, Open, open, policy},
};
use crate::kernel::{Error, sync::sync_with};

const WAIT: Duration = Duration::from_secs(2);

fn rules(rules: &[Open]) -> Arc<crate::policy::compiled::CompiledPolicy> {
    policy(Mode::Enforce, NO_LIMITS, rules)
}

#[test]
fn a_flow_lives_on_under_its_rule_or_under_another() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let exact = open("93.184.216.34/32", TCP, 443, 7);
    let wide = open("93.184.216.0/24", TCP, 443, 8);
    let mut fence = Fence::new(&rules(&[exact]));
    let (_, mut worker) = fence.worker();
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    for next in [
        vec![exact, open("1.1.1.0/24", TCP, 443, 9)],
        vec![wide],
        vec![exact],
    ] {
        fence.push(&rules(&next));
        assert_eq!(fence.synced.changed().count(), 1);
        assert_eq!(worker.ask("stream-echo"), "ok");
    }
    fence.push(&rules(&[exact]));
    assert_eq!(
        fence.synced.changed().count(),
        0,
        "equal rules are no change"
    );
}

#[test]
fn a_refused_flow_is_destroyed_by_its_next_packet() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let mut fence = Fence::new(&rules(&[open("93.184.216.34/32", TCP, 443, 7)]));
    let (session, mut worker) = fence.worker();
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut destroyer = fence.kernel.destroyer().unwrap();
    assert_eq!(worker.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("stream-echo"), "ok");
    fence.push(&rules(&[]));
    worker.say("stream-echo");
    let order = runtime
        .block_on(async { tokio::time::timeout(WAIT, destroyer.next()).await })
        .unwrap()
        .unwrap();
    assert_eq!(order.session, session);
    assert_eq!(order.remote_port, 443);
    assert_eq!(destroyer.carry_out(&order).unwrap().sockets, 1);
    assert_eq!(worker.answer(), "ECONNABORTED");
    assert_eq!(destroyer.carry_out(&order).unwrap().gone, 1);
    // The packet, and the reset that the kernel would send for the destroyed socket.
    assert_eq!(fence.count(Reason::NotAllowed), 2);
}

#[test]
fn a_sweep_finds_idle_flows_and_spares_unconnected_sockets() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    lab.tcp("93.184.216.35:443");
    let kept = open("93.184.216.35/32", TCP, 443, 8);
    let dropped = open("93.184.216.34/32", TCP, 443, 7);
    let udp = open("93.184.216.34/32", UDP, 4000, 9);
    let mut fence = Fence::new(&rules(&[dropped, kept, udp]));
    let (_, mut refused) = fence.worker();
    let (_, mut spared) = fence.worker();
    let (_, mut connected) = fence.worker();
    assert_eq!(refused.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_eq!(spared.ask("tcp-keep 93.184.216.35:443"), "ok");
    assert_eq!(spared.ask("udp-keep 93.184.216.34:4000"), "ok");
    assert_eq!(spared.ask("udp-to 93.184.216.34:4000"), "ok");
    assert_eq!(connected.ask("udp-keep 93.184.216.34:4000"), "ok");
    assert_eq!(connected.ask("udp-connect 93.184.216.34:4000"), "ok");
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut destroyer = fence.kernel.destroyer().unwrap();
    assert_eq!(destroyer.sweep().unwrap().sockets, 0);
    fence.push(&rules(&[kept]));
    assert_eq!(destroyer.sweep().unwrap().sockets, 2);
    assert_eq!(refused.ask("stream-echo"), "ECONNABORTED");
    assert_eq!(connected.ask("udp-send"), "EDESTADDRREQ");
    assert_eq!(spared.ask("stream-echo"), "ok");
    assert_eq!(spared.ask("udp-to 93.184.216.34:4000"), "EPERM");
    fence.push(&rules(&[kept, udp]));
    assert_eq!(spared.ask("udp-to 93.184.216.34:4000"), "ok");
}

#[test]
fn a_hundred_swaps_cut_nothing_and_open_nothing() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let forbidden = lab.udp("93.184.216.35:4000");
    forbidden
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let both = open("93.184.216.34/32", TCP, 443, 7);
    let (even, odd) = (
        rules(&[both, open("93.184.216.35/32", UDP, 4001, 1)]),
        rules(&[both, open("93.184.216.35/32", UDP, 4002, 2)]),
    );
    let mut fence = Fence::new(&even);
    let (_, mut stream) = fence.worker();
    let (_, mut datagrams) = fence.worker();
    assert_eq!(stream.ask("tcp-keep 93.184.216.34:443"), "ok");
    assert_eq!(datagrams.ask("udp-keep 93.184.216.35:4000"), "ok");
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut destroyer = fence.kernel.destroyer().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (stream_over, datagrams_over) = (Arc::clone(&over), Arc::clone(&over));
    let echoes = std::thread::spawn(move || {
        let mut echoes = 0;
        while !stream_over.load(Ordering::Relaxed) {
            assert_eq!(stream.ask("stream-echo"), "ok");
            echoes += 1;
        }
        echoes
    });
    let refusals = std::thread::spawn(move || {
        let mut refusals = 0;
        while !datagrams_over.load(Ordering::Relaxed) {
            assert_eq!(datagrams.ask("udp-to 93.184.216.35:4000"), "EPERM");
            refusals += 1;
        }
        refusals
    });
    for swap in 0..100 {
        fence.push(if swap % 2 == 0 { &odd } else { &even });
        assert_eq!(destroyer.sweep().unwrap().sockets, 0);
    }
    over.store(true, Ordering::Relaxed);
    assert!(echoes.join().unwrap() > 100);
    assert!(refusals.join().unwrap() > 100);
    assert!(
        forbidden.recv_from(&mut [0; 16]).is_err(),
        "nothing came here"
    );
}

#[test]
fn ten_thousand_rules_are_published_and_flipped() {
    let _lab = Lab::new();
    let fence = Fence::new(&rules(&[]));
    // No two of them cover each other: the tests' own compiler is no match for that many.
    let many: Vec<Open> = (0..10_000_u32)
        .map(|n| {
            let [_, _, c, d] = n.to_be_bytes();
            let length = if n % 2 == 0 { 32 } else { 31 };
            open(
                &format!("8.{}.{c}.{}/{length}", n % 2, d & !1),
                TCP,
                443,
                u64::from(n) + 1,
            )
        })
        .collect();
    let many = rules(&many);
    let synced = fence.kernel.sync(&in_force(&many)).unwrap();
    println!(
        "{} entries: publish {:?}, flip {:?}",
        many.egress.table.len(),
        synced.publish_duration(),
        synced.flip_duration()
    );
    assert!(synced.publish_duration() < scaled(Duration::from_secs(1)));
    assert!(synced.flip_duration() < scaled(Duration::from_millis(1)));
}

#[test]
fn a_push_that_fails_leaves_the_old_one_in_force() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    let mut fence = Fence::new(&rules(&[open("93.184.216.34/32", TCP, 443, 7)]));
    let (_, mut worker) = fence.worker();
    let before = fence.synced.generation(super::lab::POLICY);
    // The same address twice: the second write finds the element there.
    let mut broken = (*rules(&[open("93.184.216.35/32", TCP, 443, 8)])).clone();
    broken.egress.table.push(broken.egress.table[0].clone());
    let broken = Arc::new(broken);
    assert!(matches!(
        fence.kernel.sync(&in_force(&broken)),
        Err(Error::Map { .. })
    ));
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    assert_eq!(fence.inner_sizes(), (1, 0, 1), "nothing half-written stays");
    fence.push(&rules(&[open("93.184.216.34/32", TCP, 443, 7)]));
    assert_eq!(fence.synced.generation(super::lab::POLICY), before);
}

/// What removes the old rules is there before the new ones are in force: a push that is refused opens nothing.
#[test]
fn a_push_that_could_not_be_cleaned_up_after_leaves_the_old_one_in_force() {
    let lab = Lab::new();
    lab.tcp("93.184.216.34:443");
    lab.tcp("93.184.216.35:443");
    let kept = open("93.184.216.34/32", TCP, 443, 7);
    let mut fence = Fence::new(&rules(&[kept]));
    let (_, mut worker) = fence.worker();
    let before = fence.synced.generation(super::lab::POLICY);
    let looser = rules(&[kept, open("93.184.216.35/32", TCP, 443, 8)]);
    let refused = sync_with(
        &fence.kernel.inner,
        &in_force(&looser),
        |_inner, _retired| {
            Err(Error::Thread {
                name: "kernel-clean",
                source: io::Error::from_raw_os_error(libc::EAGAIN),
            })
        },
    );
    assert!(matches!(refused, Err(Error::Thread { .. })));
    assert_eq!(worker.ask("tcp 93.184.216.34:443"), "ok");
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "EPERM");
    assert_eq!(fence.inner_sizes(), (1, 0, 1), "nothing half-written stays");
    fence.push(&rules(&[kept]));
    assert_eq!(fence.synced.generation(super::lab::POLICY), before);
    // The control: with a thread it is in force.
    fence.push(&looser);
    assert_eq!(worker.ask("tcp 93.184.216.35:443"), "ok");
}

#[test]
fn the_table_is_emptied_of_old_generations() {
    let _lab = Lab::new();
    let mut fence = Fence::new(&rules(&[open("93.184.216.34/32", TCP, 443, 7)]));
    for rule in 10..20 {
        fence.push(&rules(&[open("93.184.216.0/24", TCP, 443, rule)]));
    }
    let begin = std::time::Instant::now();
    while fence.inner_sizes() != (0, 1, 1) {
        assert!(begin.elapsed() < scaled(WAIT), "{:?}", fence.inner_sizes());
        std::thread::sleep(Duration::from_millis(10));
    }
    let ids: BTreeSet<RuleId> = BTreeSet::from([RuleId(19)]);
    assert_eq!(fence.live_rules(), ids);
}
