//! What goes on all the time: launches with questions and packets, pushes of the two sets.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use lab::{binary::stockade, netns::Netns, prober::Answer};

use super::{BOTH, NEVER, OWN, SHORT, Scene};

/// How long nobody tries again where there is no agent: the one that starts needs the processors more.
const WITHOUT_AGENT: Duration = Duration::from_millis(200);

/// Sessions before the same three names are asked for again.
const NAMES: u32 = 100;

/// The load, and what came of it.
pub(super) struct Load {
    host: Netns,
    instance: String,
    binary: PathBuf,
    sets: [PathBuf; 2],
    over: AtomicBool,
    /// Held while a set is pushed: who holds it sees one set in force.
    pub(super) still: Mutex<()>,
    pub(super) launched: AtomicU64,
    pub(super) pushed: AtomicU64,
    /// Sessions that said nothing, because the agent was killed or had not started.
    pub(super) cut: AtomicU64,
    /// Of these, whose question was answered too late.
    pub(super) late: AtomicU64,
}

impl Load {
    pub(super) fn new(scene: &Scene) -> Self {
        Self {
            host: scene.lab.host().try_clone().expect("a handle"),
            instance: scene.agent.instance().to_owned(),
            binary: stockade().expect("the binary is built"),
            sets: scene.sets.clone(),
            over: AtomicBool::new(false),
            still: Mutex::new(()),
            launched: AtomicU64::new(0),
            pushed: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }
    }

    /// Tells all threads to end.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Ends the load when the test ends, however it does.
    pub(super) fn guard(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a Load);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        Guard(self)
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Launches sessions until it is over. Each asks for names, dials what they stand for, and sends to
    /// every address.
    pub(super) fn launch(&self) {
        let [first, second] = OWN;
        let mut names = (0..NAMES).cycle();
        while self.goes_on() {
            let number = names.next().unwrap_or_default();
            let script = format!(
                "rounds 8.8.8.8:53 n{number}{{}}.bench.example 8443 3; socket inet dgram; \
                 try sendto {first}:9000 5; try sendto {second}:9000 5; \
                 try sendto {NEVER}:9000 5; sendto {BOTH}:9000 5"
            );
            if let Some(answer) = self.session(&script) {
                // Of the two sets' own addresses one is refused; a push may come between them.
                assert!((1..=3).contains(&answer.refused), "{answer:?}");
                assert_eq!(answer.calls, 6, "{answer:?}");
                self.launched.fetch_add(1, Ordering::Relaxed);
            } else {
                self.cut.fetch_add(1, Ordering::Relaxed);
                thread::sleep(WITHOUT_AGENT);
            }
        }
    }

    /// What a session says; nothing where the agent died meanwhile or is not there.
    fn session(&self, script: &str) -> Option<Answer> {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--instance", &self.instance, SHORT, "--"]);
        command.args(script.split(' '));
        command.stdin(Stdio::null());
        let output = self.host.enter(|| command.output());
        let output = output.expect("the namespace").expect("the binary runs");
        let answer = serde_json::from_slice::<Answer>(&output.stdout).ok();
        // Its resolver dies with the agent, before its worker does.
        let is_done =
            |answer: &Answer| output.status.success() && answer.errno.is_none() && answer.ok;
        if answer.as_ref().is_some_and(is_done) {
            return answer;
        }
        if answer.is_some_and(|answer| is_late(&answer)) {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        let [said, complaint] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        eprintln!("a session failed: {} {said} {complaint}", output.status);
        None
    }

    /// Pushes the sets in turn until it is over.
    pub(super) fn push_on(&self, pause: Duration) {
        for place in [0, 1].into_iter().cycle() {
            if !self.goes_on() {
                return;
            }
            let still = self.still.lock().unwrap_or_else(PoisonError::into_inner);
            let done = self.push(place);
            drop(still);
            thread::sleep(if done { pause } else { WITHOUT_AGENT });
        }
    }

    /// Pushes a set; false where there is no agent.
    pub(super) fn push(&self, place: usize) -> bool {
        let mut command = Command::new(&self.binary);
        command.args(["policy", "push", "--replace", "--instance", &self.instance]);
        command.arg(&self.sets[place]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let done = command.status().expect("the binary runs").success();
        if done {
            self.pushed.fetch_add(1, Ordering::Relaxed);
        }
        done
    }
}

/// No answer in the prober's patience, or SERVFAIL: what asks upstream was late.
fn is_late(answer: &Answer) -> bool {
    answer.errno.as_deref() == Some("TIMEOUT")
        || answer
            .error
            .as_ref()
            .is_some_and(|error| error.ends_with("code 2"))
}
