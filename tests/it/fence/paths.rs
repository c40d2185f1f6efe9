//! Listed paths by descriptor, the bounds of a session's own places, and what `/etc` holds.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{
    probe::{Row, check, row},
    room::{USR, policy, with_room},
};

#[test]
fn each_place_has_its_own_bounds() {
    let text = format!("{USR}\nworkdir_size = \"1MiB\"\ntmp_size = \"4MiB\"\ninodes = 40\n");
    with_room(async |room| {
        let policy = policy(&text);
        let script = "head -c 3000000 /dev/zero > /tmp/x && ! head -c 3000000 /dev/zero > x";
        let ended = room.sh(&policy, script).await;
        assert_eq!(ended.exit.shell_code(), 0, "{ended:?}");
        for folder in ["/workdir", "/tmp"] {
            let program = format!(
                "import os\nn = 0\ntry:\n while True: os.symlink('x', '{folder}/%d' % n); n += 1\n\
                 except OSError as error: print(n, error.strerror)"
            );
            let flood = room.python(&policy, &program).await;
            let (count, why) = flood.stdout.trim().split_once(' ').expect("two words");
            let count: u32 = count.parse().expect("a number");
            assert!((20..40).contains(&count), "{flood:?}");
            assert_eq!(why, "No space left on device");
        }
    });
}

#[test]
fn links_to_listed_paths_lead_where_they_led() {
    with_room(async |room| {
        let folder = room.shared("links");
        let real = folder.join("real/data");
        fs::create_dir_all(&real).expect("a folder");
        fs::write(real.join("file"), "content").expect("a file");
        for (name, to) in [
            ("inner", "real"),
            ("outer", "inner/data"),
            ("file", "outer/file"),
        ] {
            symlink(to, folder.join(name)).expect("a link");
        }
        let listed = folder.join("file").display().to_string();
        let both = format!(
            "version = 1\ntool = \"fence-test\"\n[filesystem]\n\
             read = [\"/usr\", \"{listed}\", \"{}\"]\nexecute = [\"/usr\"]\n",
            folder.join("outer").display()
        );
        // The folder around them is there, and was not listed.
        let script = format!("cat {listed} {0}/outer/file; ls {0}", folder.display());
        let ended = room.sh(&policy(&both), &script).await;
        assert_eq!(ended.stdout, "contentcontent", "{ended:?}");
        assert!(ended.stderr.contains("Permission denied"), "{ended:?}");

        let away = folder.join("away");
        symlink("/run", &away).expect("a link");
        let text = format!("{USR}write = [\"{}\"]\n", away.display());
        let refused = room
            .start(&policy(&text), &["/usr/bin/true"])
            .await
            .map(drop);
        let error = refused.expect_err("a link to `/run`").to_string();
        assert!(error.contains("`/run` of a worker is its own"), "{error}");

        let gone = folder.join("gone");
        let text = format!("{USR}write = [\"{}\"]\n", gone.display());
        let refused = room
            .start(&policy(&text), &["/usr/bin/true"])
            .await
            .map(drop);
        let error = refused.expect_err("nothing there").to_string();
        assert!(error.contains("filesystem.write"), "{error}");
        assert!(error.contains(&gone.display().to_string()), "{error}");
        assert!(error.contains("hint: "), "{error}");
    });
}

