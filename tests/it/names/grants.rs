//! How long an address stays open, for whom, and what a change of policy does to it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lab::prober::Prober;

use super::scene::{Scene, ask, egress};

/// Opens a connection to a shared address by one of its names and keeps it.
fn open(prober: &mut Prober, name: &str, address: &str, keep: &str) {
    let script = format!(
        "ask udp 8.8.8.8:53 {name} A; socket inet stream; connect {address}:8443; \
         payload hello {name}; send; recv; keep {keep}"
    );
    let answer = ask(prober, &script);
    assert!(answer.ok, "{name}: {answer:?}");
}

/// Whether a kept connection still carries data both ways.
fn lives(prober: &mut Prober, keep: &str) -> bool {
    let answer = ask(prober, &format!("use {keep}; send 5; patience 400; recv"));
    answer.ok && answer.received > 0
}

fn dies(prober: &mut Prober, keep: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let answer = ask(prober, &format!("use {keep}; patience 50; recv"));
        if answer.errno() == "ECONNABORTED" || answer.errno() == "ECONNRESET" || answer.ok {
            return true;
        }
    }
    false
}

fn without(name: &str) -> String {
    let rule = format!("[[egress.allow]]\ndomain = \"{name}\"\nports = [443, 8443]\n");
    let all = egress();
    assert!(all.contains(&rule), "`{name}` has no rule");
    all.replace(&rule, "")
}

#[test]
fn a_policy_without_the_name_ends_its_flows_and_no_others() {
    let scene = Scene::new();
    let mut worker = scene.prober();
    open(&mut worker, "site.example", "93.184.216.34", "site");
    open(&mut worker, "apart.example", "93.184.216.40", "apart");
    open(&mut worker, "chain.example", "93.184.216.34", "chain");
    assert!(lives(&mut worker, "site") && lives(&mut worker, "apart"));
    // A change that keeps the names.
    scene.replace(
        "prober",
        &egress().replace("\"third.example\"", "\"fourth.example\""),
    );
    std::thread::sleep(Duration::from_millis(300));
    for keep in ["site", "apart", "chain"] {
        assert!(lives(&mut worker, keep), "{keep} has a rule still");
    }
    scene.replace("prober", &without("site.example"));
    assert!(dies(&mut worker, "site"), "its rule is gone");
    assert!(lives(&mut worker, "apart"), "another name, another address");
    assert!(
        lives(&mut worker, "chain"),
        "another name on the same address"
    );
    let again = ask(&mut worker, "ask udp 8.8.8.8:53 site.example A");
    assert!(again.values.len() < 2, "{again:?}");
    let hello = "socket inet stream; connect 93.184.216.34:8443; payload hello site.example; send; \
                 patience 1500; recv";
    assert!(
        !ask(&mut worker, hello).ok,
        "the address is open for another name only"
    );
    scene.replace(
        "prober",
        &without("apart.example").replace("site.example", "nosite.example"),
    );
    assert!(dies(&mut worker, "apart"));
    let dial = ask(
        &mut worker,
        "socket inet stream; connect 93.184.216.40:8443",
    );
    assert_eq!(dial.errno(), "EPERM", "{dial:?}");
    scene.end();
}

#[test]
fn an_open_connection_outlives_many_pushes() {
    let scene = Scene::new();
    let mut worker = scene.prober();
    open(&mut worker, "site.example", "93.184.216.34", "site");
    for round in 0..20 {
        let other =
            format!("[[egress.allow]]\ndomain = \"r{round}.other.example\"\nports = [443]\n");
        scene.replace("prober", &format!("{}\n{other}", egress()));
    }
    assert!(lives(&mut worker, "site"));
}

#[test]
fn many_addresses_of_one_name_are_all_open() {
    let scene = Scene::new();
    let mut worker = scene.prober();
    let v4 = ask(&mut worker, "ask udp 8.8.8.8:53 many.example A");
    let v6 = ask(&mut worker, "ask udp 8.8.8.8:53 many.example AAAA");
    assert_eq!(v4.values.len(), 9, "{v4:?}");
    assert_eq!(v6.values.len(), 9, "{v6:?}");
    for ip in v4.values.iter().skip(1) {
        let script = format!(
            "socket inet stream; connect {ip}:8443; payload hello many.example; send; recv"
        );
        assert!(ask(&mut worker, &script).ok, "{ip}");
    }
    for ip in v6.values.iter().skip(1) {
        let script = format!(
            "socket inet6 stream; connect [{ip}]:8443; payload hello many.example; send; recv"
        );
        assert!(ask(&mut worker, &script).ok, "{ip}");
    }
}

