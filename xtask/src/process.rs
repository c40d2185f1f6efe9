//! Runs programs: said before, named when they fail, ended when they take too long.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::tree;

/// The cargo that runs this program, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(tree::root());
    command
}

/// Runs to the end with this terminal; an error when it can not start or does not succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = show(command);
    eprintln!("+ {line}");
    let status = command
        .status()
        .with_context(|| format!("`{line}` can not be started"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// What a quick command prints on its standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{line}` can not be started"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` prints no UTF-8"))
}

/// How a watched program ended.
pub(crate) enum Ended {
    /// By itself.
    Status(ExitStatus),
    /// It was ended, with all its descendants, because it took longer than this.
    TooLong(Duration),
}

/// Runs to the end, passes its standard output through and shows each line of it to `line`.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> anyhow::Result<Ended> {
    let shown = show(command);
    eprintln!("+ {shown}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{shown}` can not be started"))?;
    let pipe = child.stdout.take().context("the pipe was asked for")?;
    let (done, finished) = mpsc::channel::<()>();
    let id = child.id();
    let watchdog = thread::spawn(move || {
        let late = finished.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            end_tree(id);
        }
        late
    });
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()?;
        line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    let status = wait(&mut child, &shown)?;
    drop(done);
    let late = watchdog.join().unwrap_or(false);
    Ok(if late {
        Ended::TooLong(limit)
    } else {
        Ended::Status(status)
    })
}

fn wait(child: &mut Child, shown: &str) -> anyhow::Result<ExitStatus> {
    child
        .wait()
        .with_context(|| format!("`{shown}` can not be waited for"))
}

/// Kills a process and what descends from it, children first looked up while the parent is alive:
/// a process group of its own would take ctrl-C away from the program.
fn end_tree(id: u32) {
    let mut all = vec![id];
    let mut next = 0;
    while let Some(&parent) = all.get(next) {
        all.extend(children(parent));
        next += 1;
    }
    for id in all {
        // A process that is gone already is what we want.
        drop(
            Command::new("kill")
                .args(["-KILL", &id.to_string()])
                .status(),
        );
    }
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn show(command: &Command) -> String {
    let program = OsStr::new(command.get_program());
    let name = std::path::Path::new(program).file_name().unwrap_or(program);
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
