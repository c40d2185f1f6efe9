//! Policies replaced under load: no packet that neither the old nor the new one allows, no cut of
//! what both allow, a prompt end of what the new one refuses.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lab::{
    patience::scaled,
    prober::{Answer, Prober},
};

use crate::{
    counts,
    hooks::fence::{HookFence, compiled},
};

const HEAD: &str = r#"
version = 1
tool = "swapped"
[worker]
command = ["/bin/true"]
protocol = "exec"
[filesystem]
execute = ["/bin"]
[[egress.allow]]
cidr = "185.199.108.10/32"
ports = [8443]
"#;
const ONLY_FIRST: &str = r#"
[[egress.allow]]
cidr = "93.184.216.34/32"
protocol = "udp"
ports = [9000]
[[egress.allow]]
cidr = "93.184.216.34/32"
ports = [443]
"#;
const ONLY_SECOND: &str = r#"
[[egress.allow]]
cidr = "151.101.1.1/32"
protocol = "udp"
ports = [9000]
[[egress.allow]]
cidr = "2a04:4e42::1/128"
ports = [443]
"#;

fn first() -> String {
    format!("{HEAD}{ONLY_FIRST}")
}

fn second() -> String {
    format!("{HEAD}{ONLY_SECOND}")
}

fn ask(prober: &mut Prober, script: &str) -> Answer {
    prober.ask(script).expect("the prober answers")
}

fn packets(fence: &HookFence, address: &str) -> u64 {
    let address = address.parse().expect("an address");
    fence.lab.arrived_at(address).expect("the recorder answers")
}

#[test]
fn a_hundred_swaps_under_load() {
    let fence = HookFence::new(&first());
    let (first, second) = (
        compiled(&first(), Path::new("/")),
        compiled(&second(), Path::new("/")),
    );
    let mut steady = fence.prober();
    let opened = ask(
        &mut steady,
        "socket inet stream; connect 185.199.108.10:8443; send 5; recv; keep c",
    );
    assert!(opened.ok, "{opened:?}");
    let swaps = counts::swaps();
    let ms = 30 * u64::from(swaps);
    let mut load: Vec<Prober> = [
        format!("socket inet dgram; pump 93.184.216.34:9000 {ms} 100"),
        format!("socket inet dgram; pump 151.101.1.1:9000 {ms} 100"),
        format!("socket inet dgram; pump 1.2.3.4:9000 {ms} 100"),
        format!("churn 1.2.3.4:443 {ms}"),
        format!("churn [2a00:1450::8]:443 {ms}"),
    ]
    .iter()
    .map(|script| {
        let mut prober = fence.prober();
        prober.say(script).expect("the prober listens");
        prober
    })
    .collect();
    for swap in 0..swaps {
        fence.swap(if swap % 2 == 0 { &second } else { &first });
        let alive = ask(&mut steady, "use c; send 5; recv");
        assert!(alive.ok, "cut by swap {swap}: {alive:?}");
        std::thread::sleep(Duration::from_millis(15));
    }
    for prober in &mut load {
        let answer = prober.hear().expect("the prober answers");
        assert!(answer.calls > 100, "no load: {answer:?}");
    }
    assert_eq!(packets(&fence, "1.2.3.4"), 0, "allowed by neither policy");
    assert_eq!(
        packets(&fence, "2a00:1450::8"),
        0,
        "allowed by neither policy"
    );
    assert!(
        packets(&fence, "93.184.216.34") > 0,
        "no load reached the first"
    );
    assert!(
        packets(&fence, "151.101.1.1") > 0,
        "no load reached the second"
    );
}

#[test]
fn after_a_swap_not_one_packet_of_what_it_dropped() {
    let fence = HookFence::new(&first());
    let (first, second) = (
        compiled(&first(), Path::new("/")),
        compiled(&second(), Path::new("/")),
    );
    let mut prober = fence.prober();
    for _ in 0..20 {
        fence.swap(&first);
        let before = ask(
            &mut prober,
            "socket inet dgram; keep u; sendto 93.184.216.34:9000 5",
        );
        assert!(before.ok, "{before:?}");
        fence.swap(&second);
        let counted = packets(&fence, "93.184.216.34");
        let after = ask(&mut prober, "use u; pump 93.184.216.34:9000 10 50");
        assert_eq!(after.calls, after.refused, "{after:?}");
        assert_eq!(packets(&fence, "93.184.216.34"), counted);
    }
}

#[test]
fn a_dropped_connection_ends_at_its_next_packet() {
    let fence = HookFence::new(&first());
    let second = compiled(&second(), Path::new("/"));
    let mut prober = fence.prober();
    for script in [
        "socket inet stream; connect 93.184.216.34:443; send 5; recv; keep c",
        "socket inet6 stream; connect [::ffff:93.184.216.34]:443; send 5; recv; keep m",
        "socket inet dgram; connect 93.184.216.34:9000; send 5; recv; keep d",
    ] {
        let answer = ask(&mut prober, script);
        assert!(answer.ok, "{script}: {answer:?}");
    }
    fence.swap(&second);
    for (socket, errnos) in [
        ("c", &["ECONNABORTED", "EPIPE", "ECONNRESET"][..]),
        ("m", &["ECONNABORTED", "EPIPE", "ECONNRESET"][..]),
        ("d", &["ECONNABORTED", "EPERM"][..]),
    ] {
        let began = Instant::now();
        let ended = loop {
            let answer = ask(&mut prober, &format!("use {socket}; send 5"));
            if !answer.ok {
                break answer;
            }
            assert!(
                began.elapsed() < scaled(Duration::from_secs(1)),
                "{socket} lives on"
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(errnos.contains(&ended.errno()), "{socket}: {ended:?}");
    }
}

#[test]
fn a_connection_survives_swaps_that_keep_its_rule_and_no_other() {
    let fence = HookFence::new(&first());
    let mut prober = fence.prober();
    let opened = ask(
        &mut prober,
        "socket inet stream; connect 185.199.108.10:8443; send 5; recv; keep c",
    );
    assert!(opened.ok, "{opened:?}");
    for number in 0..100 {
        let unrelated =
            format!("{HEAD}[[egress.allow]]\ncidr = \"151.101.{number}.0/24\"\nports = [443]\n");
        fence.swap(&compiled(&unrelated, Path::new("/")));
    }
    let alive = ask(&mut prober, "use c; send 5; recv");
    assert!(alive.ok, "{alive:?}");
    // The same destination by another rule: the flow is allowed, so it goes on.
    let wider = HEAD.replace("185.199.108.10/32", "185.199.108.0/24");
    fence.swap(&compiled(&wider, Path::new("/")));
    let alive = ask(&mut prober, "use c; send 5; recv");
    assert!(alive.ok, "{alive:?}");
    let gone = HEAD.replace("185.199.108.10/32", "185.199.108.11/32");
    fence.swap(&compiled(&gone, Path::new("/")));
    let counted = packets(&fence, "185.199.108.10");
    ask(&mut prober, "use c; try send 5; sleep 100; try send 5");
    assert_eq!(packets(&fence, "185.199.108.10"), counted);
}
