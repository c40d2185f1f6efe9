//! `explain` and the kernel hold the same opinion of random names, addresses and ports; and a grant
//! ends when it says so, under the hooks alone.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use agent::{
    clock::BootTime,
    policy::{
        compiled::{CompiledPolicy, Rule},
        domain::DomainName,
        explain::verdict_at,
        model::Model,
    },
};
use common::{
    flow::{Address, TCP, UDP},
    id::SessionId,
    verdict::Verdict,
};
use proptest::{prelude::*, sample::select, test_runner::TestRunner};

use super::scene::ask;
use crate::{
    counts,
    decide::generate,
    hooks::fence::{HookFence, compiled},
};

const PATTERNS: &[&str] = &[
    "a.example",
    "b.example",
    "*.a.example",
    "*.b.example",
    "*.deep.b.example",
    "x.a.example",
    "xn--bcher-kva.example",
];
const NAMES: &[&str] = &[
    "a.example",
    "b.example",
    "c.example",
    "x.a.example",
    "y.x.a.example",
    "deep.b.example",
    "z.deep.b.example",
    "nota.example",
    "xn--bcher-kva.example",
    "a.example.org",
];
const PORTS: &[&str] = &["443", "8443", "443, 8443", "\"9000-9010\"", "\"8440-9000\""];
/// Ports of the lab that send back what they get.
const DIALLED: &[u16] = &[443, 8443, 9000];
const SESSION: SessionId = SessionId(1);

/// The rules of one pattern: none, or one or two of different kinds.
fn rules(pattern: &'static str) -> impl Strategy<Value = String> {
    let named = proptest::option::weighted(0.7, (select(PORTS), proptest::bool::weighted(0.3)));
    let datagrams = proptest::option::weighted(0.3, select(PORTS));
    (named, datagrams).prop_map(move |(named, datagrams)| {
        let rule = |ports: &str, how: &str| {
            format!("[[egress.allow]]\ndomain = \"{pattern}\"\nports = [{ports}]\n{how}")
        };
        let named =
            named.map(|(ports, is_off)| rule(ports, if is_off { "tls = \"off\"\n" } else { "" }));
        let datagrams = datagrams.map(|ports| rule(ports, "protocol = \"udp\"\n"));
        [named, datagrams].into_iter().flatten().collect()
    })
}

fn policies() -> impl Strategy<Value = String> {
    let all: Vec<_> = PATTERNS.iter().map(|pattern| rules(pattern)).collect();
    (all, any::<bool>()).prop_map(|(rules, prefix)| {
        let prefix = if prefix {
            "[[egress.allow]]\ncidr = \"52.0.0.0/9\"\nports = [8443]\n"
        } else {
            ""
        };
        policy(&format!("{}{prefix}", rules.concat()))
    })
}

/// The policy of these rules: the hooks alone read it, nothing is started.
fn policy(egress: &str) -> String {
    format!(
        "version = 1\ntool = \"random\"\n[worker]\ncommand = [\"/bin/true\"]\n\
         protocol = \"exec\"\n[filesystem]\nexecute = [\"/bin\"]\n{egress}"
    )
}

/// A name, whether the address was resolved for it, the name in the hello, and where to.
fn case() -> impl Strategy<Value = (&'static str, bool, &'static str, bool, u16)> {
    (
        select(NAMES),
        proptest::bool::weighted(0.8),
        proptest::option::of(select(NAMES)),
        proptest::bool::weighted(0.8),
        select(DIALLED),
    )
        // Half of the hellos are for the name itself.
        .prop_map(|(name, resolved, hello, is_tcp, port)| {
            (name, resolved, hello.unwrap_or(name), is_tcp, port)
        })
}

/// What the resolver gives for a name it was asked for.
fn grant(fence: &HookFence, policy: &CompiledPolicy, name: &DomainName, address: Address) {
    let rules = &policy.egress.rules;
    let covering = policy.egress.names.covering(rules, name);
    let ranges: Vec<_> = covering.flat_map(Rule::grant_ranges).collect();
    if !ranges.is_empty() {
        let expires = BootTime::now() + Duration::from_mins(1);
        let given = fence
            .kernel
            .grants()
            .give(SESSION, address, &ranges, expires);
        given.expect("the grant is given");
    }
}

/// Whether a handshake for this name may begin a connection on this port.
fn speaks(policy: &CompiledPolicy, name: &DomainName, port: u16) -> bool {
    policy
        .egress
        .names
        .covering(&policy.egress.rules, name)
        .flat_map(Rule::grant_ranges)
        .any(|range| u16::from(range.protocol) == TCP && (range.low..=range.high).contains(&port))
}

