//! What an attacker tries, row by row: one table for the control, the kernel hooks and the fence.
//!
//! Every row is first done bare, where it must work and be seen to arrive. Then the same script runs
//! under the hooks alone, as root and without seccomp, and once more inside the whole fence.

use std::{net::IpAddr, time::Duration};

use lab::{Lab, prober::Answer, recorder::Packet};

mod allowed;
mod elsewhere;
pub(crate) mod record;
mod sockets;
mod wire;

/// Where a row's packets would be seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// At one of these addresses of the world.
    World(&'static [&'static str]),
    /// At a server of the host itself.
    Host,
    /// No packet is part of it: the call's result is all there is.
    Nowhere,
}

/// What must come of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It works, and arrives.
    Works,
    /// The kernel refuses a call with one of these, and nothing arrives.
    Refused(&'static [&'static str]),
    /// Whatever the calls say, nothing arrives.
    Silent,
    /// No hook sees it: another layer answers for it.
    Unseen,
    /// It works unless this kernel lacks what it is about.
    MayLack,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What it is about.
    pub(crate) name: &'static str,
    /// What the prober does.
    pub(crate) script: &'static str,
    /// Where it would be seen.
    pub(crate) arrival: Arrival,
    /// Without any fence.
    pub(crate) bare: Outcome,
    /// Under the kernel hooks alone.
    pub(crate) hooks: Outcome,
    /// Inside the whole fence.
    pub(crate) fence: Outcome,
}

impl Row {
    /// A row that works without a fence and is refused by both.
    const fn refused(
        name: &'static str,
        script: &'static str,
        arrival: Arrival,
        hooks: Outcome,
        fence: Outcome,
    ) -> Self {
        Self {
            name,
            script,
            arrival,
            bare: Outcome::Works,
            hooks,
            fence,
        }
    }

    /// The same row where the kernel may lack what it is about.
    const fn lackable(self) -> Self {
        Self {
            bare: Outcome::MayLack,
            ..self
        }
    }
}

/// A connect or send that is refused at once.
const EPERM: Outcome = Outcome::Refused(&["EPERM"]);
/// A kind of socket that is not made.
const NO_SOCKET: Outcome =
    Outcome::Refused(&["EACCES", "EPERM", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"]);
/// A family or kind that seccomp answers for.
const NO_FAMILY: Outcome = Outcome::Refused(&[
    "EAFNOSUPPORT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
    "EPERM",
    "EACCES",
]);
/// An option that seccomp or the lack of capabilities answers for.
const NO_OPTION: Outcome = Outcome::Refused(&["EPERM", "ENOPROTOOPT", "EACCES"]);

/// The rows of every kind.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    allowed::ROWS
        .iter()
        .chain(elsewhere::ROWS)
        .chain(sockets::ROWS)
        .chain(wire::ROWS)
}

/// Rows about this host and about ranges that no mode opens.
pub(crate) fn special() -> impl Iterator<Item = &'static Row> {
    elsewhere::ROWS.iter().filter(|row| {
        const WORDS: &[&str] = &[
            "metadata",
            "private",
            "shared",
            "reserved",
            "documentation",
            "unique local",
            "local",
            "loopback",
            "unspecified",
            "host's",
            "multicast",
            "broadcast to all",
            "6to4",
            "teredo",
            "port 53",
            "door",
        ];
        WORDS.iter().any(|word| row.name.contains(word))
    })
}

/// The policy that the rows are written against; `{program}` is the prober's folder.
pub(crate) const POLICY: &str = r#"
version = 1
tool = "prober"
description = "What the rows of the hook table may reach"

[worker]
command = ["{program}/prober"]
protocol = "exec"

[[egress.allow]]
cidr = "93.184.216.34/32"
ports = [80, 443, 8443, 7100]

[[egress.allow]]
cidr = "93.184.216.34/32"
protocol = "udp"
ports = [443, 9000, 7100]

[[egress.allow]]
cidr = "2606:2800:220:1::/64"
ports = [443]

[[egress.allow]]
cidr = "2606:2800:220:1::/64"
protocol = "udp"
ports = [443]

[[egress.allow]]
cidr = "185.199.108.0/22"
ports = ["8440-8449"]

[[egress.allow_private]]
cidr = "10.20.0.5/32"
protocol = "tcp"
ports = [5432]
reason = "reporting database"

[filesystem]
read = ["/usr"]
execute = ["{program}"]
"#;

/// Packets that the kernel sends of itself in any namespace: neighbour discovery and group reports.
fn is_noise(packet: &Packet) -> bool {
    match packet.destination {
        IpAddr::V4(v4) => packet.protocol == 2 || v4 == lab::net::WORLD_V4,
        IpAddr::V6(v6) => v6.is_multicast() && matches!(packet.protocol, 0 | 58),
    }
}

