//! What `explain` answers of names, and that its hints hold: pasted into the policy, they allow.

use std::{collections::BTreeSet, time::Duration};

use common::{
    flow::Address,
    verdict::{Reason, Verdict},
};

use crate::policy::{
    caution::cautions,
    compile,
    compiled::{CompiledPolicy, Record},
    explain::{Asked, Demand, KnownGrant, NameExplanation, explain, explain_name, remedy_for_name},
    model::Model,
};

const POLICY: &str = r#"version = 1
tool = "t"
[[egress.allow]]
domain = "api.example"
ports = [443]
[[egress.allow]]
domain = "*.cdn.example"
ports = [443, 8443]
ech = "allow"
[[egress.allow]]
domain = "git.example"
ports = [22]
tls = "off"
[[egress.allow]]
domain = "api.example"
protocol = "udp"
ports = [443]
[[egress.allow]]
domain = "four.example"
ports = [443]
records = ["A"]
[[egress.allow]]
domain = "_sip._tcp.api.example"
records = ["SRV"]
[[egress.allow]]
cidr = "8.8.8.0/24"
ports = [853]
"#;

fn policy() -> CompiledPolicy {
    compile("t.toml", POLICY).unwrap()
}

fn ask<'a>(policy: &'a CompiledPolicy, text: &str, known: &[KnownGrant]) -> NameExplanation<'a> {
    let Asked::Name(destination) = text.parse().unwrap() else {
        panic!("{text} is no name");
    };
    explain_name(
        policy,
        &Model::new(policy, BTreeSet::new()),
        destination,
        known,
    )
}

#[test]
fn a_covered_name_has_rule_records_and_demand() {
    let policy = policy();
    let answer = ask(&policy, "https://API.example/v1?q=a:b", &[]);
    assert_eq!(answer.rule.unwrap().line, 3);
    assert_eq!(answer.demand, Some(Demand::Handshake));
    assert_eq!(answer.records, [Record::A, Record::Aaaa]);
    let demand = |text: &str| ask(&policy, text, &[]).demand;
    assert_eq!(
        demand("x.y.cdn.example:8443"),
        Some(Demand::HiddenHandshake)
    );
    assert_eq!(demand("git.example:22"), Some(Demand::NoHandshake));
    assert_eq!(demand("api.example:443/udp"), Some(Demand::Datagrams));
    let four = ask(&policy, "four.example:443", &[]);
    assert_eq!((four.verdict.passes(), four.only), (true, Some(Record::A)));
    assert_eq!(
        ask(&policy, "api.example:53/udp", &[]).verdict,
        Verdict::Resolver
    );
}

#[test]
fn grants_that_are_held_are_judged_where_they_are() {
    let policy = policy();
    let known = ["8.8.8.8", "10.0.0.1", "2606:50c0::1"].map(|ip| KnownGrant {
        address: Address::from(ip.parse::<std::net::IpAddr>().unwrap()),
        expires_in: Duration::from_mins(1),
    });
    let held = ask(&policy, "four.example:443", &known).held;
    let verdicts: Vec<Verdict> = held.iter().map(|held| held.verdict).collect();
    assert!(matches!(verdicts[0], Verdict::AllowNamed(_)));
    assert_eq!(verdicts[1], Verdict::Deny(Reason::PrivateAddress));
    assert_eq!(verdicts[2], Verdict::Deny(Reason::RecordNotAllowed));
}

#[test]
fn a_pasted_hint_allows_the_name() {
    for (destination, reason) in [
        ("https://other.example/", Reason::NameNotAllowed),
        ("cdn.example:443", Reason::NameNotAllowed),
        ("http://other.example/", Reason::NameNotAllowed),
        ("other.example:443/udp", Reason::NameNotAllowed),
        ("api.example:8443", Reason::NotAllowed),
        ("git.example:22/udp", Reason::NotAllowed),
        ("_sip._tcp.api.example:5061", Reason::RecordNotAllowed),
    ] {
        let policy = policy();
        let answer = ask(&policy, destination, &[]);
        assert_eq!(answer.verdict, Verdict::Deny(reason), "{destination}");
        let text = format!("{POLICY}{}\n", answer.hint.unwrap());
        let policy = compile("t.toml", &text).unwrap();
        let answer = ask(&policy, destination, &[]);
        assert!(answer.rule.is_some(), "{destination}: {:?}", answer.verdict);
    }
    let hint = ask(&policy(), "printer.local:443", &[]).hint.unwrap();
    assert!(hint.starts_with("nothing opens it"), "{hint}");
}

