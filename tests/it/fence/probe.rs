//! Rows of acts, tried inside a fence and, as control, outside as root.

use std::{collections::BTreeMap, fmt::Write as _, process::Command, sync::Arc};

use agent::policy::compiled::CompiledPolicy;

use super::room::Room;

/// What the acts may use.
pub(crate) const PRELUDE: &str = r"
import array, ctypes, errno, fcntl, mmap, os, resource, signal, socket, struct, subprocess, sys, tempfile, threading
libc = ctypes.CDLL(None, use_errno=True)
def word(value):
    return ctypes.c_long(value) if isinstance(value, int) else value
def call(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(word(number), *map(word, arguments)) < 0:
        raise OSError(ctypes.get_errno(), 'call')
def clone(flags):
    pid = libc.syscall(56, flags | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), 'clone')
    os.waitpid(pid, 0)
def sock(family, kind=socket.SOCK_STREAM, protocol=0):
    socket.socket(family, kind, protocol).close()
def option(level, name, value=b'\1\0\0\0', family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.setsockopt(level, name, value)
def attempt(act):
    try:
        answer = act()
        return 'ok' if answer is None else str(answer)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except subprocess.CalledProcessError as error:
        return 'ends %d' % error.returncode
    except Exception as error:
        return type(error).__name__
";

/// An act in Python, and what it says inside and outside.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) act: &'static str,
    pub(crate) inside: &'static str,
    pub(crate) outside: &'static str,
}

/// A control that depends on the host: anything but what the inside says.
pub(crate) const OTHER: &str = "anything else";

/// A row.
pub(crate) const fn row(
    name: &'static str,
    act: &'static str,
    inside: &'static str,
    outside: &'static str,
) -> Row {
    Row {
        name,
        act,
        inside,
        outside,
    }
}

/// Tries every row on both sides and compares all at once.
pub(crate) async fn check(room: &Room, policy: &Arc<CompiledPolicy>, rows: &[Row]) {
    check_with(room, policy, "", rows).await;
}

/// The same where the acts use more than the prelude.
pub(crate) async fn check_with(
    room: &Room,
    policy: &Arc<CompiledPolicy>,
    definitions: &str,
    rows: &[Row],
) {
    let program = program(definitions, rows);
    let inside = room.python(policy, &program).await;
    let control = Command::new("/usr/bin/python3")
        .args(["-c", &program])
        .output()
        .expect("python");
    let outside = String::from_utf8_lossy(&control.stdout).into_owned();
    let found = (answers(&inside.stdout), answers(&outside));
    let mut wrong = String::new();
    for Row {
        name,
        inside: wanted,
        outside: control,
        ..
    } in rows
    {
        let got = found.0.get(*name).map_or("nothing", String::as_str);
        if got != *wanted {
            writeln!(wrong, "{name}: inside `{got}`, not `{wanted}`").expect("text");
        }
        let got = found.1.get(*name).map_or("nothing", String::as_str);
        let right = if *control == OTHER {
            got != *wanted && got != "nothing"
        } else {
            got == *control
        };
        if !right {
            writeln!(wrong, "{name}: control `{got}`, not `{control}`").expect("text");
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}\ninside: {inside:?}\ncontrol: {}",
        String::from_utf8_lossy(&control.stderr)
    );
}

fn program(definitions: &str, rows: &[Row]) -> String {
    let mut program = format!("{PRELUDE}{definitions}\n");
    for Row { name, act, .. } in rows {
        writeln!(
            program,
            "print('{name}', attempt(lambda: {act}), sep='\\t', flush=True)"
        )
        .expect("text");
    }
    program
}

pub(crate) fn answers(output: &str) -> BTreeMap<String, String> {
    output
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, answer)| (name.to_owned(), answer.to_owned()))
        .collect()
}
