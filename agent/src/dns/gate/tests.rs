//! Rulings on names, types and modes.

use std::borrow::Cow;

use common::verdict::Reason;
use hickory_proto::{rr::Name, serialize::binary::BinEncodable};

use super::{Ruling, judge, record_name, rule_text};
use crate::{
    dns::query::{Header, Query},
    policy::{compile, compiled::CompiledPolicy},
};

const RULES: &str = r#"
[[egress.allow]]
domain = "api.example"
ports = [443]
[[egress.allow]]
domain = "mail.example"
records = ["MX", "TXT"]
[[egress.allow]]
domain = "*.cdn.example"
ports = [443]
[[egress.allow]]
domain = "*.eu.cdn.example"
ports = [8443]
[[egress.allow]]
domain = "one.cdn.example"
ports = [8443]
"#;

fn policy(mode: &str) -> CompiledPolicy {
    let text = format!("version = 1\ntool = \"t\"\nmode = \"{mode}\"\n{RULES}");
    compile("t.toml", &text).expect("a policy")
}

fn query(name: &str, record: u16) -> Query<'static> {
    let mut question = Name::from_ascii(name)
        .expect("a name")
        .to_bytes()
        .expect("wire");
    question.extend_from_slice(&record.to_be_bytes());
    question.extend_from_slice(&[0, 1]);
    Query {
        header: Header {
            id: 1,
            opcode: 0,
            recursion_desired: true,
            checking_disabled: false,
        },
        question: Cow::Owned(question),
        record,
        edns: None,
    }
}

fn ruling(mode: &str, name: &str, record: u16) -> String {
    match judge(&policy(mode), &query(name, record)) {
        Ruling::Admit(admitted) => {
            let observed = admitted.observed.map_or("", Reason::label);
            let chosen = admitted
                .chosen_bytes
                .map(|bytes| format!(" chosen {bytes}"));
            let name = admitted.question.name;
            format!("{name}{} {observed}", chosen.unwrap_or_default())
        }
        Ruling::NoName(reason) => format!("no name, {}", reason.map_or("quiet", Reason::label)),
        Ruling::NoRecord(reason) => {
            format!("no record, {}", reason.map_or("quiet", Reason::label))
        }
        Ruling::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn names_of_rules_pass_in_any_letters_and_no_others() {
    for (name, record, expected) in [
        ("api.example.", 1, "api.example "),
        ("API.eXample.", 28, "api.example "),
        ("x.api.example.", 1, "no name, name_not_allowed"),
        ("example.", 1, "no name, name_not_allowed"),
        ("api.example.evil.test.", 1, "no name, name_not_allowed"),
        ("cdn.example.", 1, "no name, name_not_allowed"),
        ("a.b.cdn.example.", 1, "a.b.cdn.example chosen 4 "),
        ("a.eu.cdn.example.", 1, "a.eu.cdn.example chosen 2 "),
        ("one.cdn.example.", 1, "one.cdn.example "),
        ("api.", 1, "no name, name_not_allowed"),
        (".", 1, "no name, name_not_allowed"),
        ("192.0.2.1.", 1, "no name, name_not_allowed"),
        ("xn--a.cdn.example.", 1, "no name, name_not_allowed"),
    ] {
        assert_eq!(ruling("enforce", name, record), expected, "{name}");
    }
}

#[test]
fn types_beyond_the_rules_are_not_there() {
    for (name, record, expected) in [
        ("api.example.", 16, "no record, record_not_allowed"),
        ("api.example.", 65, "no record, quiet"),
        ("api.example.", 64, "no record, quiet"),
        ("api.example.", 255, "no record, record_not_allowed"),
        ("api.example.", 252, "no record, record_not_allowed"),
        ("mail.example.", 15, "mail.example "),
        ("mail.example.", 16, "mail.example "),
        ("mail.example.", 1, "no record, quiet"),
        ("mail.example.", 28, "no record, quiet"),
    ] {
        assert_eq!(ruling("enforce", name, record), expected, "{name} {record}");
    }
}

#[test]
fn names_of_this_host_are_answered_here_in_every_mode() {
    for mode in ["enforce", "observe"] {
        for name in [
            "localhost.",
            "a.LOCALHOST.",
            "1.2.0.192.in-addr.arpa.",
            "1.0.ip6.arpa.",
        ] {
            assert_eq!(ruling(mode, name, 12), "nothing", "{name}");
        }
    }
    assert_eq!(
        ruling("enforce", "notlocalhost.", 1),
        "no name, name_not_allowed"
    );
}

#[test]
fn observe_passes_any_proper_name_and_says_why_it_would_not() {
    for (name, record, expected) in [
        ("api.example.", 1, "api.example "),
        ("api.example.", 16, "api.example record_not_allowed"),
        ("other.test.", 1, "other.test name_not_allowed"),
        ("other.", 1, "no name, name_not_allowed"),
        ("other.test.", 255, "no name, name_not_allowed"),
    ] {
        assert_eq!(ruling("observe", name, record), expected, "{name} {record}");
    }
}

#[test]
fn events_name_the_rule_and_the_type() {
    let text = rule_text(&policy("enforce"), &query("api.example.", 16));
    assert_eq!(text.as_deref(), Some("domain api.example tcp 443"));
    assert_eq!(rule_text(&policy("enforce"), &query("x.test.", 1)), None);
    assert_eq!(record_name(28), "AAAA");
    assert_eq!(record_name(255), "ANY");
    assert!(!record_name(65_280).is_empty());
}
