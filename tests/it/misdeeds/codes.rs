//! Exit codes of what can not be executed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use lab::{Lab, binary::Scratch};

use super::{WALL, text};

/// A copy of a program with another loader of at most the same length.
fn with_loader(program: &Path, copy: &Path, loader: &str) {
    const LOADER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";
    let mut bytes = fs::read(program).expect("a program");
    let at = bytes
        .windows(LOADER.len())
        .position(|part| part == LOADER)
        .expect("its loader");
    let mut path = loader.as_bytes().to_vec();
    path.resize(LOADER.len(), 0);
    bytes[at..at + LOADER.len()].copy_from_slice(&path);
    fs::write(copy, bytes).expect("a copy");
    executable(copy, 0o755);
}

fn executable(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_can_not_be_executed_ends_as_shells_say_it() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let folder = scratch.path();
    let file = |name: &str, text: &str, mode| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file");
        executable(&path, mode);
    };
    let program = Path::new("/usr/bin/true");
    with_loader(program, &folder.join("no-loader"), "/usr/lib/no-loader.so");
    with_loader(program, &folder.join("bad-loader"), "/usr/bin/python3");
    // The kernel maps it, and its first instruction is no instruction.
    file("data", "no program at all\n", 0o755);
    file("shut", "#!/usr/bin/sh\nexit 9\n", 0o644);
    file("script", "#!/usr/bin/no-shell\n", 0o755);
    file("loop", &format!("#!{}/loop\n", folder.display()), 0o755);
    file("ok", "#!/usr/bin/sh\nexit 9\n", 0o755);
    let text = text("it", WALL, "").replace("{scratch}", &folder.display().to_string());
    let policy = scratch.write("it.toml", &text).expect("the policy");
    let code = |program: &str| {
        let mut command = Command::new(lab::binary::stockade().expect("the binary"));
        command
            .args(["run", "--policy"])
            .arg(&policy)
            .args(["--", program])
            .stdin(Stdio::null());
        let output = lab.host().enter(|| command.output());
        let output = output.expect("the namespace").expect("it runs");
        (output.status.code(), output)
    };
    for (name, wanted) in [
        ("ok", 9),
        ("absent", 127),
        ("no-loader", 127),
        ("script", 127),
        ("data", 126),
        ("shut", 126),
        ("loop", 126),
        (".", 126),
    ] {
        let (code, output) = code(&folder.join(name).display().to_string());
        assert_eq!(code, Some(wanted), "{name}: {output:?}");
    }
    // An interpreter that is a program of its own and no loader: whatever it does with what it gets,
    // the session ends, with its code or its signal.
    let (ended, output) = code(&folder.join("bad-loader").display().to_string());
    assert!(ended.is_some_and(|code| code != 0), "{output:?}");
    for (program, wanted) in [("no-such-program", 127), ("./relative", 125)] {
        let (code, output) = code(program);
        assert_eq!(code, Some(wanted), "{program}: {output:?}");
    }
}