#[test]
fn explain_and_the_kernel_agree_on_random_names() {
    let mut runner = TestRunner::deterministic();
    let fence = HookFence::new(&generate(&mut runner, &policies()));
    let mut prober = fence.prober();
    let mut number = 0_u32;
    let (mut passed, mut refused, mut named) = (0, 0, 0);
    for _ in 0..counts::policies() {
        let text = generate(&mut runner, &policies());
        let policy = compiled(&text, Path::new("/"));
        fence.swap(&policy);
        let model = Model::new(&policy, std::collections::BTreeSet::new());
        for _ in 0..counts::flows() / 3 {
            let (name, resolved, hello, is_tcp, port) = generate(&mut runner, &case());
            number += 1;
            // Each case has an address of its own: grants of another would be united with it.
            let [_, high, middle, low] = number.to_be_bytes();
            let ip = IpAddr::from(Ipv4Addr::new(
                52,
                high | if number.is_multiple_of(2) { 128 } else { 0 },
                middle,
                low,
            ));
            let domain = DomainName::parse(name).expect("a name");
            let flow = model.flow(if is_tcp { TCP } else { UDP }, ip.into(), port);
            let verdict = if resolved {
                grant(&fence, &policy, &domain, ip.into());
                verdict_at(&policy, &model, &domain, &flow)
            } else {
                model.decide(&flow)
            };
            let spoken = DomainName::parse(hello).expect("a name");
            let script = match verdict {
                _ if !is_tcp => format!("socket inet dgram; sendto {ip}:{port} 5"),
                Verdict::AllowNamed(_) => format!(
                    "socket inet stream; connect {ip}:{port}; payload hello {hello}; send; \
                     patience 1500; recv"
                ),
                Verdict::Allow(_)
                | Verdict::AllowOwn(_)
                | Verdict::Resolver
                | Verdict::Observe(_)
                | Verdict::Deny(_) => {
                    format!("socket inet stream; connect {ip}:{port}; send 5; recv")
                }
            };
            let answer = ask(&mut prober, &script);
            let expected = match verdict {
                Verdict::AllowNamed(_) => {
                    named += 1;
                    speaks(&policy, &spoken, port)
                }
                Verdict::Allow(_)
                | Verdict::AllowOwn(_)
                | Verdict::Resolver
                | Verdict::Observe(_)
                | Verdict::Deny(_) => verdict.passes(),
            };
            assert_eq!(
                answer.ok, expected,
                "{verdict:?}: {name} at {ip}, hello {hello}: {script}: {answer:?}\n{text}"
            );
            if expected {
                passed += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(
        passed > 50 && refused > 50 && named > 50,
        "{passed} passed, {refused} refused, {named} by name: no test"
    );
}

#[test]
fn a_grant_ends_and_an_open_connection_does_not() {
    let text = policy("[[egress.allow]]\ndomain = \"a.example\"\nports = [8443]\n");
    let fence = HookFence::new(&text);
    let policy = compiled(&text, Path::new("/"));
    let mut prober = fence.prober();
    let address = Address::from(IpAddr::from([93, 184, 216, 34]));
    let rules = policy.egress.rules.iter();
    let ranges: Vec<_> = rules.flat_map(Rule::grant_ranges).collect();
    let dial = "socket inet stream; connect 93.184.216.34:8443";
    assert_eq!(ask(&mut prober, dial).errno(), "EPERM", "no grant yet");
    let expires = BootTime::now() + Duration::from_secs(1);
    let given = fence
        .kernel
        .grants()
        .give(SESSION, address, &ranges, expires);
    given.expect("the grant is given");
    let open = format!("{dial}; payload hello a.example; send; recv; keep c");
    let opened = ask(&mut prober, &open);
    assert!(opened.ok, "{opened:?}");
    std::thread::sleep(Duration::from_millis(1_300));
    assert_eq!(ask(&mut prober, dial).errno(), "EPERM", "it has ended");
    let kept = ask(&mut prober, "use c; send 5; recv");
    assert!(
        kept.ok && kept.received > 0,
        "the connection goes on: {kept:?}"
    );
    assert!(fence.kernel.grants().sweep(BootTime::now()) > 0);
    let kept = ask(&mut prober, "use c; send 5; recv");
    assert!(kept.ok, "and when the grant is swept: {kept:?}");
}
