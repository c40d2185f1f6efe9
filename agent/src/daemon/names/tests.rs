//! The configuration as the resolver hears it, and its events as others do.

use std::time::Duration;

use common::{
    id::SessionId,
    verdict::{Outcome, Reason},
};

use super::{Limits, Refusal, Upstream, Upstreams, config, query_event, settings};
use crate::dns::QueryEvent;

#[test]
fn the_configuration_reaches_the_resolver() {
    let mut dns = config::Dns {
        refusal: Refusal::Refused,
        queries_per_second: 7,
        burst: 8,
        wildcard_names_per_minute: 9,
        wildcard_bytes_per_minute: 10,
        ..config::Dns::default()
    };
    let told = settings(&dns, std::sync::Arc::new(|_| false));
    assert_eq!(
        told.upstream,
        Upstream::ResolvConf("/etc/resolv.conf".into())
    );
    assert_eq!(told.refusal, crate::dns::Refusal::Refused);
    let expected = Limits {
        queries_per_second: 7,
        query_burst: 8,
        names_per_minute: 9,
        label_bytes_per_minute: 10,
        ..Limits::DEFAULT
    };
    assert_eq!(told.limits, expected);
    let server = "192.0.2.53:853".parse().expect("address");
    dns.upstreams = Upstreams::Servers(vec![server]);
    dns.tls = Some("dns.example".to_owned());
    let told = settings(&dns, std::sync::Arc::new(|_| false));
    let Upstream::Tls { servers, .. } = told.upstream else {
        panic!("not over TLS: {:?}", told.upstream);
    };
    assert_eq!(servers[0].name, "dns.example");
    assert_eq!(servers[0].address, server);
}

#[test]
fn a_query_is_an_event_without_escapes() {
    let event = query_event(QueryEvent {
        session: SessionId(7),
        tool: "web".to_owned(),
        name: "a\x1b[2Jb.example".to_owned(),
        record: "TXT".to_owned(),
        outcome: Outcome::Deny,
        reason: Reason::NameNotAllowed,
        rule: None,
        address: None,
        took: Duration::ZERO,
    });
    assert_eq!(event.destination(), r"name a\027[2Jb.example TXT");
}
