//! Policy files, and the words on the command line that name a destination.

use std::collections::BTreeSet;

use agent::policy::{
    PolicyError, compile,
    compiled::Prefix,
    diff,
    domain::{DomainName, DomainPattern},
    explain::{Destination, explain},
    model::Model,
};

use crate::mutator::fuzz;

const FULL: &str = include_str!("data/full.toml");
const SMALL: &[u8] =
    b"version = 1\ntool = \"t\"\negress.allow = [{ cidr = \"8.8.8.0/24\", ports = [443] }]\n";
const NAMES: &[u8] =
    b"version = 1\ntool = \"t\"\n[[egress.allow]]\ndomain = \"*.cdn.example\"\nports = [443]\n";

#[test]
fn the_corpus_is_good() {
    compile("full.toml", FULL).expect("a file of every key compiles");
}

#[test]
fn a_policy_of_any_bytes_compiles_or_says_why() {
    fuzz("policy", &[FULL.as_bytes(), SMALL, NAMES], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match compile("fuzz.toml", &text) {
            Ok(policy) => {
                let again = compile("fuzz.toml", &text).expect("the same text compiles again");
                assert_eq!(policy.digest, again.digest, "one text, one digest");
                assert!(
                    diff::policies(&policy, &again).is_empty(),
                    "one text, one policy"
                );
                let model = Model::new(&policy, BTreeSet::new());
                for destination in ["185.199.108.1:8443", "127.0.0.1:53/udp", "[::1]:1"] {
                    let destination = destination.parse().expect("a destination");
                    drop(explain(&policy, &model, destination));
                }
            }
            Err(error) => is_readable(&text, &error),
        }
    });
}

/// An error has findings, each in the file, and nothing in it that a terminal would obey.
fn is_readable(text: &str, error: &PolicyError) {
    assert!(!error.findings().is_empty(), "an error without a finding");
    let lines = u32::try_from(text.split('\n').count()).expect("a short file");
    for finding in error.findings() {
        let (line, column) = error.place(finding);
        assert!(
            line >= 1 && line <= lines && column >= 1,
            "{line}:{column} of {lines}"
        );
    }
    let mut shown = vec![error.plain()];
    // The picture takes a hundred times as long as the rest together.
    if text.len().is_multiple_of(32) {
        shown.push(error.graphical(false, 80));
    }
    for shown in shown {
        let obeyed = |letter: &char| letter.is_control() && *letter != '\n';
        assert_eq!(
            shown.chars().find(obeyed),
            None,
            "a control character in:\n{shown:?}"
        );
    }
    assert_eq!(error.json().len(), error.findings().len());
}

#[test]
fn a_block_of_addresses_reads_back_as_itself() {
    fuzz(
        "cidr",
        &[
            b"185.199.108.0/22",
            b"2a01:4f8::/32",
            b"::ffff:10.0.0.0/104",
        ],
        |bytes| {
            let Ok(text) = str::from_utf8(bytes) else {
                return;
            };
            match Prefix::parse(text) {
                Ok(prefix) => assert_eq!(Prefix::parse(&prefix.to_string()), Ok(prefix)),
                Err(error) => assert!(!error.hint().is_empty()),
            }
        },
    );
}

#[test]
fn a_name_reads_back_as_itself() {
    fuzz(
        "name",
        &[b"api.billing.example", "*.b\u{fc}cher.example.".as_bytes()],
        |bytes| {
            let Ok(text) = str::from_utf8(bytes) else {
                return;
            };
            if let Ok(name) = DomainName::parse(text) {
                assert_eq!(DomainName::parse(name.as_str()), Ok(name));
            }
            match DomainPattern::parse(text) {
                Ok(pattern) => assert_eq!(DomainPattern::parse(pattern.as_str()), Ok(pattern)),
                Err(error) => assert!(!error.hint().is_empty()),
            }
        },
    );
}

#[test]
fn a_destination_of_any_text_is_read_or_refused() {
    fuzz(
        "destination",
        &[b"192.0.2.7:443", b"[2001:db8::7]:443/udp", b"a.example:1"],
        |bytes| {
            let Ok(text) = str::from_utf8(bytes) else {
                return;
            };
            if let Ok(destination) = text.parse::<Destination>() {
                assert!(destination.port > 0, "port 0 is no port");
            }
        },
    );
}
