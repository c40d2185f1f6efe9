//! Plays the demo: makes the lab, starts the agent, has the tools try, prints what came of it.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    process::Output,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lab::{
    Lab,
    agent::{Agent, CONFIGURATION, METRICS},
    binary::Scratch,
    dns::{self, NameServer, Reply},
    metrics,
    server::Listener,
    tls::TlsServers,
};
use serde_json::Value;

use crate::{
    attempts::{ATTEMPTS, Attempt, Expected, NOTEBOOK, WEATHER},
    table::{self, Line},
};

const LISTENERS: &[Listener] = &[
    Listener::Http(80),
    Listener::Http(8080),
    Listener::UdpEcho(9000),
];
const CERTIFICATES: &[&str] = &[
    "93.184.216.34,2606:2800:220:1::34,1.2.3.4",
    "site.example",
    "other.example",
];
/// Names, and where they lead in the world of the demo.
const NAMES: &[(&str, [u8; 4])] = &[
    ("site.example", [104, 16, 1, 1]),
    ("other.example", [104, 16, 1, 1]),
    ("rebind.example", [169, 254, 169, 254]),
];
const EVENT_WAIT: Duration = Duration::from_millis(400);
const CELL: usize = 46;

/// Plays it; what was not as it should be is added to `wrong`. Gives the agent's instance.
pub(crate) fn play(wrong: &mut Vec<String>) -> Result<String> {
    let lab = Lab::with_listeners(LISTENERS)?;
    let scratch = Scratch::new()?;
    let _sites = TlsServers::start(lab.world(), scratch.path(), &[443], CERTIFICATES)?;
    let names = NameServer::start(lab.world())?;
    for (name, address) in NAMES {
        names.set(name, Reply::addresses(name, &[IpAddr::from(*address)]));
    }
    scratch.write(CONFIGURATION, dns::CONFIGURATION)?;
    println!(
        "A lab: `host` (45.33.32.2, 2600:3c01::2) and `world`, which owns every other address.\n"
    );
    let agent = Agent::start_in(
        lab.host(),
        scratch,
        &[("weather", WEATHER), ("notebook", NOTEBOOK)],
    )?;
    let events = agent.events()?.stream();
    std::thread::sleep(EVENT_WAIT);
    let mut lines = Vec::new();
    for attempt in ATTEMPTS {
        lines.push(perform(&lab, &agent, &events, attempt, wrong)?);
    }
    table::print(&lines);
    print_proof(&lab, wrong)?;
    print_asked(&names, wrong);
    print_metrics(&lab)?;
    drop(events);
    let instance = agent.instance().to_owned();
    wrong.extend(
        agent
            .end()?
            .into_iter()
            .map(|what| format!("left behind: {what}")),
    );
    Ok(instance)
}

