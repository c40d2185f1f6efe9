//! How many questions a packet is.

use std::time::Duration;

use common::verdict::Reason;
use lab::patience::{self, scaled};

use super::{OWN, PORT, StandIn, ask};

/// One write, one packet at the hook, and as many questions as the receiver gets.
#[test]
fn a_write_that_is_cut_into_many_questions_is_counted_as_many() {
    const PIECES: usize = 64;
    let stand_in = StandIn::new();
    let (mut worker, mut bare) = (stand_in.fence.prober(), stand_in.fence.bare());
    // A hundred at once, and as many in a second.
    stand_in.pace(100 / patience::factor(), 100);
    for (family, direct, server) in [
        ("inet", "127.0.0.1", "8.8.8.8"),
        ("inet6", "[::1]", "[2001:4860:4860::8888]"),
        ("inet6", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]"),
    ] {
        let script = format!("socket {family} dgram; sendmsg {direct}:{PORT} 3200 segment=50");
        for _ in 0..3 {
            assert!(ask(&mut bare, &script).ok, "control: {script}");
            assert_eq!(stand_in.came().len(), PIECES, "control: {script}");
        }
        let dropped = || {
            let usage = stand_in.fence.attached.usage(OWN).expect("the table");
            usage.expect("an entry").questions_dropped
        };
        for way in ["", "connect {to}; send 5; "] {
            let before = dropped();
            let to = format!("{server}:53");
            let way = way.replace("{to}", &to);
            let script = format!(
                "socket {family} dgram; {way}sendmsg {to} 3200 segment=50; \
                 try sendmsg {to} 3200 segment=50; sendmsg {to} 1500 segment=50; \
                 try sendmsg {to} 3200 segment=50"
            );
            let answer = ask(&mut worker, &script);
            assert!(answer.ok && answer.refused == 2, "{script}: {answer:?}");
            let first = usize::from(!way.is_empty());
            assert_eq!(stand_in.came().len(), first + PIECES + 30, "{script}");
            assert_eq!(dropped() - before, 2 * PIECES as u64, "{script}");
            // Only time gives back what the session has taken.
            std::thread::sleep(scaled(Duration::from_secs(1)));
        }
    }
    assert!(stand_in.fence.awaits(Reason::QueryLimit));
}

/// A datagram that is longer than a packet is put together again before the resolver gets it.
#[test]
fn a_question_in_fragments_is_one_question_of_its_worker() {
    let stand_in = StandIn::new();
    let mut worker = stand_in.fence.prober();
    for script in [
        "socket inet6 dgram; opt ip6.mtu int 1280; connect [2001:4860:4860::8888]:53; send 9000",
        "socket inet6 dgram; opt ip6.mtu int 1280; sendto [2001:4860:4860::8888]:53 9000",
        "socket inet dgram; connect 8.8.8.8:53; send 65000",
    ] {
        let answer = ask(&mut worker, script);
        assert!(answer.ok, "{script}: {answer:?}");
        let came = stand_in.came();
        let [(from, bytes)] = came[..] else {
            panic!("{script}: {came:?}");
        };
        assert_eq!(bytes as u64, answer.sent, "{script}");
        assert_eq!(stand_in.asker(from), Some(OWN), "{script}");
    }
}
