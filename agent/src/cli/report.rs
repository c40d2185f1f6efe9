//! What `run` says at the end: each distinct thing that was refused, the lines that would allow it,
//! and why one might not want to.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use common::verdict::Outcome;

use super::Failure;
use crate::daemon::control::protocol::{Ended, Explained};

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
    if shown {
        stderr.write_all(page(ended).as_bytes())?;
    }
    Ok(())
}

fn page(ended: &Ended) -> String {
    let mut page = String::new();
    for explained in &ended.refused {
        paragraph(&mut page, explained);
    }
    if ended.missing > 0 {
        // Writing to a string can not fail.
        drop(writeln!(page, "stockade: {} more refusals are not listed", ended.missing));
    }
    page
}

fn paragraph(page: &mut String, explained: &Explained) {
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
    drop(writeln!(
        page,
        "stockade: {word}: {}{times}: {}",
        refusal.destination(),
        refusal.event.reason.sentence()
    ));
    if let Some(toml) = toml {
        drop(writeln!(page, "  these lines would allow it:"));
        for line in toml.lines() {
            drop(writeln!(page, "    {line}"));
        }
        drop(writeln!(page, "  but: {advice}"));
    } else {
        drop(writeln!(page, "  {advice}"));
    }
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
            refused: vec![explained(Refusal { event, times: 3 })],
            missing: 2,
        };
        expected.assert_eq(&page(&ended));
    }

    #[test]
    fn each_kind_of_refusal_is_explained() {
        check([8, 8, 4, 4], 6, Reason::NotAllowed, Hook::Connect, &expect![""]);
        check([10, 0, 0, 1], 17, Reason::PrivateAddress, Hook::Sendmsg, &expect![""]);
        check([127, 0, 0, 1], 6, Reason::LocalAddress, Hook::Connect, &expect![""]);
        check([8, 8, 4, 4], 17, Reason::DnsNotRedirected, Hook::Sendmsg, &expect![""]);
        check([0, 0, 0, 0], 262, Reason::Protocol, Hook::SockCreate, &expect![""]);
        check([0, 0, 0, 0], 6, Reason::BindPort, Hook::Bind, &expect![""]);
    }
}