fn perform(
    lab: &Lab,
    agent: &Agent,
    events: &Receiver<Value>,
    attempt: &Attempt,
    wrong: &mut Vec<String>,
) -> Result<Line> {
    while events.try_recv().is_ok() {}
    let output = agent.run(attempt.tool, &[attempt.argument])?;
    let wants_event = !matches!(attempt.expected, Expected::Absent(_) | Expected::Shown(_));
    let event = if wants_event {
        telling(events, attempt)
    } else {
        None
    };
    let (verdict, reason) = match (&event, attempt.expected) {
        (Some(event), _) => (word(event, "outcome"), because(event)),
        (None, Expected::Absent(why)) => ("deny".to_owned(), why.to_owned()),
        (None, Expected::Shown(why)) => ("-".to_owned(), why.to_owned()),
        (None, _) => ("-".to_owned(), "no event".to_owned()),
    };
    let is_right = match attempt.expected {
        Expected::Allowed => output.status.success() && verdict == "allow",
        Expected::Refused(why) => {
            !output.status.success() && verdict == "deny" && reason == why && silent(lab, attempt)?
        }
        Expected::Absent(_) => !output.status.success(),
        Expected::Shown(_) => output.status.success(),
    };
    if !is_right {
        wrong.push(format!(
            "{}: {}: {verdict}, {reason}\n{}{}",
            attempt.tool,
            attempt.what,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(Line {
        cells: [
            attempt.tool.to_owned(),
            attempt.what.to_owned(),
            came_back(&output),
            verdict,
            reason,
        ],
    })
}

/// The event that the attempt is about: the refusal it expects, else the last one.
fn telling(events: &Receiver<Value>, attempt: &Attempt) -> Option<Value> {
    let until = Instant::now() + EVENT_WAIT;
    let mut last = None;
    while let Ok(event) = events.recv_timeout(until.saturating_duration_since(Instant::now())) {
        let is_it = match attempt.expected {
            Expected::Allowed => word(&event, "outcome") == "allow",
            Expected::Refused(why) => word(&event, "reason") == why,
            Expected::Absent(_) | Expected::Shown(_) => false,
        };
        if is_it {
            return Some(event);
        }
        last = Some(event);
    }
    last
}

fn word(event: &Value, key: &str) -> String {
    event
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn because(event: &Value) -> String {
    let rule = word(event, "rule");
    // A refusal may name the rule that it falls under: the reason says more.
    if rule.is_empty() || word(event, "outcome") == "deny" {
        word(event, "reason")
    } else {
        rule
    }
}

fn came_back(output: &Output) -> String {
    let text = if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    };
    let text = String::from_utf8_lossy(text);
    let line = if output.status.success() {
        text.lines().next()
    } else {
        text.lines().rfind(|line| !line.trim().is_empty())
    };
    let line = line.unwrap_or_default().replace(['\t', '\x1b'], " ");
    if line.chars().count() <= CELL {
        return line;
    }
    line.chars().take(CELL - 1).chain(['…']).collect()
}

fn silent(lab: &Lab, attempt: &Attempt) -> Result<bool> {
    if attempt.address.is_empty() {
        return Ok(true);
    }
    let address: IpAddr = attempt.address.parse().context("an address of the table")?;
    Ok(lab.arrived_at(address)? == 0)
}

/// What the other end of the wire has seen.
fn print_proof(lab: &Lab, wrong: &mut Vec<String>) -> Result<()> {
    println!("\nWhat arrived at the other end of the wire, by address:");
    let mut addresses: Vec<(&str, bool)> = ATTEMPTS
        .iter()
        .filter(|attempt| !attempt.address.is_empty())
        .map(|attempt| (attempt.address, attempt.expected == Expected::Allowed))
        .collect();
    addresses.sort_by_key(|(_, is_allowed)| !is_allowed);
    let mut told = BTreeSet::new();
    addresses.retain(|(address, _)| told.insert(*address));
    for (text, is_allowed) in addresses {
        let address: IpAddr = text.parse().context("an address of the table")?;
        let packets = lab.arrived_at(address)?;
        let listed = if is_allowed { "listed" } else { "not listed" };
        println!("  {text:<22} {packets:>4} packets  ({listed})");
        if (packets > 0) != is_allowed {
            wrong.push(format!("{text}: {packets} packets, {listed}"));
        }
    }
    Ok(())
}

/// What the name server outside has heard of.
fn print_asked(names: &NameServer, wrong: &mut Vec<String>) {
    let asked = names.asked();
    let distinct: BTreeSet<_> = asked.iter().map(|asked| asked.name.as_str()).collect();
    println!(
        "\nWhat the name server outside was asked: {} questions for {} names; for names below \
         `strange.example`, which no policy lists: {}.",
        asked.len(),
        distinct.len(),
        usize::from(names.knows_of("strange.example")),
    );
    if names.knows_of("strange.example") {
        wrong.push("a name that no policy lists has left the host".to_owned());
    }
}

fn print_metrics(lab: &Lab) -> Result<()> {
    println!("\nWhat Prometheus would scrape at http://{METRICS}/metrics (without empty series):");
    let text = metrics::get(lab.host(), METRICS, "/metrics")?;
    for line in text.lines() {
        let is_bucket = line.contains("_bucket{");
        let is_empty = line.ends_with(" 0");
        if !line.starts_with('#') && !is_bucket && !is_empty {
            println!("  {line}");
        }
    }
    Ok(())
}
