//! A thousand sessions, one after the other, over the control socket: what the agent, its launcher and
//! its template hold afterwards is what they held before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, IoSlice},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use lab::{
    Lab,
    agent::{Agent, CONFIGURATION},
    binary::Scratch,
    cgroup, leftovers,
    patience::scaled,
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::Value;

use crate::counts;

const POLICY: &str = r#"
version = 1
tool = "true"
description = "Ends at once"
[worker]
command = ["/usr/bin/true"]
protocol = "exec"
[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]
"#;
/// Sessions before the first look: pools and caches are full by then.
const WARM: u32 = 50;
/// What launcher and template may take more after a thousand sessions, KiB: less than one each.
const GROWTH_KIB_MAX: u64 = 512;
/// And the agent, which has threads, each with a heap of its own.
const AGENT_GROWTH_KIB_MAX: u64 = 8 * 1024;
/// The last session is told to be over before the last descriptor of it is closed.
const SETTLED: Duration = Duration::from_secs(20);
/// The place of the template among the processes.
const TEMPLATE: usize = 2;
/// How often the template keeps ready what a session is made of, and how many descriptors that is: two
/// mounts and a ruleset.
const LOTS_MAX: usize = 4;
const LOT_DESCRIPTORS: usize = 3;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Nothing changes over so many looks: it rests. A template that has given away its place makes ready what
/// the next one is made of, and on a busy machine begins late.
const QUIET: u32 = 8;

/// What one process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    name: String,
    pid: u32,
    descriptors: usize,
    mounts: Option<usize>,
}

#[test]
fn a_thousand_sessions_in_a_row_leave_nothing_behind() {
    let lab = Lab::unrecorded(&[]).expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    // One place waits for the next session, never more: both looks find just that one.
    let written = scratch.write(CONFIGURATION, "[sessions]\nahead = 1\n");
    written.expect("the configuration is written");
    let agent = Agent::start_in(lab.host(), scratch, &[("true", POLICY)]).expect("an agent");
    let socket = agent.control_socket();
    let status = agent.json("status").expect("the agent answers");
    let pid = status["pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.expect("its process");
    let mut uids = BTreeSet::new();
    for _ in 0..WARM {
        uids.insert(session(&socket));
    }
    let before = at_rest(&agent, pid, |_| true);
    let (memory, before_links) = (memory(pid), links(pid));
    assert_eq!(before.len(), 3, "agent, launcher and template: {before:?}");
    for _ in 0..counts::sessions_in_a_row() {
        uids.insert(session(&socket));
    }
    let after = at_rest(&agent, pid, |held| is_no_more(&before, held));
    let after_links = links(pid);
    assert!(
        is_no_more(&before, &after),
        "{before:?}, then {after:?}: {before_links:#?} {after_links:#?}"
    );
    for (place, ((name, before), (_, after))) in memory.iter().zip(self::memory(pid)).enumerate() {
        let max = if place == 0 {
            AGENT_GROWTH_KIB_MAX
        } else {
            GROWTH_KIB_MAX
        };
        assert!(
            after < before + max,
            "{name}: {before} KiB, then {after} KiB"
        );
    }
    let wanted = usize::try_from(WARM + counts::sessions_in_a_row()).expect("a count");
    assert_eq!(uids.len(), wanted, "a number rests before it is used again");
    for uid in uids {
        let alive = leftovers::workers_alive(uid..uid + 1).expect("/proc");
        assert_eq!(alive, Vec::<String>::new());
    }
    let cgroups = cgroup::sessions(agent.instance()).expect("cgroup v2");
    assert_eq!(cgroups, Vec::<std::path::PathBuf>::new());
    let run = fs::read_dir(Path::new("/run").join(agent.instance())).expect("its folder");
    let files: Vec<_> = run.flatten().map(|entry| entry.file_name()).collect();
    assert!(files.len() < 10, "{files:?}");
    assert_eq!(agent.end().expect("the agent ends"), Vec::<String>::new());
}

/// Whether the same processes hold what they held before. The template may have made ready what more of the
/// next sessions are made of: one lot more each time that it looked for a program, up to four.
fn is_no_more(before: &[Held], after: &[Held]) -> bool {
    let pairs = before.iter().zip(after).enumerate();
    let mut same = pairs.map(|(place, (before, after))| {
        let lots = if place == TEMPLATE { LOTS_MAX } else { 0 };
        let most = before.descriptors + lots * LOT_DESCRIPTORS;
        (&after.name, after.pid, after.mounts) == (&before.name, before.pid, before.mounts)
            && (before.descriptors..=most).contains(&after.descriptors)
    });
    before.len() == after.len() && same.all(|same| same)
}

/// What is held once the place for the next session waits and nothing more changes: what `wanted` asks
/// for, or the last that was seen.
fn at_rest(agent: &Agent, pid: u32, wanted: impl Fn(&Vec<Held>) -> bool) -> Vec<Held> {
    let until = Instant::now() + scaled(SETTLED);
    let (mut last, mut same) = (held(pid), 0);
    loop {
        thread::sleep(LOOK);
        let now = held(pid);
        let status = agent.json("status").expect("the agent answers");
        let waits = status.pointer("/places/waiting") == Some(&Value::from(1));
        same = if waits && now == last { same + 1 } else { 0 };
        if (same >= QUIET && wanted(&now)) || Instant::now() >= until {
            return now;
        }
        last = now;
    }
}

/// What each descriptor of the processes is, and how often: told where the counts differ.
fn links(root: u32) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for pid in tree(root) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let folder = fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in folder.into_iter().flatten().flatten() {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let kind = link.to_string_lossy();
            let kind = kind.split(':').next().unwrap_or_default();
            *all.entry(format!("{}: {kind}", name.trim())).or_insert(0) += 1;
        }
    }
    all
}

