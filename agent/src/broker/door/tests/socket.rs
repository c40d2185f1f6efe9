//! Who gets in, and what the socket looks like.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::{Duration, Instant},
};

use super::{Door, nobody, rest};
use crate::broker::door::{BindError, Settings, bind};

const PING: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";

#[test]
fn a_workers_uid_gets_no_word() {
    let own = nix::unistd::getuid().as_raw();
    let door = Door::with(Settings::new(own..own + 1));
    assert_eq!(door.all(PING), "");
    let door = Door::with(Settings::new(own + 1..own + 2));
    assert!(
        door.line("{}").get("error").is_some(),
        "another uid's range"
    );
}

#[test]
fn a_uid_has_so_many_connections_and_gets_them_back() {
    let mut settings = Settings::new(nobody());
    settings.connections_of_uid = 2;
    let door = Door::with(settings);
    let held = [door.connect(), door.connect()];
    assert_eq!(door.all(PING), "", "the third");
    drop(held);
    let again = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let mut stream = door.connect();
        std::io::Write::write_all(&mut stream, PING).is_ok() && {
            stream
                .shutdown(std::net::Shutdown::Write)
                .is_ok_and(|()| rest(&mut stream).contains("result"))
        }
    });
    assert!(again, "a seat is not given back");
}

#[test]
fn when_it_is_time_to_stop_every_connection_ends() {
    let door = Door::open();
    // One that has said nothing yet, one in the middle of its words, one between two messages.
    let mut held: Vec<_> = [&b""[..], b"{\"jsonrpc\":", PING, b"POST /mcp HTTP/1.1\r\n"]
        .into_iter()
        .map(|said| {
            let mut stream = door.connect();
            std::io::Write::write_all(&mut stream, said).expect("somebody listens");
            stream
        })
        .collect();
    assert!(door.line("{}").get("error").is_some(), "they are served");
    let began = Instant::now();
    assert_eq!(door.close(), Ok(()));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "nothing had to be waited for"
    );
    for stream in &mut held {
        // To the end, which is there.
        rest(stream);
    }
}

#[test]
fn the_socket_is_the_groups_from_the_first_instant() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/broker.sock");
    let gid = nix::unistd::getgid().as_raw();
    let _listener = bind(&path, Some(gid)).expect("a socket");
    let found = fs::metadata(&path).expect("it is there");
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    assert_eq!(found.gid(), gid);
    let parent = fs::metadata(folder.path().join("run")).expect("it is there");
    assert_eq!(parent.permissions().mode() & 0o777, 0o711);
    // An old one is in nobody's use. Without a group it is its owner's, not that of the owner's group.
    drop(bind(&path, None).expect("a socket in the place of the old one"));
    let found = fs::metadata(&path).expect("it is there");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_folder_that_others_may_write_into_is_not_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    fs::create_dir(&run).expect("a folder");
    for mode in [0o731, 0o713, 0o770, 0o777] {
        fs::set_permissions(&run, fs::Permissions::from_mode(mode)).expect("own folder");
        let refused = bind(&run.join("broker.sock"), None);
        assert!(matches!(refused, Err(BindError::Folder(_))), "{mode:o}");
    }
    fs::set_permissions(&run, fs::Permissions::from_mode(0o711)).expect("own folder");
    fs::write(run.join("broker.sock"), "").expect("own folder");
    let refused = bind(&run.join("broker.sock"), None);
    assert!(matches!(refused, Err(BindError::Occupied(_))));
    std::os::unix::fs::symlink("/elsewhere", run.join("link.sock")).expect("own folder");
    let refused = bind(&run.join("link.sock"), None);
    assert!(matches!(refused, Err(BindError::Occupied(_))));
}

#[test]
fn doors_say_whether_they_are_served() {
    let door = Door::open();
    let (pulse, runtime) = (door.pulse.clone(), door.runtime.handle().clone());
    // Both desks and the entrance are there once somebody was served.
    assert!(door.line("{}").get("error").is_some());
    assert_eq!(runtime.block_on(pulse.answers()), Ok(()));
    assert_eq!(
        runtime.block_on(pulse.answers()),
        Ok(()),
        "as often as asked"
    );
    door.close().expect("all connections end");
    assert!(!pulse.has_ended(), "it was asked to");
}
