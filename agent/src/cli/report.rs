//! What `run` says at the end: each distinct thing that was refused, the lines that would allow it,
//! and why one might not want to.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use common::verdict::Outcome;

use super::{Failure, terminal::harmless};
use crate::daemon::control::protocol::{Ended, Explained, Output};

/// When refusals are explained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Explain {
    /// Where stderr is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
    /// Always, as one JSON object.
    Json,
}

/// Says on stderr how a worker ended and what it was refused.
pub(super) fn report(ended: &Ended, explain: Explain) -> Result<(), Failure> {
    let mut stderr = io::stderr().lock();
    let shown = match explain {
        Explain::Auto => stderr.is_terminal(),
        Explain::Always => true,
        Explain::Never => false,
        Explain::Json => {
            writeln!(stderr, "{}", serde_json::to_string(ended)?)?;
            return Ok(());
        }
    };
    if let Some(note) = &ended.note {
        writeln!(stderr, "stockade: {note}")?;
    }
    match &ended.output {
        Some(Output::Refused { why }) => {
            writeln!(stderr, "stockade: nothing is handed out: {}", harmless(why))?;
        }
        Some(Output::Folder { path, files }) if shown => {
            writeln!(stderr, "stockade: handed out: {files} files in {path}")?;
        }
        Some(Output::Folder { .. }) | None => {}
    }
    if shown {
        stderr.write_all(page(ended).as_bytes())?;
    }
    Ok(())
}

