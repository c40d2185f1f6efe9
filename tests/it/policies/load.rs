//! Ten thousand rules pushed back and forth under load: nothing that neither set allows gets out, and
//! nothing that both allow is refused.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use lab::prober::Prober;

use super::{Scene, prober};
use crate::counts;

const RULES: usize = 10_000;
/// Longest that the load lasts; it is waited for no longer than that.
const LOAD: Duration = Duration::from_mins(10);

/// The prober's policy with ten thousand rules that the other set lacks.
fn large(last: u8) -> String {
    let mut text = prober();
    for number in 0..RULES {
        let (high, low) = (number / 256, number % 256);
        let rule = format!("[[egress.allow]]\ncidr = \"20.{high}.{low}.{last}/32\"\nports = [443]");
        writeln!(text, "{rule}").expect("a string takes everything");
    }
    text
}

#[test]
fn ten_thousand_rules_pushed_back_and_forth_under_load() {
    let scene = Scene::new(None);
    let sets = [77, 78].map(|last| scene.file(&format!("set-{last}/prober.toml"), &large(last)));
    scene.done(&["push", &sets[1]]);
    let mut steady = scene.worker();
    let opened = steady.ask("socket inet stream; connect 185.199.110.7:8443; send 5; recv; keep c");
    assert!(opened.expect("the prober answers").ok);
    // Both allow the first, neither the others.
    let rounds = counts::pushes();
    let script = [
        "socket inet dgram; pump 93.184.216.34:9000 200 200",
        "socket inet dgram; pump 1.2.3.4:9000 200 200",
        "churn 1.2.3.4:443 200",
    ];
    let mut load: Vec<Prober> = script.iter().map(|_| scene.worker()).collect();
    let (mut allowed, mut times) = (0, Vec::new());
    for round in 0..rounds {
        let set = &sets[usize::from(round % 2 == 1)];
        let began = Instant::now();
        std::thread::scope(|scope| {
            let push = scope.spawn(|| {
                let began = Instant::now();
                scene.done(&["push", set]);
                began.elapsed()
            });
            // As long as the push takes, and once more.
            let mut more = true;
            while more {
                more = !push.is_finished();
                assert!(began.elapsed() < LOAD, "the push does not end");
                for (prober, script) in load.iter_mut().zip(script) {
                    prober.say(script).expect("the prober listens");
                }
                for (place, prober) in load.iter_mut().enumerate() {
                    let answer = prober.hear().expect("the prober answers");
                    assert!(answer.calls > 0, "no load: {answer:?}");
                    if place == 0 {
                        assert_eq!(answer.refused, 0, "both sets allow it: {answer:?}");
                        allowed += answer.calls;
                    } else {
                        assert_eq!(
                            answer.refused, answer.calls,
                            "neither allows it: {answer:?}"
                        );
                    }
                }
                let alive = steady
                    .ask("use c; send 5; recv")
                    .expect("the prober answers");
                assert!(alive.ok, "cut by push {round}: {alive:?}");
            }
            times.push(push.join().expect("no panic"));
        });
    }
    eprintln!("{allowed} datagrams allowed during {rounds} pushes of {RULES} rules: {times:?}");
    let arrived = |address: &str| {
        let address = address.parse().expect("an address");
        scene.lab.arrived_at(address).expect("the recorder answers")
    };
    assert_eq!(arrived("1.2.3.4"), 0, "allowed by neither set");
    assert!(arrived("93.184.216.34") > 0, "no load arrived");
}
