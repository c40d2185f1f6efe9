//! Ordinary programs run.

use agent::launcher::Exit;

use super::room::{USR, policy, with_room};

#[test]
fn curl_python_and_a_shell_run() {
    with_room(async |room| {
        let usr = policy(USR);
        let curl = room.run(&usr, &["/usr/bin/curl", "--version"]).await;
        assert!(curl.stdout.starts_with("curl "), "{curl:?}");
        let python = room.python(&usr, "print(1)").await;
        assert_eq!(python.stdout, "1\n", "{python:?}");
        let shell = room
            .sh(
                &usr,
                "echo $((2 + 2)) | cat; pwd; ls -a / /dev /etc; cat /etc/passwd; id; exit 7",
            )
            .await;
        println!("{}", shell.stdout);
        assert_eq!(shell.exit, Exit::Code(7), "{shell:?}");
    });
}