#[test]
fn addresses_that_churn_stay_open_for_those_who_hold_them() {
    let scene = Scene::new();
    let mut worker = scene.prober();
    let mut all = BTreeSet::new();
    for _ in 0..30 {
        let answer = ask(&mut worker, "ask udp 8.8.8.8:53 churn.example A");
        assert!(answer.values.len() > 1, "{answer:?}");
        let ips: Vec<_> = answer.values.iter().skip(1).cloned().collect();
        let first = ips.first().expect("an address");
        let script = format!("socket inet stream; connect {first}:8443");
        assert!(ask(&mut worker, &script).ok, "{first}");
        all.extend(ips);
    }
    // What was given minutes or seconds ago is open still: pools hold addresses.
    for ip in &all {
        let script = format!("socket inet stream; connect {ip}:8443");
        assert!(ask(&mut worker, &script).ok, "{ip}");
    }
}

#[test]
fn one_worker_has_nothing_of_anothers_grants() {
    let scene = Scene::new();
    let (mut first, mut second) = (scene.prober(), scene.prober());
    let dial = "socket inet stream; connect 93.184.216.34:8443";
    let asked = ask(&mut first, "ask udp 8.8.8.8:53 site.example A");
    assert_eq!(asked.values.len(), 2);
    assert!(ask(&mut first, dial).ok);
    let answer = ask(&mut second, dial);
    assert_eq!(answer.errno(), "EPERM", "{answer:?}");
    let asked = ask(&mut second, "ask udp 8.8.8.8:53 site.example A");
    assert_eq!(asked.values.len(), 2);
    assert!(ask(&mut second, dial).ok);
    // A new session of the same tool begins with nothing.
    drop((first, second));
    let mut third = scene.prober();
    assert_eq!(ask(&mut third, dial).errno(), "EPERM");
    scene.end();
}

#[test]
fn many_workers_at_once_are_never_taken_for_each_other() {
    const WORKERS: usize = 8;
    const ROUNDS: u32 = 60;
    let scene = Scene::new();
    let other = egress().replace("domain = \"site.example\"", "domain = \"strange.example\"");
    scene.replace("prober", &egress());
    // `dig` has no part in it: its policy makes a second tool of the prober.
    let text =
        super::scene::policy("prober", &other).replace("tool = \"prober\"", "tool = \"stranger\"");
    scene.put("stranger", &text);
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let scene = &scene;
            scope.spawn(move || {
                let tool = if number % 2 == 0 {
                    "prober"
                } else {
                    "stranger"
                };
                let mut command = scene.agent.tool(tool, &[]).expect("the binary is built");
                let mut prober =
                    Prober::start(scene.world.lab.host(), &mut command).expect("it starts");
                let (mine, theirs) = if number % 2 == 0 {
                    ("site.example", "strange.example")
                } else {
                    ("strange.example", "site.example")
                };
                for round in 0..ROUNDS {
                    let how = if round % 5 == 4 { "tcp" } else { "udp" };
                    let own = ask(&mut prober, &format!("ask {how} 8.8.8.8:53 {mine} A"));
                    assert_eq!(own.values.len(), 2, "{tool} {mine}: {own:?}");
                    let other = ask(&mut prober, &format!("ask {how} 8.8.8.8:53 {theirs} A"));
                    assert_eq!(other.values.len(), 1, "{tool} {theirs}: {other:?}");
                }
            });
        }
    });
    scene.end();
}

#[test]
fn no_dial_comes_before_its_permission() {
    let scene = Scene::new();
    let mut left = crate::counts::rounds();
    while left > 0 {
        // A new worker has no grant yet, and a budget under the wildcard of its own.
        let mut worker = scene.prober();
        let round = left.min(100);
        let fresh = ask(
            &mut worker,
            &format!("rounds 8.8.8.8:53 n{{}}.bench.example 8443 {round}"),
        );
        assert!(fresh.ok, "{fresh:?}");
        assert_eq!((fresh.calls, fresh.refused), (round.into(), 0), "{fresh:?}");
        left -= round;
        let round = left.min(900);
        // Its first dial is the first use of a grant; the others prolong it.
        let again = ask(
            &mut worker,
            &format!("rounds 8.8.8.8:53 v4.example 443 {round}"),
        );
        assert!(again.ok, "{again:?}");
        assert_eq!((again.calls, again.refused), (round.into(), 0), "{again:?}");
        left -= round;
    }
}