fn page(ended: &Ended) -> String {
    let mut lines: Vec<String> = ended.refused.iter().flat_map(paragraph).collect();
    if ended.missing > 0 {
        lines.push(format!(
            "stockade: {} more refusals are not listed",
            ended.missing
        ));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn paragraph(explained: &Explained) -> Vec<String> {
    let Explained {
        refusal,
        toml,
        advice,
    } = explained;
    let word = match refusal.event.outcome {
        Outcome::Observe => "not allowed, passed because the policy only observes",
        Outcome::Allow | Outcome::Deny => "refused",
    };
    let times = match refusal.times {
        1 => String::new(),
        times => format!(" ({times} times)"),
    };
    let (destination, why) = (refusal.destination(), refusal.event.reason.sentence());
    let mut lines = vec![format!("stockade: {word}: {destination}{times}: {why}")];
    if let Some(toml) = toml {
        lines.push("  these lines would allow it:".to_owned());
        lines.extend(toml.lines().map(|line| format!("    {line}")));
        lines.push(format!("  but: {advice}"));
    } else {
        lines.push(format!("  {advice}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use common::{
        event::{self, Hook},
        flow::Address,
        verdict::{Outcome, Reason},
    };
    use expect_test::{Expect, expect};

    use super::page;
    use crate::{
        daemon::{control::protocol::Ended, explained},
        observe::{
            event::{Event, Names},
            refused::Refusal,
        },
        timestamp::Timestamp,
    };

    fn check(address: [u8; 4], protocol: u16, reason: Reason, hook: Hook, expected: &Expect) {
        let raw = event::Event {
            address: Address::from_v4(address),
            protocol,
            port: 443,
            outcome: Outcome::Deny as u8,
            reason: reason as u8,
            hook: hook as u8,
            ..event::Event::default()
        };
        let event = Event::decode(&raw, &Names::default(), Timestamp::now()).expect("event");
        let ended = Ended {
            code: 0,
            note: None,
            output: None,
            refused: vec![explained(Refusal { event, times: 3 })],
            missing: 2,
        };
        expected.assert_eq(&page(&ended));
    }

    #[test]
    fn a_destination_has_lines_that_allow_it() {
        check(
            [8, 8, 4, 4],
            6,
            Reason::NotAllowed,
            Hook::Connect,
            &expect![[r#"
                stockade: refused: tcp 8.8.4.4:443 (3 times): no rule of the policy names the destination, protocol and port
                  these lines would allow it:
                    [[egress.allow]]
                    cidr = "8.8.4.4/32"
                    ports = [443]
                  but: an address may be shared by many names: everything that it serves on this port is opened
                stockade: 2 more refusals are not listed
            "#]],
        );
        check(
            [10, 0, 0, 1],
            17,
            Reason::PrivateAddress,
            Hook::Sendmsg,
            &expect![[r#"
                stockade: refused: udp 10.0.0.1:443 (3 times): the destination is a private, special-purpose or metadata address
                  these lines would allow it:
                    [[egress.allow_private]]
                    cidr = "10.0.0.1/32"
                    protocol = "udp"
                    ports = [443]
                    reason = "..."
                  but: `private use (RFC 1918)` is reached from this host and not from outside: what stands there is seldom made for strangers
                stockade: 2 more refusals are not listed
            "#]],
        );
        check(
            [127, 0, 0, 1],
            6,
            Reason::LocalAddress,
            Hook::Connect,
            &expect![[r#"
                stockade: refused: tcp 127.0.0.1:443 (3 times): the destination is this host
                  these lines would allow it:
                    [[local.allow]]
                    tcp = "127.0.0.1:443"
                  but: whatever listens there trusts this host: the worker would speak as the host does
                stockade: 2 more refusals are not listed
            "#]],
        );
    }

    #[test]
    fn some_refusals_have_none_or_one_that_is_no_destination() {
        check(
            [8, 8, 4, 4],
            17,
            Reason::DnsNotRedirected,
            Hook::Sendmsg,
            &expect![[r"
                stockade: refused: udp 8.8.4.4:443 (3 times): port 53 is reached through the agent's resolver only
                  nothing opens it: port 53 always goes to the agent's resolver
                stockade: 2 more refusals are not listed
            "]],
        );
        check(
            [0, 0, 0, 0],
            262,
            Reason::Protocol,
            Hook::SockCreate,
            &expect![[r"
                stockade: refused: mptcp socket (3 times): only TCP and UDP leave a fence
                  no line of a policy opens it: only TCP and UDP leave a fence
                stockade: 2 more refusals are not listed
            "]],
        );
        check(
            [0, 0, 0, 0],
            6,
            Reason::BindPort,
            Hook::Bind,
            &expect![[r#"
                stockade: refused: tcp 0.0.0.0:443 (3 times): a worker binds to port 0, or to a free port from 1024 of its own loopback where the policy opens that
                  `[[local.allow]]` with `loopback = "own"` lets processes of one session listen for each other, on free ports from 1024 on
                stockade: 2 more refusals are not listed
            "#]],
        );
    }

    fn check_name(event: Event, expected: &Expect) {
        let ended = Ended {
            code: 0,
            note: None,
            output: None,
            refused: vec![explained(Refusal { event, times: 1 })],
            missing: 0,
        };
        expected.assert_eq(&page(&ended));
    }

    fn event(reason: Reason, hook: Hook, port: u16) -> Event {
        let raw = event::Event {
            address: Address::from_v4([8, 8, 4, 4]),
            protocol: 6,
            port,
            outcome: Outcome::Deny as u8,
            reason: reason as u8,
            hook: hook as u8,
            ..event::Event::default()
        };
        Event::decode(&raw, &Names::default(), Timestamp::now()).expect("event")
    }

    #[test]
    fn names_have_lines_with_a_domain() {
        let mut query = event(Reason::NameNotAllowed, Hook::Resolver, 53);
        query.name = Some("tracker.example".to_owned());
        query.record = Some("A".to_owned());
        check_name(
            query,
            &expect![[r#"
            stockade: refused: name tracker.example A: no rule of the policy covers the name
              these lines would allow it:
                [[egress.allow]]
                domain = "tracker.example"
                ports = [443]
              but: whoever owns the name says where it points, and learns what is asked below it
        "#]],
        );
        let mut handshake = event(Reason::TlsName, Hook::Egress, 8_443);
        handshake.name = Some("other.example".to_owned());
        check_name(
            handshake,
            &expect![[r#"
            stockade: refused: tcp 8.8.4.4:8443 (other.example): the TLS handshake names a server that no rule opens on this port
              these lines would allow it:
                [[egress.allow]]
                domain = "other.example"
                ports = [8443]
              but: the server shares its address with an allowed name: a rule for this name opens it wherever it resolves
        "#]],
        );
        let mut port = event(Reason::NotAllowed, Hook::Connect, 80);
        port.granted_for = Some("*.cdn.example".to_owned());
        check_name(
            port,
            &expect![[r#"
            stockade: refused: tcp 8.8.4.4:80 (granted for *.cdn.example): no rule of the policy names the destination, protocol and port
              these lines would allow it:
                [[egress.allow]]
                domain = "*.cdn.example"
                ports = [80]
                tls = "off"
              but: it opens this port wherever `*.cdn.example` resolves
        "#]],
        );
        let mut hostile = event(Reason::NameNotAllowed, Hook::Resolver, 53);
        hostile.name = Some(r"a\027[2J.example".to_owned());
        check_name(
            hostile,
            &expect![[r"
            stockade: refused: name a\027[2J.example: no rule of the policy covers the name
              nothing opens it: it is no name that a rule can hold
        "]],
        );
        check_name(
            event(Reason::TlsMalformed, Hook::Egress, 443),
            &expect![[r#"
                stockade: refused: tcp 8.8.4.4:443: the connection does not begin with one well-formed TLS client hello
                  what was sent first is no TLS client hello: for another protocol the rule says `tls = "off"`: any name on that address is then reachable
            "#]],
        );
    }
}
