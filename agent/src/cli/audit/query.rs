//! `stockade audit query`: what was called and run, and what came of it.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::Which;
use crate::{
    audit::{Filter, Found, query},
    cli::{Failure, terminal::harmless},
    exit::Code,
    timestamp::Timestamp,
};

/// A time in the journal; a digit for each `0`.
const FORM: &str = "0000-00-00T00:00:00.000000Z";

/// Shows calls and sessions, each with what came of it, what was done about tokens, and what was not
/// attached. Whether the journal is as it was written is for `audit verify` to say.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A moment is the beginning of a time as it stands in the journal (UTC): 2026-11-22, 2026-11-22T13,
2026-11-22T13:05:30; or how long ago: 90s, 15m, 12h, 7d.

Example:
  stockade audit query --user ann@example.com --tool invoice --since 7d --json")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Of this user (the token's subject).
    #[arg(long, value_name = "SUBJECT")]
    user: Option<String>,
    /// Of this client.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Of this tool.
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Of this verb.
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
    /// With this token (its id).
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    token: Option<String>,
    /// With this outcome: `done`, `tool_error`, `running`, `outcome_unknown`, a reason's code; of
    /// sessions `exit`, `signal`, `wall_timeout`, …; of tokens `issued`, `rotated`, `revoked`; of what was
    /// not attached the word of the refusal, such as `holes`.
    #[arg(long, value_name = "CODE")]
    outcome: Option<String>,
    /// That began at this moment or later.
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    since: Option<String>,
    /// That began before this moment.
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    until: Option<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments {
        which,
        user,
        client,
        tool,
        verb,
        token,
        outcome,
        since,
        until,
        json,
    } = arguments;
    let filter = Filter {
        subject: user,
        client,
        tool,
        verb,
        token,
        outcome,
        since,
        until,
    };
    let mut stdout = io::stdout().lock();
    query(&which.path(), &filter, |found| {
        if json {
            writeln!(stdout, "{}", object(found))
        } else {
            writeln!(stdout, "{}", line(&found))
        }
    })??;
    Ok(Code::Ok.into())
}

fn object(found: Found) -> Value {
    let Found {
        begun,
        ended,
        outcome,
    } = found;
    json!({"outcome": outcome, "begun": begun, "ended": ended})
}

/// Time, number, who, what, what came of it, how long it took.
fn line(found: &Found) -> String {
    let begun = |pointer| text(&found.begun, pointer);
    let ended = |pointer| text(found.ended.as_ref()?, pointer);
    let mut words: Vec<String> = ["/time", "/sequence", "/record"]
        .into_iter()
        .filter_map(begun)
        .collect();
    words.push(
        if let (Some(subject), Some(client)) =
            (begun("/principal/subject"), begun("/principal/client"))
        {
            format!("{subject} by {client}:")
        } else {
            let uid = begun("/caller/uid").unwrap_or_else(|| "-".to_owned());
            format!("uid {uid}:")
        },
    );
    // What was done about tokens names whose, what was not attached where, instead of a verb.
    let whose: &[&str] = match found.begun.get("record").and_then(Value::as_str) {
        Some("attach_refused") => &["/target"],
        Some("token_issued") => &["/token/id"],
        Some("token_key_rotated") => &["/key"],
        Some("tokens_revoked") => &[
            "/token/id",
            "/principal/subject",
            "/principal/client",
            "/key",
        ],
        _ => &[],
    };
    let what = ["/tool", "/verb"].iter().chain(whose);
    let what = what.filter_map(|pointer| begun(pointer));
    words.extend(what.filter(|word| !word.is_empty()));
    words.push(format!("-> {}", harmless(&found.outcome)));
    words.extend(ended("/seconds").map(|seconds| format!("after {seconds} s")));
    let why = ended("/detail").or_else(|| begun("/detail"));
    let why = why.or_else(|| begun("/why"));
    let why = why.filter(|why| !why.is_empty());
    words.extend(why.map(|why| format!("({why})")));
    words.join(" ")
}

/// A value for a line; what a caller chose moves no cursor.
fn text(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(harmless(text)),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => Some(other.to_string()),
    }
}

/// A beginning of a time, or a time ago as the former.
fn moment(text: &str) -> Result<String, String> {
    if let Some(ago) = ago(text) {
        let then = SystemTime::now().checked_sub(ago);
        return Ok(Timestamp::from(then.unwrap_or(SystemTime::UNIX_EPOCH)).to_string());
    }
    // What is left out is the smallest; only whole parts compare as times do.
    let ends_well = matches!(text.len(), 4 | 7 | 10 | 13 | 16 | 19 | 26 | 27)
        || (text.len() == 20 && text.ends_with('Z'));
    let shaped = text
        .bytes()
        .zip(FORM.bytes())
        .enumerate()
        .all(|(at, (is, due))| {
            (due == b'0' && is.is_ascii_digit()) || is == due || (at == 19 && is == b'Z')
        });
    if ends_well && shaped {
        Ok(text.trim_end_matches('Z').to_owned())
    } else {
        Err("neither like 2026-11-22T13:05:30 nor like 15m".to_owned())
    }
}

fn ago(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::{Found, line, moment};

    #[test]
    fn moments() {
        for (text, expected) in [
            ("2026", "2026"),
            ("2026-11-22", "2026-11-22"),
            ("2026-11-22T13:05", "2026-11-22T13:05"),
            ("2026-11-22T13:05:30Z", "2026-11-22T13:05:30"),
        ] {
            assert_eq!(moment(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "x",
            "2026-1",
            "2026-11-22 13:05",
            "13:05",
            "h",
            "-1h",
            "2026-11-22T1Z",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
        assert!(moment("90m").expect("ago").ends_with('Z'));
    }

    #[test]
    fn a_line_tells_who_what_and_what_came_of_it_and_moves_no_cursor() {
        let found = Found {
            begun: json!({
                "sequence": 7, "time": "2026-11-22T13:05:30.000000Z", "record": "call",
                "tool": "invoice", "verb": "create\u{1b}[2J",
                "principal": {"subject": "ann", "client": "desk"},
            }),
            ended: Some(json!({"seconds": 0.25})),
            outcome: "done".to_owned(),
        };
        expect![r"2026-11-22T13:05:30.000000Z 7 call ann by desk: invoice create\u{1b}[2J -> done after 0.25 s"]
            .assert_eq(&line(&found));
    }

    #[test]
    fn a_line_tells_what_was_not_attached_and_why() {
        let found = Found {
            begun: json!({
                "sequence": 8, "time": "2026-11-22T13:05:30.000000Z", "record": "attach_refused",
                "tool": "mail", "target": "unit mail.service", "reason": "holes",
                "why": "process 7 keeps CAP_NET_RAW", "caller": {"uid": 0, "gid": 0, "pid": 1},
            }),
            ended: None,
            outcome: "holes".to_owned(),
        };
        expect!["2026-11-22T13:05:30.000000Z 8 attach_refused uid 0: mail unit mail.service -> holes (process 7 keeps CAP_NET_RAW)"]
            .assert_eq(&line(&found));
    }
}