/// How often a row has been seen to arrive.
pub(crate) fn arrivals(lab: &Lab, host: &lab::server::Servers, arrival: Arrival) -> u64 {
    match arrival {
        Arrival::World(addresses) => {
            let addresses: Vec<IpAddr> = addresses
                .iter()
                .map(|address| address.parse().expect("an address of the table"))
                .collect();
            lab.count(|packet| !is_noise(packet) && addresses.contains(&packet.destination))
                .expect("the recorder answers")
        }
        Arrival::Host => host
            .all()
            .values()
            .map(|seen| seen.connections + seen.datagrams)
            .sum(),
        Arrival::Nowhere => 0,
    }
}

/// Whether the outcome is the one that was asked for; else what is wrong.
pub(crate) fn judge(
    row: &Row,
    wanted: Outcome,
    answer: &Answer,
    arrived: u64,
) -> Result<(), String> {
    let told = format!("{}: {answer:?}, {arrived} arrived", row.name);
    let evidence = !matches!(row.arrival, Arrival::Nowhere);
    match wanted {
        Outcome::Works if !answer.ok => Err(format!("must work: {told}")),
        Outcome::Works if evidence && arrived == 0 => Err(format!("must arrive: {told}")),
        Outcome::Refused(errnos) if answer.ok || !errnos.contains(&answer.errno()) => {
            Err(format!("must be refused with {errnos:?}: {told}"))
        }
        Outcome::Refused(_) | Outcome::Silent if arrived != 0 => {
            Err(format!("must not arrive: {told}"))
        }
        Outcome::MayLack if !answer.ok && !lacks(answer) => Err(format!("must work: {told}")),
        Outcome::Works
        | Outcome::Refused(_)
        | Outcome::Silent
        | Outcome::Unseen
        | Outcome::MayLack => Ok(()),
    }
}

fn lacks(answer: &Answer) -> bool {
    matches!(
        answer.errno(),
        "EAFNOSUPPORT" | "EPROTONOSUPPORT" | "ESOCKTNOSUPPORT" | "ENOENT" | "ENODEV" | "EINVAL"
    )
}

/// How often a row has been seen to arrive before it is tried: the last acknowledgements of the row
/// before it are let pass.
fn quiet(lab: &Lab, host: &lab::server::Servers, arrival: Arrival) -> u64 {
    let mut last = arrivals(lab, host, arrival);
    loop {
        std::thread::sleep(Duration::from_millis(2));
        let now = arrivals(lab, host, arrival);
        if now == last {
            return now;
        }
        last = now;
    }
}

/// What holds the prober.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Under {
    /// Nothing: the control.
    Nothing,
    /// The kernel hooks alone.
    Hooks,
    /// The whole fence.
    Fence,
}

impl Under {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Hooks => "hooks",
            Self::Fence => "fence",
        }
    }

    const fn wanted(self, row: &Row) -> Outcome {
        match self {
            Self::Nothing => row.bare,
            Self::Hooks => row.hooks,
            Self::Fence => row.fence,
        }
    }
}

/// Does every row by `ask`, writes down what came of it, and fails where one is not as it must be.
pub(crate) fn check(
    lab: &Lab,
    host: &lab::server::Servers,
    under: Under,
    mut ask: impl FnMut(&str) -> Answer,
) {
    let mut complaints = Vec::new();
    for row in all() {
        let wanted = under.wanted(row);
        let (answer, arrived) = done(lab, host, row, &mut ask);
        let came = record::told(row, wanted, &answer, arrived);
        record::note(under.name(), row.name, &came);
        complaints.extend(judge(row, wanted, &answer, arrived).err());
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The answer to a row's script, and how often it arrived.
fn done(
    lab: &Lab,
    host: &lab::server::Servers,
    row: &Row,
    ask: &mut impl FnMut(&str) -> Answer,
) -> (Answer, u64) {
    let before = quiet(lab, host, row.arrival);
    let answer = ask(row.script);
    (answer, arrivals(lab, host, row.arrival) - before)
}

/// The complaints about some rows, done by `ask`, that must all end in the same way.
pub(crate) fn complaints(
    lab: &Lab,
    host: &lab::server::Servers,
    rows: impl Iterator<Item = &'static Row>,
    wanted: Outcome,
    mut ask: impl FnMut(&str) -> Answer,
) -> Vec<String> {
    rows.filter_map(|row| {
        let (answer, arrived) = done(lab, host, row, &mut ask);
        judge(row, wanted, &answer, arrived).err()
    })
    .collect()
}
