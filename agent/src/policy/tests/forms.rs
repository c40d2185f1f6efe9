//! Canonical forms: names, wildcards, blocks, ports, quantities.

use crate::policy::{
    compiled::{Prefix, ToolName},
    domain::{DomainError, DomainName, DomainPattern},
    quantity,
};

fn name(text: &str) -> String {
    DomainName::parse(text).unwrap().to_string()
}

#[test]
fn a_name_has_one_form() {
    assert_eq!(name("API.Example.COM."), "api.example.com");
    assert_eq!(name("bücher.example"), "xn--bcher-kva.example");
    assert_eq!(name("BÜCHER.example"), "xn--bcher-kva.example");
    assert_eq!(
        name("_acme-challenge.example.com"),
        "_acme-challenge.example.com"
    );
    // Full-width letters and the ideographic full stop are what they look like (UTS 46).
    assert_eq!(name("ａｐｉ。example"), "api.example");
}

#[test]
fn what_is_no_name_is_refused() {
    let error = |text: &str| DomainName::parse(text).unwrap_err();
    assert!(matches!(error("1.2.3.4"), DomainError::Address(_)));
    assert!(matches!(error("1.2.3.4."), DomainError::Address(_)));
    assert!(matches!(error("0x7f.1"), DomainError::Address(_)));
    assert!(matches!(error("0x7f.0x1"), DomainError::Address(_)));
    assert!(matches!(error("::1"), DomainError::Address(_)));
    assert!(matches!(error("*.example.com"), DomainError::Wildcard(_)));
    assert!(matches!(error("intranet"), DomainError::SingleLabel(_)));
    assert!(matches!(error("a b.example"), DomainError::Url(_)));
    assert!(matches!(error(".example.com"), DomainError::EmptyLabel(_)));
    assert!(matches!(error("example.com.."), DomainError::EmptyLabel(_)));
    assert!(matches!(
        error("xn--\u{0}.example"),
        DomainError::Idna(_) | DomainError::Label { .. }
    ));
    let long = format!("{}.example", "a.".repeat(124));
    assert!(DomainName::parse(&long).is_err());
    assert!(DomainName::parse(&format!("{}.example", "a".repeat(63))).is_ok());
    assert!(DomainName::parse(&format!("{}.example", "a".repeat(64))).is_err());
}

#[test]
fn a_name_of_a_query_is_folded_and_never_converted() {
    let read = |text: &str| DomainName::from_query(text).map(|name| name.to_string());
    assert_eq!(read("API.Example.COM."), Ok("api.example.com".to_owned()));
    assert_eq!(
        read("_sip._tcp.a.Example"),
        Ok("_sip._tcp.a.example".to_owned())
    );
    assert_eq!(
        read("xn--BCHER-kva.example"),
        Ok("xn--bcher-kva.example".to_owned())
    );
    assert_eq!(read(""), Err(DomainError::Empty));
    assert_eq!(read("."), Err(DomainError::Empty));
    assert!(matches!(read("a.."), Err(DomainError::EmptyLabel(_))));
    assert!(matches!(read("COM"), Err(DomainError::SingleLabel(_))));
    assert!(matches!(read("1.2.3.4"), Err(DomainError::Address(_))));
    for text in [
        "bücher.example",
        "ａｐｉ.example",
        "a b.example",
        "a\\.b.example",
        "*.example",
        "a\0.example",
        "a:1.example",
    ] {
        assert!(
            matches!(read(text), Err(DomainError::Label { .. })),
            "{text}"
        );
    }
    assert!(matches!(
        read(&"a.".repeat(1 << 16)),
        Err(DomainError::TooLong(_))
    ));
}

