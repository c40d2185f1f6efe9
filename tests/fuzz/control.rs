//! The control socket: whoever is in its group sends what they like.

use std::{io::Write as _, net::Shutdown, os::unix::net::UnixStream};

use agent::daemon::control::{
    channel::{Channel, Error, REQUEST_BYTES_MAX},
    protocol::{Meanwhile, Request},
};

use crate::mutator::fuzz;

const RUN: &[u8] = br#"{"request":"run","tool":"invoice","arguments":["--id","7"],"counted":true}"#;
const EVENTS: &[u8] = br#"{"request":"events","session":7,"tool":null}"#;
const TOKEN: &[u8] =
    br#"{"request":"token","ask":{"token":"revoke","target":{"kind":"subject","name":"alice"}}}"#;
const STATUS: &[u8] = br#"{"request":"status"}"#;
const SIGNAL: &[u8] = br#"{"say":"signal","signal":15}"#;
const SPENT: &[u8] = br#"{"say":"output_spent"}"#;
const WRITTEN: &[u8] = br#"{"say":"written","bytes":67108865}"#;

#[test]
fn the_corpus_is_good() {
    for good in [RUN, EVENTS, STATUS, TOKEN] {
        serde_json::from_slice::<Request>(good).expect("a request");
    }
    for good in [SIGNAL, SPENT, WRITTEN] {
        serde_json::from_slice::<Meanwhile>(good).expect("what is said meanwhile");
    }
}

#[test]
fn a_request_of_any_bytes_is_taken_whole_or_refused() {
    fuzz("request", &[RUN, EVENTS, STATUS, TOKEN], |bytes| {
        let Ok(request) = serde_json::from_slice::<Request>(bytes) else {
            return;
        };
        let again = serde_json::to_vec(&request).expect("what was read can be written");
        let again =
            serde_json::from_slice::<Request>(&again).expect("what was written can be read");
        assert_eq!(request, again);
    });
}

#[test]
fn what_is_said_meanwhile_is_taken_or_refused() {
    fuzz("meanwhile", &[SIGNAL, SPENT, WRITTEN], |bytes| {
        drop(serde_json::from_slice::<Meanwhile>(bytes));
    });
}

#[test]
fn frames_of_any_bytes_end_with_the_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = runtime.expect("a runtime");
    let two = [RUN, b"\n", STATUS, b"\n"].concat();
    fuzz("frames", &[&two, b"\n\n\n"], |bytes| {
        let (mut caller, agent) = UnixStream::pair().expect("a pair of sockets");
        caller
            .write_all(bytes)
            .expect("the buffer of a socket holds an input");
        caller
            .shutdown(Shutdown::Write)
            .expect("a connected socket");
        agent.set_nonblocking(true).expect("a socket");
        let frames = runtime.block_on(async {
            let stream = tokio::net::UnixStream::from_std(agent).expect("a runtime is there");
            let mut channel = Channel::new(stream, REQUEST_BYTES_MAX);
            let mut frames = 0;
            loop {
                match channel.receive::<Request>().await {
                    Ok(Some(_)) | Err(Error::Frame(_)) => frames += 1,
                    Ok(None) | Err(_) => return frames,
                }
            }
        });
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        assert!(frames <= lines, "{frames} frames in {lines} lines");
    });
}
