//! Paths: what can be read, written and executed, and by which name.

use std::{fs, os::unix::fs::PermissionsExt};

use super::{
    probe::{OTHER, check, row},
    room::{USR, policy, with_room},
};

#[test]
fn nothing_of_the_host_is_there_but_the_listed_paths() {
    with_room(async |room| {
        let rows = [
            row("run", "os.stat('/run') and None", "ENOENT", "ok"),
            row("sys", "os.stat('/sys') and None", "ENOENT", "ok"),
            row("root_home", "os.stat('/root') and None", "ENOENT", "ok"),
            row("var", "os.stat('/var') and None", "ENOENT", "ok"),
            row("shadow", "open('/etc/shadow') and None", "ENOENT", "ok"),
            row("hosts", "open('/etc/hosts') and None", "ok", "ok"),
            row("usr", "os.listdir('/usr/bin') and None", "ok", "ok"),
            row("disk", "open('/dev/vda') and None", "ENOENT", OTHER),
            row("kmsg", "open('/dev/kmsg') and None", "ENOENT", "ok"),
            row("null", "open('/dev/null', 'r+b', 0) and None", "ok", "ok"),
            row(
                "random",
                "open('/dev/urandom', 'rb').read(1) and None",
                "ok",
                "ok",
            ),
            row(
                "host_name",
                "os.uname().nodename == 'worker'",
                "True",
                "False",
            ),
        ];
        check(room, &policy(USR), &rows).await;
    });
}

#[test]
fn writes_stay_in_the_workdir() {
    with_room(async |room| {
        let rows = [
            row(
                "work",
                "os.getcwd() == '/workdir' and open('x', 'w') and None",
                "ok",
                "False",
            ),
            row("tmp", "tempfile.TemporaryFile() and None", "ok", "ok"),
            row(
                "shm",
                "open('/dev/shm/fence-x', 'w') and os.unlink('/dev/shm/fence-x')",
                "ok",
                "ok",
            ),
            row(
                "usr",
                "os.open('/usr/bin/fence-x', os.O_CREAT | os.O_WRONLY) and os.unlink('/usr/bin/fence-x')",
                "EROFS",
                "ok",
            ),
            row(
                "etc",
                "os.open('/etc/fence-x', os.O_CREAT | os.O_WRONLY) and os.unlink('/etc/fence-x')",
                "EROFS",
                "ok",
            ),
            row(
                "root",
                "os.open('/fence-x', os.O_CREAT | os.O_WRONLY) and os.unlink('/fence-x')",
                "EROFS",
                "ok",
            ),
            row(
                "dev",
                "os.open('/dev/fence-x', os.O_CREAT | os.O_WRONLY) and os.unlink('/dev/fence-x')",
                "EROFS",
                "ok",
            ),
            row(
                "truncate",
                "os.truncate('/usr/bin/nonexistent', 0)",
                "ENOENT",
                "ENOENT",
            ),
            row(
                "own_memory",
                "open('/proc/self/mem', 'r+b') and None",
                "EACCES",
                "ok",
            ),
            row(
                "oom",
                "open('/proc/self/oom_score_adj', 'w') and None",
                "EACCES",
                "ok",
            ),
        ];
        check(room, &policy(USR), &rows).await;
    });
}

