//! What a packet may carry beside a question, and by which device it may go.

use common::verdict::Reason;

use super::{PORT, StandIn, ask};

/// A record route (RFC 791, 3.1) without room: an option that changes nothing on the way.
pub(super) const RECORD: &str = "0703040000000000";
/// Padding, the only thing in an extension header.
const PADDING: &str = "0000010400000000";

/// What a header may carry: how a socket is made to send it, and whether that is the only thing a
/// script does once it has asked.
const ODD: [(&str, &str, &str, bool); 7] = [
    ("inet", "V4", "opt ip.options hex {record}; send 5", true),
    ("inet", "V4", "sendmsg {to} 5 options={record}", true),
    ("inet6", "V6", "opt ip6.hopopts hex {padding}; send 5", true),
    ("inet6", "V6", "opt ip6.dstopts hex {padding}; send 5", true),
    ("inet6", "V6", "sendmsg {to} 5 hopopts={padding}", true),
    ("inet6", "V6", "sendmsg {to} 5 dstopts={padding}", true),
    // A host takes none of these; it sends them. By control message none leads to loopback.
    ("inet6", "V6", "opt ip6.rthdr rthdr ::1; send 5", false),
];

fn filled(script: &str) -> String {
    script
        .replace("{record}", RECORD)
        .replace("{padding}", PADDING)
}

#[test]
fn a_socket_that_has_asked_sends_no_options_and_no_extension_headers() {
    let stand_in = StandIn::new();
    let (mut worker, mut bare) = (stand_in.fence.prober(), stand_in.fence.bare());
    for (family, version, attempt, arrives) in ODD {
        let (server, direct) = match version {
            "V4" => ("8.8.8.8:53", format!("127.0.0.1:{PORT}")),
            _ => ("[2001:4860:4860::8888]:53", format!("[::1]:{PORT}")),
        };
        let attempt = |to: &str| filled(attempt).replace("{to}", to);
        // A route by way of a stop is chosen when the socket is connected.
        let control = format!(
            "socket {family} dgram; connect {direct}; {}",
            attempt(&direct)
        );
        let answer = ask(&mut bare, &control);
        assert!(answer.ok, "control: {control}: {answer:?}");
        assert_eq!(!stand_in.came().is_empty(), arrives, "control: {control}");

        let before = stand_in.counted(Reason::SourceRouted);
        let script = format!(
            "socket {family} dgram; connect {server}; send 5; {}",
            attempt(server)
        );
        let answer = ask(&mut worker, &script);
        assert_eq!(answer.errno(), "EPERM", "{script}: {answer:?}");
        assert_eq!(answer.sent, 5, "{script}: {answer:?}");
        assert_eq!(stand_in.came().len(), 1, "{script}");
        assert!(stand_in.counted(Reason::SourceRouted) > before, "{script}");
    }
    // A socket of the other family that speaks IPv4.
    let script = format!(
        "socket inet6 dgram; connect [::ffff:8.8.8.8]:53; send 5; opt ip.options hex {RECORD}; send 5"
    );
    let answer = ask(&mut worker, &script);
    assert_eq!(answer.errno(), "EPERM", "{answer:?}");
    assert_eq!(stand_in.came().len(), 1);
}

#[test]
fn a_socket_bound_to_a_device_does_not_take_a_question_past_the_resolver() {
    let stand_in = StandIn::new();
    let (mut worker, mut bare) = (stand_in.fence.prober(), stand_in.fence.bare());
    let seen = || {
        let lab = &stand_in.fence.lab;
        let seen = lab.count(|packet| packet.port == 53 || packet.port == PORT);
        seen.expect("the recorder")
    };
    for way in [
        "opt so.bindtodevice str h0; sendto 8.8.4.4:53 5",
        "sendmsg 8.8.4.4:53 5 device=2",
        "connect 8.8.4.4:53; send 5; opt so.bindtodevice str h0; send 5",
        "connect 8.8.4.4:53; send 5; opt so.bindtodevice str h0; connect 8.8.4.4:53; send 5",
        "connect 8.8.4.4:53; send 5; sendmsg - 5 device=2",
    ] {
        let script = format!("socket inet dgram; {way}");
        let before = seen();
        assert!(ask(&mut bare, &script).ok, "control: {script}");
        assert!(seen() > before, "control: {script}");
        stand_in.came();
        let before = seen();
        let answer = ask(&mut worker, &script);
        assert!(!answer.ok, "{script}: {answer:?}");
        assert_eq!(seen(), before, "{script}: {answer:?}");
        let first = usize::from(way.starts_with("connect"));
        assert_eq!(stand_in.came().len(), first, "{script}");
    }
}
