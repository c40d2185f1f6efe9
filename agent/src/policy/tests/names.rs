//! The table of names: what covers a name, what the kernel is told, and what `explain` says of it;
//! against a naive reading of the same TOML.

use std::collections::BTreeSet;

use common::{
    flow::{Address, TCP, UDP},
    id::{Generation, PolicyId},
    name::NameKey,
    rule::{ECH, TLS},
    verdict::{Reason, Verdict},
};
use proptest::prelude::*;
use toml::Table;

use crate::policy::{
    compile,
    compiled::{CompiledPolicy, Record},
    domain::DomainName,
    error::Code,
    explain::verdict_at,
    model::Model,
    names::NameEntry,
};

fn policy(rules: &str) -> CompiledPolicy {
    compile(
        "t.toml",
        &format!("version = 1\ntool = \"t\"\negress.allow = [\n{rules}\n]\n"),
    )
    .unwrap()
}

fn name(text: &str) -> DomainName {
    DomainName::from_query(text).unwrap()
}

#[test]
fn covering_wildcards_are_united() {
    let policy = policy(
        r#"
        { domain = "*.a.example", ports = [443] },
        { domain = "*.b.a.example", ports = [8443], ech = "allow" },
        { domain = "x.b.a.example", ports = [80, 9443], tls = "off" },
        { domain = "x.b.a.example", ports = [443], protocol = "udp" },
        { domain = "elsewhere.example", ports = [443], protocol = "udp" },
        { domain = "_sip._tcp.a.example", records = ["SRV"] },
        "#,
    );
    let entries: Vec<(&str, Vec<(u16, u8)>)> = policy
        .egress
        .names
        .entries()
        .iter()
        .map(|NameEntry { pattern, set }| {
            let count = usize::try_from(set.count).unwrap();
            let ranges = set.ranges[..count].iter();
            let ranges = ranges.map(|range| (range.low, range.flags)).collect();
            (pattern.as_str(), ranges)
        })
        .collect();
    assert_eq!(
        entries,
        [
            ("*.a.example", vec![(443, TLS)]),
            ("*.b.a.example", vec![(8443, TLS | ECH), (443, TLS)]),
            ("_sip._tcp.a.example", vec![(443, TLS)]),
            (
                "x.b.a.example",
                vec![(8443, TLS | ECH), (80, 0), (443, TLS), (9443, 0)]
            ),
        ]
    );
    let lines = |text: &str| -> Vec<u32> {
        let rules = &policy.egress.rules;
        let name = name(text);
        let covering = policy.egress.names.covering(rules, &name);
        covering.map(|rule| rule.line).collect()
    };
    assert_eq!(lines("X.b.a.EXAMPLE."), [7, 8, 6, 5]);
    assert_eq!(lines("y.x.b.a.example"), [6, 5]);
    assert_eq!(lines("b.a.example"), [5]);
    assert_eq!(lines("_sip._tcp.a.example"), [10, 5]);
    assert!(lines("a.example").is_empty() && lines("evila.example").is_empty());
}

#[test]
fn an_id_says_what_is_demanded() {
    let policy = policy(
        r#"
        { domain = "a.example", ports = [443] },
        { domain = "a.example", ports = [443], tls = "off" },
        { domain = "a.example", ports = [443], ech = "allow" },
        { domain = "a.example", ports = [443], records = ["TXT", "AAAA", "A"] },
        { domain = "a.example", ports = [443], protocol = "udp", tls = "off" },
        { domain = "a.example", records = ["SRV"] },
        "#,
    );
    let texts: Vec<&str> = policy
        .egress
        .rules
        .iter()
        .map(|rule| rule.text.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "domain a.example tcp 443",
            "domain a.example tcp 443 tls=off",
            "domain a.example tcp 443 ech=allow",
            "domain a.example tcp 443 records=A,AAAA,TXT",
            "domain a.example udp 443",
            "domain a.example records=SRV",
        ]
    );
    let ids: BTreeSet<u64> = policy.egress.rules.iter().map(|rule| rule.id.0).collect();
    assert_eq!(ids.len(), texts.len());
    let flags: Vec<Vec<u8>> = policy
        .egress
        .rules
        .iter()
        .map(|rule| rule.grant_ranges().map(|range| range.flags).collect())
        .collect();
    assert_eq!(
        flags,
        [
            vec![TLS],
            vec![0],
            vec![TLS | ECH],
            vec![TLS],
            vec![0],
            vec![]
        ]
    );
}

