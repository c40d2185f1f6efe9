//! What agent, launcher, template and process 1 say to each other. All are ours, but the last ones stand
//! next to a worker: what one of them sends is foreign to the agent.

use std::{fmt::Debug, fs::File};

use agent::{
    config::Instance,
    launcher::{
        Exit,
        protocol::{Ask, Prepare, Reply, STATUS_BYTES, Work, decode, encode, ended},
    },
    policy,
    sandbox::{
        Plan,
        error::{Step, StepError},
        program::Found,
        sum::Identity,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::mutator::fuzz;

const POLICY: &str = "version = 1\ntool = \"fuzz\"\ndescription = \"A plan to start from\"\n\
    [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"exec\"\n\
    [filesystem]\nread = [\"/usr\"]\nexecute = [\"/usr/bin\"]\n";

/// Bytes of the good messages are a corpus; what is read from others is written and read again.
fn taken_whole_or_refused<T>(name: &str, good: &[T])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let corpus: Vec<_> = good
        .iter()
        .map(|message| encode(message).expect("a message can be written"))
        .collect();
    for (message, bytes) in good.iter().zip(&corpus) {
        assert_eq!(&decode::<T>(bytes).expect("a good message"), message);
    }
    let corpus: Vec<_> = corpus.iter().map(Vec::as_slice).collect();
    fuzz(name, &corpus, |bytes| {
        let Ok(message) = decode::<T>(bytes) else {
            return;
        };
        let again = encode(&message).expect("what was read can be written");
        let again: T = decode(&again).expect("what was written can be read");
        assert_eq!(message, again);
    });
}

fn failure() -> StepError {
    StepError {
        errno: libc::EINVAL,
        ..StepError::new(Step::Supervise, "the worker's report")
    }
}

/// Every status that `wait(2)` gives for an end is one, and none of the others.
#[test]
fn a_status_of_any_bytes_is_an_end_or_refused() {
    let end = |status: i32| ended(status.to_ne_bytes()).ok();
    for code in 0..=u8::MAX {
        assert_eq!(end(i32::from(code) << 8), Some(Exit::Code(code)));
    }
    for signal in 1..=64 {
        for core in [0, 0x80] {
            assert_eq!(end(signal | core), Some(Exit::Signal(signal)));
        }
    }
    let stopped_or_continued = [0x137f, 0xffff];
    let impossible = [-1, i32::MIN, 0x80, 0x0109, 0x1_0000, 0x1_0009];
    for status in stopped_or_continued.into_iter().chain(impossible) {
        assert_eq!(end(status), None, "{status:#x}");
    }
    fuzz("status", &[&[0; STATUS_BYTES]], |bytes| {
        let Some(status) = bytes.first_chunk() else {
            return;
        };
        let known = ended(*status).is_ok();
        let status = i32::from_ne_bytes(*status);
        let low = status & 0x7f;
        let exited = low == 0 && status & !0xff00 == 0;
        let signalled = low != 0 && low != 0x7f && status & !0xff == 0;
        assert_eq!(known, exited || signalled, "{status:#x}");
    });
}

fn found() -> Found {
    let file = File::open("/dev/null").expect("the null device");
    let identity = Identity::of(&file).expect("its identity");
    Found {
        before: vec!["/usr/bin/sh".into(), "-e".into()],
        seen: vec![("/usr/bin/tool".into(), identity)],
    }
}

#[test]
fn a_reply_of_any_bytes_is_taken_whole_or_refused() {
    let all = [
        Reply::Ready,
        Reply::Waiting,
        Reply::Told(None),
        Reply::Told(Some(found())),
        Reply::Summing { bytes: u64::MAX },
        Reply::Failed(failure()),
    ];
    taken_whole_or_refused("reply", &all);
}

#[test]
fn a_launch_of_any_bytes_is_taken_whole_or_refused() {
    let reserve = Ask::Reserve { uid: 2_000_000_007 };
    let launch = |work| Ask::Launch {
        work,
        memory_counted: true,
    };
    let command = ["/usr/bin/tool", "--id", "7"].map(Into::into).into();
    let all = [
        reserve,
        launch(Work::Command(command)),
        launch(Work::SelfTest),
    ];
    taken_whole_or_refused("launch", &all);
}

/// Only there and back: it goes from the agent to the launcher, and no other way.
#[test]
fn a_plan_comes_out_as_it_went_in() {
    let policy = policy::compile("fuzz.toml", POLICY).expect("a good policy");
    let instance = Instance::new("fuzz").expect("a name");
    let plan = Plan::new(&instance, &policy).expect("a plan");
    let message = Prepare { plan };
    let bytes = encode(&message).expect("a plan can be written");
    assert_eq!(decode::<Prepare>(&bytes).expect("a plan"), message);
    for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        let part = bytes.get(..end).expect("a part");
        assert!(decode::<Prepare>(part).is_err(), "{end} bytes of a plan");
    }
}