#[test]
fn dropped_files_and_memory_files_do_not_run() {
    with_room(async |room| {
        let scratch = room.shared("scratch");
        let drop_in = |folder: &str| {
            format!("cp /usr/bin/true {folder}/t && chmod 755 {folder}/t && {folder}/t")
        };
        let usr = policy(USR);
        for folder in ["/workdir", "/tmp", "/dev/shm"] {
            let direct = room.sh(&usr, &drop_in(folder)).await;
            assert_eq!(direct.exit.shell_code(), 126, "{direct:?}");
            let script =
                format!("cp /usr/bin/true {folder}/t; /lib64/ld-linux-x86-64.so.2 {folder}/t");
            let loader = room.sh(&usr, &script).await;
            assert_eq!(loader.exit.shell_code(), 127, "{loader:?}");
        }
        let scratch = scratch.display().to_string();
        let control = std::process::Command::new("/usr/bin/sh")
            .args(["-c", &drop_in(&scratch)])
            .status()
            .expect("a shell");
        assert!(control.success(), "{control}");
        let memory = "(lambda fd: (os.write(fd, open('/usr/bin/true', 'rb').read()), \
                      subprocess.run(['/proc/self/fd/%d' % fd], pass_fds=[fd], check=True)) and None)";
        let memory = format!("{memory}(os.memfd_create('x', 0))");
        let rows = [
            row("memory_file", memory.leak(), "EACCES", "ok"),
            row("exec_memory_file", "call(319, b'x', 0x10)", "EPERM", "ok"),
        ];
        check(room, &usr, &rows).await;
    });
}

#[test]
fn a_readable_file_is_not_executable() {
    let text = r#"
version = 1
tool = "fence-test"
[filesystem]
read = ["/usr"]
execute = ["/usr/bin/python3", "/usr/bin/true"]
"#;
    with_room(async |room| {
        let rows = [
            row(
                "listed",
                "subprocess.run(['/usr/bin/true'], check=True) and None",
                "ok",
                "ok",
            ),
            row(
                "unlisted",
                "subprocess.run(['/usr/bin/id'], check=True, stdout=subprocess.DEVNULL) and None",
                "EACCES",
                "ok",
            ),
        ];
        check(room, &policy(text), &rows).await;
    });
}

#[test]
fn set_id_bits_give_nothing() {
    with_room(async |room| {
        let folder = room.shared("tools");
        let tool = folder.join("id");
        fs::copy("/usr/bin/id", &tool).expect("a copy");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).expect("its mode");
        let text = format!(
            "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\"]\n\
             execute = [\"/usr\", \"{}\"]\n",
            folder.display()
        );
        let policy = policy(&text);
        let tool = tool.display().to_string();
        let inside = room.run(&policy, &[&tool, "-u"]).await;
        assert!(inside.stdout.trim().parse::<u32>().expect("a number") >= 0x7000_0000);
        let mut control = std::process::Command::new(&tool);
        std::os::unix::process::CommandExt::uid(&mut control, 65534);
        let outside = control.arg("-u").output().expect("the tool");
        assert_eq!(String::from_utf8_lossy(&outside.stdout).trim(), "0");
    });
}

#[test]
fn write_lists_open_a_folder_and_no_more() {
    with_room(async |room| {
        let folder = room.shared("data");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("its mode");
        let text = format!("{USR}\nwrite = [\"{}\"]\n", folder.display());
        let script = format!(
            "echo kept > {0}/kept && cp /usr/bin/true {0}/t && chmod 755 {0}/t && {0}/t",
            folder.display()
        );
        let ended = room.sh(&policy(&text), &script).await;
        assert_eq!(ended.exit.shell_code(), 126, "{ended:?}");
        let kept = fs::read_to_string(folder.join("kept")).expect("the file");
        assert_eq!(kept, "kept\n");
    });
}

#[test]
fn the_workdir_is_bounded() {
    let text = format!("{USR}\nworkdir_size = \"1MiB\"\n");
    with_room(async |room| {
        let policy = policy(&text);
        let fits = room
            .sh(&policy, "head -c 500000 /dev/zero > /workdir/x")
            .await;
        assert_eq!(fits.exit.shell_code(), 0, "{fits:?}");
        for folder in ["/workdir", "/tmp"] {
            let script = format!("head -c 2000000 /dev/zero > {folder}/x");
            let full = room.sh(&policy, &script).await;
            assert!(full.stderr.contains("No space left"), "{full:?}");
            let program = format!(
                "n = 0\ntry:\n while True: open('{folder}/%d' % n, 'w'); n += 1\n\
                 except OSError: print(n)"
            );
            let inodes = room.python(&policy, &program).await;
            let count: u32 = inodes.stdout.trim().parse().expect("a number");
            assert!(count < 2000, "{count}");
        }
    });
}