#[test]
fn a_pasted_remedy_of_an_event_compiles() {
    let toml = |reason, name: &str, record, port| remedy_for_name(reason, name, record, port);
    for text in [
        toml(Reason::NameNotAllowed, "Other.example.", Some("A"), None),
        toml(Reason::NameNotAllowed, "other.example", Some("HTTPS"), None),
        toml(Reason::NameNotAllowed, "other.example", Some("TXT"), None),
        toml(Reason::RecordNotAllowed, "api.example", Some("HTTPS"), None),
        toml(Reason::TlsName, "other.example", None, Some(25)),
    ] {
        assert!(text.starts_with("[[egress.allow]]"), "{text}");
        let policy = format!("{POLICY}{text}\n");
        assert!(compile("t.toml", &policy).is_ok(), "{text}");
    }
    for text in [
        toml(Reason::NameNotAllowed, "other.example", Some("PTR"), None),
        toml(
            Reason::NameNotAllowed,
            "4.3.2.1.in-addr.arpa",
            Some("A"),
            None,
        ),
        toml(
            Reason::NameNotAllowed,
            "a\u{1b}[2J.example",
            Some("A"),
            None,
        ),
        toml(Reason::NameNotAllowed, "intranet", Some("A"), None),
        toml(
            Reason::NameNotAllowed,
            "metadata.google.internal",
            Some("A"),
            None,
        ),
        toml(Reason::TlsNoName, "", None, Some(443)),
        toml(Reason::QueryLimit, "other.example", Some("A"), None),
    ] {
        assert!(!text.starts_with("[["), "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    for reason in Reason::ALL {
        assert!(!toml(*reason, "other.example", None, None).is_empty());
    }
}

#[test]
fn an_address_that_a_name_could_open_says_so() {
    let policy = policy();
    let model = Model::new(&policy, BTreeSet::new());
    let lines = |text: &str| -> Vec<u32> {
        let (rules, count) = explain(&policy, &model, text.parse().unwrap()).by_name;
        assert_eq!(rules.len(), count.min(3));
        rules.iter().map(|rule| rule.line).collect()
    };
    assert_eq!(lines("9.9.9.9:443"), [3, 6, 18]);
    assert_eq!(lines("[2606:50c0::1]:443"), [3, 6]);
    assert_eq!(lines("9.9.9.9:443/udp"), [14]);
    assert!(lines("9.9.9.9:80").is_empty());
    assert!(lines("8.8.8.8:853").is_empty(), "open already");
    assert!(lines("10.0.0.1:443").is_empty(), "a name does not open it");
}

#[test]
fn what_guarantees_less_is_said() {
    let policy = policy();
    let said: Vec<(Option<u32>, String)> = cautions(&policy)
        .into_iter()
        .map(|caution| (caution.line, caution.text))
        .collect();
    let lines: Vec<Option<u32>> = said.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [Some(6), Some(10), Some(14)]);
    assert!(
        said[1]
            .1
            .contains("any name on that address is reachable on port 22")
    );
    let text = "version = 1\ntool = \"t\"\nmode = \"observe\"\negress.allow = [\n\
        { domain = \"*.s3.amazonaws.com\", ports = [443] },\n\
        { domain = \"a.example\", ports = [443], records = [\"A\", \"HTTPS\"] }]\n";
    let policy = compile("t.toml", text).unwrap();
    let lines: Vec<Option<u32>> = cautions(&policy)
        .iter()
        .map(|caution| caution.line)
        .collect();
    assert_eq!(lines, [None, Some(5), Some(6)]);
}

#[test]
fn a_metadata_name_needs_its_address() {
    let rule =
        "[[egress.allow]]\ndomain = \"metadata.google.internal\"\nports = [80]\ntls = \"off\"\n";
    let text = format!("version = 1\ntool = \"t\"\n{rule}");
    assert!(compile("t.toml", &text).is_err());
    let door = "[[egress.allow_private]]\ncidr = \"169.254.169.254/32\"\nprotocol = \"tcp\"\nports = [80]\nreason = \"r\"\n";
    assert!(compile("t.toml", &format!("{text}{door}")).is_ok());
}