/// Runs a session to its reported end; its user.
fn session(socket: &Path) -> u32 {
    let null = fs::File::options().read(true).write(true).open("/dev/null");
    let null = null.expect("the null device");
    let stream = UnixStream::connect(socket).expect("the control socket");
    let request = "{\"request\":\"run\",\"tool\":\"true\",\"arguments\":[],\"counted\":false}\n";
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(request.as_bytes())],
        &[ControlMessage::ScmRights(&[null.as_raw_fd(); 3])],
        MsgFlags::empty(),
        None,
    )
    .expect("the request");
    let mut lines = BufReader::new(stream).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a reply").expect("a line");
        serde_json::from_str(&line).expect("json")
    };
    let started = next();
    let measures = started
        .pointer("/enforced/measures")
        .and_then(serde_json::Value::as_array);
    let user = measures.and_then(|all| all.iter().find(|measure| measure["name"] == "user"));
    let detail = user.and_then(|user| user["detail"].as_str());
    let uid = detail
        .and_then(|detail| detail.strip_prefix("uid and gid "))
        .and_then(|detail| detail.split(',').next())
        .and_then(|uid| uid.parse().ok());
    let ended = next();
    assert_eq!(
        ended.get("code").and_then(serde_json::Value::as_u64),
        Some(0),
        "{started} {ended}"
    );
    uid.unwrap_or_else(|| panic!("no user in {started}"))
}

/// A process and all below it, but the process 1 that waits for the next session: another one each time.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let place = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let mut all = everything(root);
    all.retain(|pid| place(*pid) == place(root));
    all
}

fn everything(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut seen = 0;
    while let Some(parent) = all.get(seen).copied() {
        seen += 1;
        // One that has ended in between has no threads.
        let threads = fs::read_dir(format!("/proc/{parent}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            // A thread that has ended in between has made nothing.
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// One that ends while it is looked at is none of them.
fn held(root: u32) -> Vec<Held> {
    tree(root).into_iter().filter_map(held_by).collect()
}

fn held_by(pid: u32) -> Option<Held> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let own = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    let shared = fs::read_link("/proc/self/ns/mnt").ok()? == own;
    Some(Held {
        name: fs::read_to_string(format!("/proc/{pid}/comm")).ok()?,
        pid,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        // What the host has mounted is not the agent's: other tests mount and unmount beside this one.
        mounts: (!shared).then(|| mounts.lines().count()),
    })
}

/// Private memory of each process, KiB.
fn memory(root: u32) -> Vec<(String, u64)> {
    tree(root)
        .into_iter()
        .map(|pid| {
            let kib = memory_of(pid).expect("its memory");
            (format!("process {pid}"), kib)
        })
        .collect()
}

/// Private memory of a process, KiB; none where it has ended.
pub(crate) fn memory_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