#[test]
fn spelling_does_not_count() {
    let one = policy(
        r#"{ domain = "*.Bücher.example.", ports = [443, 80], tls = "off", records = ["AAAA", "A"] }"#,
    );
    let other =
        policy(r#"{ domain = "*.xn--bcher-kva.EXAMPLE", ports = [80, "443"], tls = "off" }"#);
    assert_eq!(one.digest, other.digest);
    let stricter = policy(r#"{ domain = "*.bücher.example", ports = [80, 443], tls = "require" }"#);
    assert_ne!(one.digest, stricter.digest);
    let explicit = policy(
        r#"{ domain = "a.example", ports = [443], tls = "require", ech = "refuse", protocol = "tcp" }"#,
    );
    assert_eq!(
        explicit.digest,
        policy(r#"{ domain = "a.example", ports = [443] }"#).digest
    );
}

#[test]
fn more_ranges_than_an_address_holds_grants_for_are_refused() {
    let mut rules: Vec<String> = (0..4)
        .map(|at| {
            format!(
                "{{ domain = \"*.example.com\", ports = [{}, {}] }},",
                1000 + 10 * at,
                1005 + 10 * at
            )
        })
        .collect();
    assert!(compile("t.toml", &text(&rules)).is_ok());
    rules.push("{ domain = \"a.b.example.com\", protocol = \"udp\", ports = [443] },".to_owned());
    let error = compile("t.toml", &text(&rules)).unwrap_err();
    let finding = &error.findings()[0];
    assert_eq!(finding.code, Code::OutOfBounds);
    assert_eq!(error.place(finding).0, 8);
    assert!(
        finding
            .message
            .contains("9 port ranges are open under `a.b.example.com`")
    );
    assert!(finding.hint.is_some());
}

fn text(rules: &[String]) -> String {
    format!(
        "version = 1\ntool = \"t\"\negress.allow = [\n{}\n]\n",
        rules.join("\n")
    )
}

// ---------------------------------------------------------------------------------------------
// The naive reading: every rule of the document in turn, labels compared as lists.

const LABELS: &[&str] = &["a", "b", "ab", "example", "xn--bcher-kva"];

fn covers(pattern: &str, name: &str) -> bool {
    let fold = |text: &str| -> Vec<String> {
        let text = text.to_lowercase();
        let mut labels: Vec<String> = text.split('.').rev().map(str::to_owned).collect();
        if labels.first().is_some_and(String::is_empty) {
            labels.remove(0);
        }
        labels
    };
    let (pattern, name) = (fold(pattern), fold(name));
    if pattern.last().is_some_and(|label| label == "*") {
        let base = &pattern[..pattern.len() - 1];
        return name.len() > base.len() && name[..base.len()] == *base;
    }
    pattern == name
}

struct Naive {
    covered: bool,
    answered: bool,
    /// Whether a rule opens the port, and then whether one of those demands no name.
    open: Option<bool>,
}

fn naive(document: &Table, name: &str, record: &str, protocol: &str, port: u16) -> Naive {
    let mut out = Naive {
        covered: false,
        answered: false,
        open: None,
    };
    let rules = document["egress"].get("allow").unwrap().as_array().unwrap();
    for rule in rules {
        let word = |key: &str, default: &str| -> String {
            rule.get(key)
                .map_or(default.to_owned(), |word| word.as_str().unwrap().to_owned())
        };
        if !covers(&word("domain", ""), name) {
            continue;
        }
        out.covered = true;
        let answers = rule
            .get("records")
            .map_or(matches!(record, "A" | "AAAA"), |list| {
                list.as_array()
                    .unwrap()
                    .iter()
                    .any(|item| item.as_str() == Some(record))
            });
        out.answered |= answers;
        let ports = rule
            .get("ports")
            .map_or(Vec::new(), |list| list.as_array().unwrap().clone());
        let port_open = ports
            .iter()
            .any(|item| item.as_integer() == Some(i64::from(port)));
        if answers && port_open && word("protocol", "tcp") == protocol {
            let plain = protocol == "udp" || word("tls", "require") == "off";
            out.open = Some(plain || out.open == Some(true));
        }
    }
    out
}

fn some_name(least: usize) -> impl Strategy<Value = String> {
    let label = prop::sample::select(LABELS);
    prop::collection::vec((label, any::<bool>()), least..6).prop_map(|labels| {
        let labels: Vec<String> = labels
            .into_iter()
            .map(|(label, upper)| {
                if upper {
                    label.to_uppercase()
                } else {
                    label.to_owned()
                }
            })
            .collect();
        labels.join(".")
    })
}

fn dotted(names: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (names, any::<bool>()).prop_map(|(name, dot)| if dot { format!("{name}.") } else { name })
}

fn document() -> impl Strategy<Value = String> {
    let port = prop::sample::select(&[443_u16, 8443, 80][..]);
    let words = prop::sample::select(
        &[
            "",
            ", tls = \"off\"",
            ", tls = \"require\"",
            ", tls = \"require\", ech = \"allow\"",
            ", tls = \"off\", protocol = \"udp\"",
            ", tls = \"require\", records = [\"A\"]",
            ", tls = \"off\", records = [\"AAAA\", \"TXT\"]",
        ][..],
    );
    let pattern = || {
        (dotted(some_name(2)), any::<bool>())
            .prop_map(|(name, wild)| if wild { format!("*.{name}") } else { name })
    };
    let addresses = (pattern(), port, words).prop_map(|(name, port, words)| {
        format!("{{ domain = \"{name}\", ports = [{port}]{words} }}")
    });
    let texts =
        pattern().prop_map(|name| format!("{{ domain = \"{name}\", records = [\"TXT\"] }}"));
    prop::collection::vec(prop_oneof![6 => addresses, 1 => texts], 1..8).prop_map(|rules| {
        format!(
            "version = 1\ntool = \"t\"\negress.allow = [{}]\n",
            rules.join(", ")
        )
    })
}

/// What the kernel's trie finds: the entry with the longest key that is a prefix of the name's.
fn longest<'a>(policy: &'a CompiledPolicy, name: &DomainName) -> Option<&'a NameEntry> {
    let (id, generation) = (PolicyId(1), Generation(1));
    let asked = NameKey::exact(id, generation, name.as_str())?;
    let bits = |key: &NameKey| usize::try_from((key.length - NameKey::SCOPE_BITS) / 8).unwrap();
    let key = |entry: &NameEntry| entry.key(id, generation).unwrap();
    policy
        .egress
        .names
        .entries()
        .iter()
        .filter(|entry| {
            let key = key(entry);
            let bytes = bits(&key);
            bytes <= bits(&asked) && key.data.name[..bytes] == asked.data.name[..bytes]
        })
        .max_by_key(|entry| key(entry).length)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_says_what_the_document_says(
        text in document(),
        asked in prop::collection::vec(
            (dotted(some_name(2)), any::<bool>(), any::<bool>(), prop::sample::select(&[443_u16, 8443, 80, 53][..])),
            24,
        ),
    ) {
        // Refused: the same rule twice, port 80 without a word about TLS.
        let Ok(policy) = compile("t.toml", &text) else {
            return Ok(());
        };
        let document: Table = text.parse().unwrap();
        let model = Model::new(&policy, BTreeSet::new());
        for (asked, v4, tcp, port) in asked {
            let ip: std::net::IpAddr = if v4 { "8.8.8.8" } else { "2606:50c0::1" }.parse().unwrap();
            let (record, word) = if v4 { (Record::A, "A") } else { (Record::Aaaa, "AAAA") };
            let (number, protocol) = if tcp { (TCP, "tcp") } else { (UDP, "udp") };
            let wanted = naive(&document, &asked, word, protocol, port);
            let name = DomainName::from_query(&asked).unwrap();
            let covering: Vec<_> = policy.egress.names.covering(&policy.egress.rules, &name).collect();
            prop_assert_eq!(!covering.is_empty(), wanted.covered, "{}", asked);
            let answered = covering.iter().any(|rule| rule.domain().unwrap().answers(record));
            prop_assert_eq!(answered, wanted.answered, "{}", asked);
            let flow = model.flow(number, Address::from(ip), port);
            let agree = match verdict_at(&policy, &model, &name, &flow) {
                Verdict::Resolver => port == 53,
                Verdict::Allow(_) => wanted.open == Some(true),
                Verdict::AllowNamed(_) => wanted.open == Some(false),
                Verdict::Deny(Reason::NameNotAllowed) => !wanted.covered,
                Verdict::Deny(Reason::RecordNotAllowed) => wanted.covered && !wanted.answered,
                Verdict::Deny(Reason::NotAllowed) => wanted.answered && wanted.open.is_none(),
                Verdict::AllowOwn(_) | Verdict::Observe(_) | Verdict::Deny(_) => false,
            };
            prop_assert!(agree, "{asked} {protocol} {port} v4={v4}\n{text}");
            // The kernel's one look-up finds all TCP ports of all rules that cover the name.
            let open = longest(&policy, &name).and_then(|entry| entry.set.find(TCP, port));
            let any = ["A", "AAAA"].iter().any(|word| naive(&document, &asked, word, "tcp", port).open.is_some());
            prop_assert_eq!(open.is_some(), any, "{} {}\n{}", asked, port, text);
        }
    }

    #[test]
    fn no_query_makes_a_name_that_is_not_canonical(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..8)) {
        if let Ok(name) = DomainName::from_labels(labels.iter().map(Vec::as_slice)) {
            prop_assert_eq!(DomainName::from_query(name.as_str()), Ok(name.clone()));
            prop_assert!(name.as_str().len() <= 253 && name.as_str().contains('.'));
        }
    }
}

#[test]
fn most_random_documents_are_compared() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let compiled = (0..300)
        .filter(|_| {
            compile(
                "t.toml",
                &document().new_tree(&mut runner).unwrap().current(),
            )
            .is_ok()
        })
        .count();
    assert!(compiled > 100, "{compiled} of 300");
}
