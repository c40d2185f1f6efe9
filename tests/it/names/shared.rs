//! Real programs that ask for one site and speak to another on the same address.

use std::time::{Duration, Instant};

use super::scene::{Scene, text};

/// A refused hello takes its socket along: a program waits for nothing.
const SOON: Duration = Duration::from_secs(4);

/// Programs and their arguments: `other.example` at the address of `site.example`.
const ATTEMPTS: &[(&str, &[&str])] = &[
    (
        "curl",
        &[
            "--connect-to",
            "other.example:443:site.example:443",
            "https://other.example/",
        ],
    ),
    (
        "openssl",
        &[
            "-connect",
            "site.example:443",
            "-servername",
            "other.example",
        ],
    ),
    (
        "openssl",
        &[
            "-tls1_2",
            "-connect",
            "site.example:443",
            "-servername",
            "other.example",
        ],
    ),
    (
        "openssl",
        &["-connect", "site.example:443", "-noservername"],
    ),
    (
        "python",
        &["import socket,ssl
c=ssl.create_default_context(); c.check_hostname=False; c.verify_mode=ssl.CERT_NONE
s=socket.create_connection(('site.example',443),timeout=5)
s=c.wrap_socket(s,server_hostname='other.example'); print('Verification: OK')"],
    ),
    (
        "node",
        &[
            "require('tls').connect({host:'site.example',port:443,servername:'other.example'\
               ,rejectUnauthorized:false},()=>{console.log('Verification: OK');process.exit(0)})\
               .on('error',e=>{console.log(e.code);process.exit(1)})",
        ],
    ),
];

#[test]
fn programs_are_kept_from_another_site_on_the_same_address() {
    let scene = Scene::new();
    for (tool, arguments) in ATTEMPTS {
        let control = text(&scene.world.bare(tool, arguments));
        assert!(
            control.contains("hello from")
                || control.contains("Verification: OK")
                || control.contains("CONNECTION ESTABLISHED"),
            "control: {tool} {arguments:?}: {control}"
        );
        let before = scene.world.tls.bytes();
        let began = Instant::now();
        let output = scene.fenced(tool, arguments);
        let seen = text(&output);
        assert!(!output.status.success(), "{tool} {arguments:?}: {seen}");
        assert!(
            began.elapsed() < SOON,
            "{tool} {arguments:?} took {:?}: {seen}",
            began.elapsed()
        );
        assert_eq!(
            scene.world.tls.bytes(),
            before,
            "{tool} {arguments:?}: bytes arrived: {seen}"
        );
    }
    let fenced = scene.fenced("curl", &["https://site.example/"]);
    assert!(text(&fenced).contains("hello from site.example"));
    scene.end();
}
