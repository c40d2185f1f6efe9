//! `stockade status`: how an agent is.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{
    Failure, Target, ask,
    terminal::{harmless, table},
};
use crate::{
    daemon::{
        Entry,
        control::protocol::{
            IssuerStatus, PlaceStatus, PolicyStatus, Reply, Request, ResolverStatus, SelfTest,
            Status,
        },
    },
    exit::Code,
};

/// Digits of a digest for people.
const DIGEST_DIGITS: usize = 12;

/// Shows how the agent is: policies in force, sessions, losses, and what is wrong.
///
/// Ends with 1 where something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  stockade status --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Reply::Status(status) = ask(&arguments.target, &Request::Status {})? else {
        return Err(Failure::odd_answer());
    };
    let mut stdout = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &status)?;
        writeln!(stdout)?;
    } else {
        stdout.write_all(page(&status).as_bytes())?;
    }
    let code = if status.ailments.is_empty() {
        Code::Ok
    } else {
        Code::Finding
    };
    Ok(code.into())
}

fn page(status: &Status) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    let lines = [
        ("instance", status.instance.clone()),
        ("version", status.version.clone()),
        (
            "process",
            format!("{}, up {} s", status.pid, status.uptime_seconds),
        ),
        (
            "memory",
            format!("{} MiB", status.resident_bytes / MEBIBYTE),
        ),
        ("cgroup", status.cgroup.clone()),
        ("policies", status.policy_folder.clone()),
        (
            "set",
            status.policy_set.as_ref().map_or_else(String::new, set),
        ),
        (
            "sessions",
            format!("{} of {}", status.sessions, status.sessions_max),
        ),
        ("places", places(status.places)),
        ("resolver", resolver(&status.resolver)),
        (
            "grants",
            format!(
                "{} addresses, {} refused for lack of room",
                status.resolver.grants, status.resolver.grants_refused
            ),
        ),
        (
            "events",
            format!(
                "{} lost, {} suppressed",
                status.events_lost, status.events_suppressed
            ),
        ),
    ];
    let facts = lines
        .map(|(name, value)| format!("{name:<9} {value}\n"))
        .concat();
    let head = [
        "tool",
        "mode",
        "generation",
        "rules",
        "sessions",
        "self-test",
        "digest",
        "description",
    ];
    let rows: Vec<_> = status.policies.iter().map(row).collect();
    let issuers: Vec<_> = status.issuers.iter().map(issuer).collect();
    let issuers = if issuers.is_empty() {
        String::new()
    } else {
        let head = ["issuer", "keys from", "keys", "age", "last error"];
        format!("\n{}", table(&head, &issuers))
    };
    let lines = |word: &str, texts: &[String]| -> String {
        let lines = texts.iter().map(|text| format!("\n{word}: {text}\n"));
        lines.collect()
    };
    let warnings = lines("WARNING", &status.warnings);
    let ailments = lines("wrong", &status.ailments);
    let policies = table(&head, &rows);
    format!("{facts}\n{policies}{issuers}{warnings}{ailments}")
}

fn set(entry: &Entry) -> String {
    let Entry {
        digest,
        time,
        origin,
        uid,
        tools: _,
        rules: _,
    } = entry;
    let digits = digest.get(..DIGEST_DIGITS).unwrap_or(digest);
    let by = uid.map_or_else(String::new, |uid| format!(" by uid {uid}"));
    format!("{digits}, {}{by}, {time}", origin.word())
}

fn places(places: PlaceStatus) -> String {
    let PlaceStatus {
        waiting,
        max,
        made,
        failed,
        used,
        missed,
    } = places;
    if max == 0 {
        return "none made ahead".to_owned();
    }
    format!(
        "{waiting} of {max} wait: {made} made, {failed} not, {used} used, {missed} launches found none"
    )
}

fn resolver(resolver: &ResolverStatus) -> String {
    let ResolverStatus {
        answers,
        port,
        upstreams,
        upstream_queries,
        upstream_failures,
        cache_hits,
        waiting,
        grants: _,
        grants_refused: _,
    } = resolver;
    let state = if *answers {
        format!("port {port} of loopback")
    } else {
        "does not answer".to_owned()
    };
    format!(
        "{state}, asks {upstreams}: {upstream_queries} asked, {upstream_failures} not answered, {cache_hits} from the cache, {waiting} waiting"
    )
}

fn self_test(outcome: &SelfTest) -> String {
    match outcome {
        SelfTest::NotYet => "not yet".to_owned(),
        SelfTest::Passed => "passed".to_owned(),
        SelfTest::Slipped(slipped) => format!("FAILED: {slipped}"),
    }
}

fn issuer(issuer: &IssuerStatus) -> Vec<String> {
    let IssuerStatus {
        issuer,
        source,
        keys,
        age_seconds,
        error,
    } = issuer;
    let age = age_seconds.map_or_else(|| "-".to_owned(), |age| format!("{age} s"));
    // Of a hint, only what is wrong fits a line.
    let error = error.as_deref().and_then(|error| error.lines().next());
    vec![
        harmless(issuer),
        source.clone(),
        keys.to_string(),
        age,
        harmless(error.unwrap_or("-")),
    ]
}

fn row(policy: &PolicyStatus) -> Vec<String> {
    vec![
        policy.tool.clone(),
        policy.mode.clone(),
        policy.generation.to_string(),
        policy.rules.to_string(),
        policy.sessions.to_string(),
        self_test(&policy.self_test),
        policy.digest.chars().take(DIGEST_DIGITS).collect(),
        harmless(&policy.description),
    ]
}
