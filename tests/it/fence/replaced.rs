//! Listed files and folders that are replaced, as updates do: the next session has what lies there now.

use std::{fs, os::unix::fs::symlink, path::Path, thread::sleep, time::Duration};

use super::room::{Room, policy, with_room};

/// A root is looked at no more often than once a second.
const SEEN: Duration = Duration::from_millis(1_200);

/// Another file under this name, at once.
fn replace(path: &Path, with: &Path) {
    let new = path.with_extension("new");
    fs::copy(with, &new).expect("a copy");
    fs::rename(&new, path).expect("it is replaced");
}

/// A policy that lists this besides the system's programs.
fn listing(read: &Path, execute: Option<&Path>) -> String {
    let execute = execute.map_or_else(String::new, |path| format!(", \"{}\"", path.display()));
    format!(
        "version = 1\ntool = \"fence-test\"\n[filesystem]\nread = [\"/usr\", \"{}\"]\n\
         execute = [\"/usr\"{execute}]\n",
        read.display()
    )
}

async fn reads(room: &Room, text: &str, path: &Path) -> String {
    let script = format!("cat {}", path.display());
    let ended = room.sh(&policy(text), &script).await;
    assert_eq!(ended.exit.shell_code(), 0, "{ended:?}");
    ended.stdout
}

/// Its mount is taken away with the old file, and landlock's rule was the old file's: the new one was seen
/// through the folder around it, and could never be executed.
#[test]
fn a_program_in_a_folder_that_is_only_read() {
    with_room(async |room| {
        let folder = room.shared("programs");
        let system = Path::new("/usr/bin/true");
        let program = folder.join("true");
        replace(&program, system);
        let policy = policy(&listing(&folder, Some(&program)));
        let command = program.display().to_string();
        for _ in 0..2 {
            let ended = room.run(&policy, &[&command]).await;
            assert_eq!(ended.exit.shell_code(), 0, "{ended:?}");
            replace(&program, system);
            sleep(SEEN);
        }
    });
}

/// The old file stays mounted where nothing but the file itself is listed.
#[test]
fn a_file_of_a_folder_that_is_not_listed() {
    with_room(async |room| {
        let folder = room.shared("files");
        let (file, new) = (folder.join("file"), folder.join("source"));
        fs::write(&file, "old").expect("a file");
        fs::write(&new, "new").expect("a file");
        let text = listing(&file, None);
        assert_eq!(reads(room, &text, &file).await, "old");
        replace(&file, &new);
        sleep(SEEN);
        assert_eq!(reads(room, &text, &file).await, "new");
    });
}

#[test]
fn a_link_to_the_release_in_use() {
    with_room(async |room| {
        let folder = room.shared("releases");
        for release in ["v1", "v2"] {
            fs::create_dir(folder.join(release)).expect("a folder");
            fs::write(folder.join(release).join("file"), release).expect("a file");
        }
        let current = folder.join("current");
        symlink("v1", &current).expect("a link");
        let text = listing(&current, None);
        let file = current.join("file");
        assert_eq!(reads(room, &text, &file).await, "v1");
        let new = folder.join("new");
        symlink("v2", &new).expect("a link");
        fs::rename(&new, &current).expect("it is replaced");
        sleep(SEEN);
        assert_eq!(reads(room, &text, &file).await, "v2");
    });
}
