//! `[egress.limits]`, counted in the kernel.

use lab::{
    Lab,
    agent::Agent,
    binary::Scratch,
    prober::{Answer, Prober},
};

use crate::rows;

struct Scene {
    lab: Lab,
    agent: Agent,
}

fn scene(limits: &str) -> Scene {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    scratch.install("prober").expect("the prober is built");
    let policy = rows::POLICY.replace("{program}", "{scratch}");
    let policy = format!("{policy}\n[egress.limits]\n{limits}\n");
    let agent = Agent::start_in(lab.host(), scratch, &[("prober", &policy)]).expect("an agent");
    Scene { lab, agent }
}

impl Scene {
    fn worker(&self) -> Prober {
        let mut command = self.agent.tool("prober", &[]).expect("the binary is built");
        Prober::start(self.lab.host(), &mut command).expect("the worker starts")
    }
}

fn ask(prober: &mut Prober, script: &str) -> Answer {
    prober.ask(script).expect("the prober answers")
}

#[test]
fn connections_are_counted() {
    let scene = scene("connections = 5");
    let events = scene.agent.events().expect("events");
    let mut worker = scene.worker();
    let connect = "socket inet stream; connect 93.184.216.34:443; send 5; recv; keep last";
    for number in 1..=5 {
        let answer = ask(&mut worker, connect);
        assert!(answer.ok, "connection {number}: {answer:?}");
    }
    assert_eq!(ask(&mut worker, connect).errno(), "EPERM");
    let datagram = ask(
        &mut worker,
        "socket inet dgram; sendto 93.184.216.34:9000 5",
    );
    assert_eq!(datagram.errno(), "EPERM");
    // What is open goes on, and refusals of the policy stay what they are.
    assert!(ask(&mut worker, "use last; send 5; recv").ok);
    assert_eq!(
        ask(&mut worker, "socket inet stream; connect 1.2.3.4:443").errno(),
        "EPERM"
    );
    // Another session has limits of its own.
    assert!(ask(&mut scene.worker(), connect).ok);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let told = events.finish().expect("events");
    assert!(
        told.iter()
            .any(|event| event["reason"] == "limit_connections"),
        "{told:?}"
    );
}

#[test]
fn bytes_are_counted() {
    const LIMIT: u64 = 64 << 10;
    let scene = scene("bytes_out = \"64KiB\"");
    let mut worker = scene.worker();
    let mut taken = 0;
    let refused = (0..200).find_map(|_| {
        let answer = ask(
            &mut worker,
            "socket inet dgram; sendto 93.184.216.34:9000 1000",
        );
        taken += answer.sent;
        (!answer.ok).then_some(answer)
    });
    let refused = refused.expect("the limit is never reached");
    assert_eq!(refused.errno(), "EPERM");
    assert!(taken <= LIMIT, "{taken} bytes of payload passed");
    assert!(taken > LIMIT / 2, "only {taken} bytes of payload passed");
    let seen = scene
        .lab
        .servers()
        .seen("93.184.216.34:9000".parse().expect("an address"));
    assert!(seen.bytes <= LIMIT, "{seen:?}");
    let tcp = ask(
        &mut worker,
        "socket inet stream; connect 93.184.216.34:443; send 5; recv",
    );
    assert!(!tcp.ok, "{tcp:?}");
}

#[test]
fn bytes_of_a_long_connection_are_counted() {
    let scene = scene("bytes_out = \"256KiB\"");
    let mut worker = scene.worker();
    let opened = ask(
        &mut worker,
        "socket inet stream; connect 93.184.216.34:443; send 5; recv; keep c",
    );
    assert!(opened.ok, "{opened:?}");
    let mut sent = 0;
    let ended = (0..2000).any(|_| {
        let answer = ask(&mut worker, "use c; patience 300; send 4096; recv");
        sent += answer.sent;
        !answer.ok
    });
    assert!(ended, "the limit never ends the connection: {sent} bytes");
    let seen = scene
        .lab
        .servers()
        .seen("93.184.216.34:443".parse().expect("an address"));
    assert!(seen.bytes <= 256 << 10, "{seen:?}");
    assert!(seen.bytes > 64 << 10, "{seen:?}");
}