#[test]
fn the_labels_of_a_message_are_no_text() {
    let read = |labels: &[&[u8]]| DomainName::from_labels(labels.iter().copied());
    assert_eq!(
        read(&[b"Api", b"EXAMPLE"]),
        DomainName::parse("api.example")
    );
    for labels in [
        &[&b"a.b"[..], b"example"][..],
        &[b"\xff", b"example"],
        &[b"a", b"", b"example"],
        &[b"", b"a", b"example"],
        &[b"a\0", b"example"],
        &[b"a", b"example."],
        &[b"example"],
        &[],
        &[&[b'a'; 64], b"example"],
        &[&[b'a'; 63][..]; 5],
    ] {
        assert!(read(labels).is_err(), "{labels:?}");
    }
    // 253 bytes fit, 254 do not.
    let long: Vec<&[u8]> = vec![&[b'a'; 63], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]];
    assert_eq!(read(&long).unwrap().as_str().len(), 253);
    let longer: Vec<&[u8]> = vec![&[b'a'; 63], &[b'b'; 63], &[b'c'; 63], &[b'd'; 62]];
    assert!(matches!(read(&longer), Err(DomainError::TooLong(_))));
}

#[test]
fn a_wildcard_covers_every_depth_but_not_the_apex() {
    let pattern = DomainPattern::parse("*.CDN.example.").unwrap();
    assert_eq!(pattern.as_str(), "*.cdn.example");
    let covers = |text: &str| pattern.matches(&DomainName::parse(text).unwrap());
    assert!(covers("a.cdn.example"));
    assert!(covers("a.b.c.cdn.example"));
    assert!(!covers("cdn.example"));
    assert!(!covers("evilcdn.example"));
    assert!(!covers("a.cdn.example.org"));
    let exact = DomainPattern::parse("cdn.example").unwrap();
    assert!(exact.matches(&DomainName::parse("CDN.example").unwrap()));
    assert!(!exact.matches(&DomainName::parse("a.cdn.example").unwrap()));
    assert!(DomainPattern::parse("*.*.example").is_err());
    assert_eq!(
        DomainPattern::parse("*.COM."),
        Err(DomainError::TopLevel("com".to_owned()))
    );
}

#[test]
fn blocks_cover_and_overlap_by_their_bits() {
    let block = |text: &str| Prefix::parse(text).unwrap();
    assert!(block("10.0.0.0/8").covers(&block("10.255.0.0/16")));
    assert!(!block("10.255.0.0/16").covers(&block("10.0.0.0/8")));
    assert!(block("10.255.0.0/16").overlaps(&block("10.0.0.0/8")));
    assert!(!block("10.0.0.0/9").overlaps(&block("10.128.0.0/9")));
    assert!(block("0.0.0.0/0").covers(&block("255.255.255.255/32")));
    assert!(!block("0.0.0.0/0").overlaps(&block("2000::/3")));
    assert_eq!(block("0.0.0.0/0").to_string(), "0.0.0.0/0");
    assert_eq!(block("2606:50C0:0::/32").to_string(), "2606:50c0::/32");
    assert_eq!(block("1.2.3.4/32").to_string(), "1.2.3.4/32");
}

#[test]
fn sizes_and_durations_keep_their_value() {
    assert_eq!(quantity::size("50MiB"), Ok(50 << 20));
    assert_eq!(quantity::size("0B"), Ok(0));
    assert_eq!(quantity::seconds("2h"), Ok(7_200));
    for text in [
        "",
        "5",
        "MiB",
        "5 MiB",
        "5mib",
        "5MB",
        "-5B",
        "+5B",
        "18446744073709551615KiB",
    ] {
        assert!(quantity::size(text).is_err(), "{text}");
    }
    assert_eq!(quantity::size_text(64 << 20), "64MiB");
    assert_eq!(quantity::size_text((64 << 20) + 1), "67108865B");
    assert_eq!(quantity::seconds_text(90), "90s");
    assert_eq!(quantity::seconds_text(86_400), "1d");
}

#[test]
fn a_tool_name_can_be_part_of_paths_and_labels() {
    assert!(ToolName::parse("a").is_ok());
    assert!(ToolName::parse(&"a".repeat(63)).is_ok());
    for text in [
        "",
        "1a",
        "-a",
        "A",
        "a.b",
        "a/b",
        "..",
        "a b",
        "ä",
        &"a".repeat(64),
    ] {
        assert!(ToolName::parse(text).is_err(), "{text}");
    }
}
