//! Who hears an answer, and what a launch that takes long is told.

use std::{fs::File, path::Path};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::time::sleep;

use super::{
    Arc, Ask, Channel, CompiledPolicy, Duration, Instant, LaunchError, OwnedFd, Plan, Reply,
    Template, protocol, seqpacket, timeout,
};
use crate::{config::Instance, launcher::protocol::Work, policy::compile};

/// The asker's patience.
const SHORT: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(10);
const LOOKS: usize = 500;

/// A policy whose workers read this path.
pub(super) fn policy(read: &Path) -> Arc<CompiledPolicy> {
    let text = format!(
        "version = 1\ntool = \"t\"\n\
         [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"exec\"\n\
         [filesystem]\nread = [\"{}\"]\nexecute = [\"/usr/bin\"]\n",
        read.display()
    );
    Arc::new(compile("t.toml", &text).unwrap_or_else(|error| panic!("{error}")))
}

pub(super) fn instance() -> Instance {
    Instance::stand_alone(std::process::id())
}

pub(super) fn plan(policy: &CompiledPolicy) -> Plan {
    Plan::new(&instance(), policy).expect("a plan")
}

/// A handle, and the end of its socket at which a process would be.
fn template() -> (Arc<Template>, OwnedFd) {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .expect("a pair");
    let channel = Channel::new(ours).expect("a runtime");
    let root = File::open("/").expect("a root");
    let policy = policy(Path::new("/usr/share"));
    let plan = plan(&policy);
    let template = Template::of(channel, root.into(), &policy, plan, Instant::now());
    (Arc::new(template), theirs)
}

fn launch() -> Ask {
    Ask::Launch {
        work: Work::SelfTest,
        memory_counted: false,
    }
}

fn say(theirs: &OwnedFd, reply: &Reply) {
    let bytes = protocol::encode(reply).expect("it can be written");
    seqpacket::send(theirs, &bytes, &[]).expect("it is heard");
}

/// Has it ask for somebody who goes away.
async fn ask_and_leave(template: &Arc<Template>) {
    let asked = timeout(SHORT, template.ask(&launch(), &[])).await;
    assert!(asked.is_err(), "nobody has answered");
}

async fn soon(what: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if what() {
            return;
        }
        sleep(PAUSE).await;
    }
    panic!("it does not come about");
}

#[tokio::test]
async fn an_answer_is_heard_out_when_its_asker_has_gone() {
    let (template, theirs) = template();
    ask_and_leave(&template).await;
    say(&theirs, &Reply::Summing { bytes: 7 });
    soon(|| template.summing().is_some()).await;
    assert!(!template.owes());
    let late = template.explain(LaunchError::Late { seconds: 10 });
    assert!(
        matches!(late, LaunchError::Summing { bytes: 7 }),
        "{late:?}"
    );
    let other = template.explain(LaunchError::Unanswered { seconds: 4 });
    assert!(
        matches!(other, LaunchError::Unanswered { seconds: 4 }),
        "{other:?}"
    );

    say(&theirs, &Reply::Told(None));
    soon(|| template.summing().is_none()).await;
    assert!(!template.owes());
    // The next one asks the same template.
    say(&theirs, &Reply::Told(None));
    let told = template.ask(&launch(), &[]).await;
    assert!(matches!(told, Ok((Reply::Told(None), _))), "{told:?}");
}

#[tokio::test]
async fn a_sum_for_a_policy_that_is_no_more_is_given_up() {
    let (template, theirs) = template();
    ask_and_leave(&template).await;
    say(&theirs, &Reply::Summing { bytes: 7 });
    soon(|| template.summing().is_some()).await;
    drop(template);
    // The next word of it finds nobody sooner or later, and with that the process ends.
    let word = protocol::encode(&Reply::Summing { bytes: 8 }).expect("it can be written");
    soon(|| seqpacket::send(&theirs, &word, &[]).is_err()).await;
}
