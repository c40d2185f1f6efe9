//! Two sockets that both say so may have one port (`SO_REUSEADDR`), and the newest or the one that is
//! connected is given what comes. The kernel chooses among few ports here, so that its choice falls on
//! the one that is shared.

use std::{fs, net::SocketAddr};

use common::verdict::Reason;
use lab::prober::Prober;

use super::{OWN, PORT, StandIn, ask, port};

/// More than it takes to be given each of four ports.
const TRIES: usize = 1_000;
const SAYS_SO: &str = "opt so.reuseaddr int 1";
/// Too long to be sent: the kernel has chosen a port by then, and no hook was asked.
const CHOSEN_UNSEEN: &str = "try sendto 8.8.8.8:53 70000";

fn few_ports(stand_in: &StandIn) {
    let few = stand_in.fence.lab.host().enter(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").expect("a range");
    });
    few.expect("the namespace");
}

/// Makes sockets by a script until the kernel gives one this port. It is kept as `s`.
fn gets(prober: &mut Prober, script: &str, wanted: u16) -> bool {
    (0..TRIES).any(|_| port(prober, script) == wanted)
}

fn forget(one: &mut Prober, two: &mut Prober) {
    for prober in [one, two] {
        assert!(ask(prober, "drop s").ok);
    }
}

#[test]
fn no_socket_shares_its_port_with_another_worker() {
    let stand_in = StandIn::new();
    let (mut liar, (_, mut honest)) = (stand_in.fence.prober(), stand_in.fence.neighbour());
    let (mut bare, mut other) = (stand_in.fence.bare(), stand_in.fence.bare());
    few_ports(&stand_in);
    for option in ["reuseaddr", "reuseport"] {
        let opt = format!("opt so.{option} int 1");
        let bound = format!("socket inet dgram; {opt}; bind 0.0.0.0:0; name; keep s");
        let connected = format!("socket inet dgram; {opt}; connect {{to}}; name; keep s");
        let direct = connected.replace("{to}", &format!("127.0.0.1:{PORT}"));
        for script in [&bound, &direct] {
            let own = port(&mut bare, script);
            assert!(gets(&mut other, script, own), "control: {script}");
            forget(&mut bare, &mut other);
        }
        // It is the same whether the one who has it first or the one who comes later is hostile.
        let server = connected.replace("{to}", "8.8.8.8:53");
        let allowed = connected.replace("{to}", "93.184.216.34:443");
        let unseen = format!("socket inet dgram; {opt}; {CHOSEN_UNSEEN}; name; keep s");
        for taken in [&bound, &server, &allowed] {
            for shared in [&bound, &server, &allowed, &unseen] {
                let own = port(&mut honest, taken);
                assert!(!gets(&mut liar, shared, own), "{taken}: {shared}");
                forget(&mut honest, &mut liar);
            }
        }
    }
}

/// The resolver's answers, where a port is shared all the same.
#[test]
fn an_answer_is_heard_by_none_but_the_worker_that_asked() {
    let stand_in = StandIn::new();
    let (mut liar, (victim, mut honest)) = (stand_in.fence.prober(), stand_in.fence.neighbour());
    let (mut bare, mut other) = (stand_in.fence.bare(), stand_in.fence.bare());
    few_ports(&stand_in);
    let share = format!("socket inet dgram; {SAYS_SO}; {CHOSEN_UNSEEN}; name; keep s");
    for (one, two, server, is_control) in [
        (&mut bare, &mut other, format!("127.0.0.1:{PORT}"), true),
        (&mut honest, &mut liar, "8.8.8.8:53".to_owned(), false),
    ] {
        let own = port(one, &share);
        let from: SocketAddr = format!("127.0.0.1:{own}").parse().expect("an address");
        // It has asked, so its next question takes the quick way.
        let first = ask(one, &format!("use s; sendto {server} 5; recv; {SAYS_SO}"));
        assert!(first.ok, "{first:?}");
        assert!(gets(two, &share, own), "the port is not shared");
        // The other is sent to the resolver and asks nothing.
        assert!(ask(two, &format!("use s; connect {server}")).ok);
        stand_in.came();
        let refused = stand_in.counted(Reason::Inbound);
        assert!(ask(one, &format!("use s; sendto {server} 7")).ok);
        assert_eq!(stand_in.came(), [(from, 7)]);
        let heard = ask(two, "use s; recv");
        assert_eq!(heard.ok, is_control, "{heard:?}");
        let refused = stand_in.counted(Reason::Inbound) - refused;
        assert_eq!(refused, u64::from(!is_control));
        if !is_control {
            assert_eq!(stand_in.asker(from), Some(victim));
            // What the other asks is its own, and from then on the first may not ask.
            let answer = ask(two, "use s; send 6; recv");
            assert!(answer.ok && answer.received == 6, "{answer:?}");
            assert_eq!(stand_in.came(), [(from, 6)]);
            assert_eq!(stand_in.asker(from), Some(OWN));
            let forged = stand_in.counted(Reason::SourceForged);
            let answer = ask(one, &format!("use s; sendto {server} 7"));
            assert_eq!(answer.errno(), "EPERM", "{answer:?}");
            assert_eq!(stand_in.counted(Reason::SourceForged), forged + 1);
            assert!(stand_in.came().is_empty());
        }
        forget(one, two);
    }
}
