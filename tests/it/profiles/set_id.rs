//! Modes by which a program runs as the file's owner, on files that stay when their session has ended.
//! By the numbers of 64-bit x86.

use std::{fs, os::unix::fs::PermissionsExt as _};

use lab::binary::Scratch;

use super::with_profile;
use crate::fence::{
    probe::{OTHER, Row, check_with, row},
    room::{USR, policy, with_room},
};

/// A file that stays on the host, made and changed in every way that has a mode. `{}` is the folder.
const SET_ID: &str = r"
def kept(act, name='file'):
    path = '{}/' + name
    if os.path.lexists(path):
        os.unlink(path)
    try:
        act(path.encode())
        mode = os.stat(path).st_mode
        return 'set' if mode & 0o6000 else 'plain'
    finally:
        if os.path.lexists(path):
            os.unlink(path)
def changed_to(number, mode, *before):
    def act(path):
        with open(path, 'w') as file:
            where = file.fileno() if before == ('fd',) else path
            arguments = (-100, where) if before == ('at',) else (where,)
            call(number, *arguments, mode, 0)
    return act
def opened(flags, mode):
    return lambda path: os.close(os.open(path, flags, mode))
def opened2(path):
    how = struct.pack('QQQ', os.O_CREAT | os.O_WRONLY, 0o4755, 0)
    call(437, -100, path, how, 24)
";

const KEPT: &[Row] = &[
    row("chmod", "kept(changed_to(90, 0o4755))", "EPERM", "set"),
    row(
        "chmod: of a group",
        "kept(changed_to(90, 0o2755))",
        "EPERM",
        "set",
    ),
    row(
        "chmod: neither",
        "kept(changed_to(90, 0o1755))",
        "plain",
        "plain",
    ),
    row(
        "chmod: upper half",
        "kept(changed_to(90, 0o4755 | 1 << 32))",
        "EPERM",
        "set",
    ),
    row(
        "fchmod",
        "kept(changed_to(91, 0o4755, 'fd'))",
        "EPERM",
        "set",
    ),
    row(
        "fchmodat",
        "kept(changed_to(268, 0o4755, 'at'))",
        "EPERM",
        "set",
    ),
    row(
        "fchmodat2",
        "kept(changed_to(452, 0o4755, 'at'))",
        "EPERM",
        "set",
    ),
    row(
        "creat",
        "kept(lambda path: call(85, path, 0o4755))",
        "EPERM",
        "set",
    ),
    row(
        "open",
        "kept(lambda path: call(2, path, os.O_CREAT | 1, 0o4755))",
        "EPERM",
        "set",
    ),
    row(
        "openat",
        "kept(opened(os.O_CREAT | 1, 0o4755))",
        "EPERM",
        "set",
    ),
    row(
        "openat: neither",
        "kept(opened(os.O_CREAT | 1, 0o755))",
        "plain",
        "plain",
    ),
    row(
        "openat: of what is there, a mode of no meaning",
        "kept(lambda path: (open(path, 'w').close(), call(257, -100, path, 0, 0o6755)))",
        "plain",
        "plain",
    ),
    row(
        "openat: without a name",
        "opened(os.O_TMPFILE | 1, 0o4755)('{}')",
        "EPERM",
        "ok",
    ),
    row("openat2", "kept(opened2)", "ENOSYS", "set"),
    row(
        "mknod",
        "kept(lambda path: call(133, path, 0o104755, 0))",
        "EPERM",
        "set",
    ),
    row(
        "mknod: neither",
        "kept(lambda path: call(133, path, 0o100755, 0))",
        "plain",
        "plain",
    ),
    row(
        "mknodat",
        "kept(lambda path: call(259, -100, path, 0o104755, 0))",
        "EPERM",
        "set",
    ),
];

/// The session's user is another session's later: a program that ran as that user would be it.
#[test]
fn what_stays_on_the_host_runs_as_nobody_else() {
    let scratch = Scratch::new().expect("a folder");
    let kept = scratch.path().join("kept");
    fs::create_dir(&kept).expect("a folder");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o777)).expect("its mode");
    let folder = kept.display().to_string();
    let definitions = SET_ID.replace("{}", &folder);
    let filesystem = format!("{USR}write = [\"{folder}\"]\n");
    let listed = policy(&format!(
        "{filesystem}\n[syscalls]\nprofile = \"default\"\n"
    ));
    let rows: Vec<Row> = KEPT
        .iter()
        .map(
            |Row {
                 name,
                 act,
                 inside,
                 outside,
             }| Row {
                name,
                act: Box::leak(act.replace("{}", &folder).into_boxed_str()),
                inside,
                outside,
            },
        )
        .collect();
    with_room(async |room| check_with(room, &listed, &definitions, &rows).await);
    // What does not stay may have any mode: archives are unpacked with theirs.
    let definitions = SET_ID.replace("{}", "/workdir");
    let workdir = [row("chmod", "kept(changed_to(90, 0o4755))", "set", OTHER)];
    with_room(async |room| {
        check_with(room, &with_profile("default"), &definitions, &workdir).await;
    });
}