/// The listed folder and a link to `/run` change places all the time: a worker has the folder, or
/// there is no worker.
#[test]
fn a_link_that_is_swapped_in_changes_nothing() {
    with_room(async |room| {
        let folder = room.shared("swapped");
        let (listed, link) = (folder.join("listed"), folder.join("link"));
        fs::create_dir(&listed).expect("a folder");
        fs::write(listed.join("own"), "").expect("a file");
        symlink("/run", &link).expect("a link");
        let stop = Arc::new(AtomicBool::new(false));
        let swaps = {
            let (stop, listed, link) = (Arc::clone(&stop), listed.clone(), link.clone());
            std::thread::spawn(move || {
                let mut swaps = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    renameat2(
                        AT_FDCWD,
                        &listed,
                        AT_FDCWD,
                        &link,
                        RenameFlags::RENAME_EXCHANGE,
                    )
                    .expect("an exchange");
                    swaps += 1;
                    // Some launches see one of the two all the time they look.
                    if swaps.is_multiple_of(64) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                swaps
            })
        };
        let text = format!(
            "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\", \"{}\"]\n\
             execute = [\"/usr\"]\n",
            listed.display()
        );
        let policy = policy(&text);
        let (mut ran, mut refused, mut by_path) = (0, 0, 0);
        let script = format!("ls -A {}", listed.display());
        while ran + refused < 60 || ((ran == 0 || refused == 0) && ran + refused < 1_000) {
            // The control: whoever resolves first and opens later is led astray.
            if fs::symlink_metadata(&listed).is_ok_and(|found| found.is_dir())
                && fs::read_dir(&listed).is_ok_and(|mut found| {
                    !found.any(|entry| entry.is_ok_and(|entry| entry.file_name() == "own"))
                })
            {
                by_path += 1;
            }
            room.launcher.retain(|_| false);
            match room.start(&policy, &["/usr/bin/sh", "-c", &script]).await {
                Ok(session) => {
                    assert_eq!(session.end().await.stdout, "own\n");
                    ran += 1;
                }
                Err(_) => refused += 1,
            }
        }
        let mut tries = 0;
        while by_path == 0 && tries < 1_000_000 {
            tries += 1;
            if fs::symlink_metadata(&listed).is_ok_and(|found| found.is_dir())
                && fs::symlink_metadata(listed.join("own")).is_err()
            {
                by_path += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let swaps = swaps.join().expect("a thread");
        println!("{ran} ran, {refused} refused, {by_path} led astray by path, {swaps} swaps");
        assert!(ran > 0 && refused > 0 && by_path > 0 && swaps > 100);
    });
}

#[test]
fn tls_clients_find_the_hosts_authorities() {
    let text = "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\"]\n\
                execute = [\"/usr\"]\n";
    with_room(async |room| {
        let policy = policy(text);
        let program = "import ssl; c = ssl.create_default_context(); \
                       print(c.cert_store_stats()['x509_ca'] > 10, c.verify_mode == ssl.CERT_REQUIRED)";
        let ended = room.python(&policy, program).await;
        assert_eq!(ended.stdout, "True True\n", "{ended:?}");
        // With a bundle that is not there curl ends before it connects to anything.
        let curl = "curl -sS --connect-timeout 5 https://127.0.0.1:1/; echo $?; \
                    curl -sS --cacert /nonexistent https://127.0.0.1:1/; echo $?; \
                    grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; ls /etc/ssl";
        let ended = room.sh(&policy, curl).await;
        let lines: Vec<&str> = ended.stdout.lines().collect();
        assert_eq!(lines.first(), Some(&"7"), "{ended:?}");
        let count: u32 = lines[2].parse().expect("a number");
        assert!(count > 10, "{ended:?}");
        assert_eq!(lines.last(), Some(&"certs"), "{ended:?}");
        let rows = [
            row(
                "private",
                "os.listdir('/etc/ssl/private') and None",
                "ENOENT",
                "ok",
            ),
            row(
                "names",
                "socket.getaddrinfo('localhost', 1) and None",
                "ok",
                "ok",
            ),
            row(
                "user",
                "__import__('pwd').getpwuid(os.getuid()).pw_name",
                "worker",
                "root",
            ),
            row(
                "group",
                "__import__('grp').getgrgid(0).gr_name",
                "root",
                "root",
            ),
        ];
        check(room, &policy, &rows).await;
    });
}

/// What landlock's rights are about, tried in a folder that may be written and in one that may not.
#[test]
fn renames_links_truncation_and_device_requests() {
    with_room(async |room| {
        let (data, fixed) = (room.shared("data"), room.shared("fixed"));
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).expect("its mode");
        fs::write(fixed.join("file"), "content").expect("a file");
        fs::set_permissions(fixed.join("file"), fs::Permissions::from_mode(0o666))
            .expect("its mode");
        fs::set_permissions(&fixed, fs::Permissions::from_mode(0o777)).expect("its mode");
        let (data, fixed) = (data.display().to_string(), fixed.display().to_string());
        let text = format!(
            "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\", \"{fixed}\"]\n\
             execute = [\"/usr\"]\nwrite = [\"{data}\"]\n"
        );
        let rows = acts(&data, &fixed);
        check(room, &policy(&text), &rows).await;
    });
}

fn acts(data: &str, fixed: &str) -> Vec<Row> {
    let act =
        |text: &str| -> &'static str { text.replace("DATA", data).replace("FIXED", fixed).leak() };
    vec![
        row(
            "make",
            act("os.makedirs('DATA/a/b') or open('DATA/a/f', 'w').close()"),
            "ok",
            "ok",
        ),
        row(
            "refer",
            act("os.rename('DATA/a/f', 'DATA/a/b/f')"),
            "ok",
            "ok",
        ),
        row("link", act("os.link('DATA/a/b/f', 'DATA/a/g')"), "ok", "ok"),
        row("truncate", act("os.truncate('DATA/a/g', 5)"), "ok", "ok"),
        row(
            "clear",
            act("__import__('shutil').rmtree('DATA/a')"),
            "ok",
            "ok",
        ),
        row(
            "refer_out",
            act("os.link('FIXED/file', 'DATA/file') or os.unlink('DATA/file')"),
            "EXDEV",
            "ok",
        ),
        row(
            "refer_in",
            act("os.rename('FIXED/file', 'FIXED/other') or os.rename('FIXED/other', 'FIXED/file')"),
            "EROFS",
            "ok",
        ),
        row(
            "truncate_fixed",
            act("os.truncate('FIXED/file', 7)"),
            "EROFS",
            "ok",
        ),
        row(
            "open_truncate",
            act("open('FIXED/file', 'r+').close()"),
            "EROFS",
            "ok",
        ),
        row(
            "socket_file",
            act("os.mknod('DATA/s', 0o140600) or os.unlink('DATA/s')"),
            "EPERM",
            "ok",
        ),
        row(
            "entropy",
            "fcntl.ioctl(open('/dev/random', 'rb'), 0x80045200, bytes(4)) and None",
            "EPERM",
            "ok",
        ),
        row(
            "readable",
            "fcntl.ioctl(open('/dev/null', 'rb'), 0x5421, bytes(4)) and None",
            "ok",
            "ok",
        ),
    ]
}
