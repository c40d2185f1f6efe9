//! What `explain` answers, and that its hints hold: pasted into the policy, they allow.

use std::collections::BTreeSet;

use common::{flow::Address, verdict::Verdict};

use crate::policy::{
    compile,
    explain::{Destination, DestinationError, explain},
    model::Model,
};

const POLICY: &str = "version = 1\ntool = \"t\"\n\
    [[egress.allow]]\ncidr = \"185.199.108.0/22\"\nports = [443]\n";

/// Explains, pastes the hint into the policy, and says whether that allows.
fn healed(destination: &str, hosts: &[&str]) -> Result<(), String> {
    let hosts: BTreeSet<Address> = hosts
        .iter()
        .map(|ip| Address::from(ip.parse::<std::net::IpAddr>().unwrap()))
        .collect();
    let destination: Destination = destination.parse().unwrap();
    let policy = compile("t.toml", POLICY).unwrap();
    let answer = explain(&policy, &Model::new(&policy, hosts.clone()), destination);
    let hint = answer.hint.ok_or("allowed already")?;
    let text = format!("{POLICY}{hint}\n");
    let policy = compile("t.toml", &text).map_err(|_not_toml| hint.clone())?;
    let answer = explain(&policy, &Model::new(&policy, hosts), destination);
    let allowed = matches!(answer.verdict, Verdict::Allow(_)) && answer.rule.is_some();
    if allowed { Ok(()) } else { Err(hint) }
}

#[test]
fn a_pasted_hint_allows() {
    for destination in [
        "185.199.108.1:80",
        "8.8.8.8:443/udp",
        "[2606:50c0::1]:443",
        "10.0.0.5:5432",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80/udp",
        "127.0.0.1:6379",
        "[::1]:6379",
        "203.0.113.9:443",
    ] {
        assert_eq!(healed(destination, &[]), Ok(()), "{destination}");
    }
    assert_eq!(healed("10.1.2.3:80", &["10.1.2.3"]), Ok(()));
    assert_eq!(healed("8.8.8.8:80", &["8.8.8.8"]), Ok(()));
}

#[test]
fn where_nothing_opens_it_the_hint_says_so() {
    for destination in [
        "127.0.0.1:123/udp",
        "0.0.0.0:80",
        "[64:ff9b::a00:1]:443",
        "[2002:7f00:1::1]:443",
    ] {
        let hint = healed(destination, &[]).unwrap_err();
        assert!(
            hint.starts_with("nothing opens it"),
            "{destination}: {hint}"
        );
    }
    let hint = healed("8.8.8.8:123/udp", &["8.8.8.8"]).unwrap_err();
    assert!(hint.starts_with("nothing opens it"), "{hint}");
}

#[test]
fn port_53_goes_to_the_resolver_whatever_the_address() {
    let policy = compile("t.toml", POLICY).unwrap();
    let model = Model::new(&policy, BTreeSet::new());
    for destination in ["8.8.8.8:53/udp", "127.0.0.1:53", "10.0.0.1:53"] {
        let answer = explain(&policy, &model, destination.parse().unwrap());
        assert_eq!(answer.verdict, Verdict::Resolver, "{destination}");
        assert!(answer.hint.is_none());
    }
}

#[test]
fn an_allowed_destination_names_its_rule() {
    let policy = compile("t.toml", POLICY).unwrap();
    let model = Model::new(&policy, BTreeSet::new());
    let answer = explain(&policy, &model, "185.199.109.7:443".parse().unwrap());
    let rule = answer.rule.unwrap();
    assert_eq!(
        (rule.line, rule.text.as_str()),
        (3, "cidr 185.199.108.0/22 tcp 443")
    );
    assert!(answer.hint.is_none() && answer.range.is_none());
}

#[test]
fn the_most_specific_range_is_named() {
    let policy = compile("t.toml", POLICY).unwrap();
    let model = Model::new(&policy, BTreeSet::new());
    let range = |text: &str| explain(&policy, &model, text.parse().unwrap()).range;
    assert_eq!(range("10.0.0.1:80"), Some("private use (RFC 1918)"));
    assert_eq!(range("[::1]:80"), Some("loopback (RFC 4291)"));
    assert_eq!(range("8.8.8.8:80"), None);
}

#[test]
fn destinations_are_read_or_refused_with_the_reason() {
    let parse = |text: &str| text.parse::<Destination>();
    assert!(parse("1.2.3.4:443/tcp").is_ok());
    assert!(parse("[::1]:443/udp").is_ok());
    assert!(matches!(parse("1.2.3.4"), Err(DestinationError::Port(_))));
    for text in ["1.2.3.4:+443", "https://1.2.3.4:/", "a.example:99999"] {
        assert!(
            matches!(parse(text), Err(DestinationError::Port(_))),
            "{text}"
        );
    }
    assert!(matches!(
        parse("ftp://a.example/"),
        Err(DestinationError::Scheme(_))
    ));
    assert!(matches!(parse("1.2.3.4:0"), Err(DestinationError::Port(_))));
    assert!(matches!(
        parse("1.2.3.4:443/sctp"),
        Err(DestinationError::Protocol(_))
    ));
    assert!(matches!(
        parse("api.example:443"),
        Err(DestinationError::Name(_))
    ));
    assert!(matches!(
        parse("localhost:443"),
        Err(DestinationError::Domain(_))
    ));
    assert!(matches!(
        parse("::1:443"),
        Err(DestinationError::Address(_))
    ));
    assert!(matches!(
        parse("1.2.3:443"),
        Err(DestinationError::Address(_))
    ));
}
