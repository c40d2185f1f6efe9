//! The agent dies, comes back, only watches: what becomes of names then.

use std::time::{Duration, Instant};

use super::scene::{Scene, ask, egress, policy, watching};

#[test]
fn without_an_agent_names_do_not_resolve_and_the_fence_stands() {
    let mut scene = Scene::new();
    let mut worker = scene.prober();
    let open = ask(
        &mut worker,
        "ask udp 8.8.8.8:53 site.example A; socket inet stream; connect 93.184.216.34:8443; \
         payload hello site.example; send; recv; keep c",
    );
    assert!(open.ok, "{open:?}");
    let before = scene.world.names.asked().len();
    scene.agent.kill().expect("the agent is killed");
    // The worker dies with its supervisor; whatever it could still do is refused or unanswered.
    if let Ok(answer) = worker.ask("ask udp 8.8.8.8:53 apart.example A") {
        assert!(!answer.ok, "{answer:?}");
    }
    if let Ok(answer) = worker.ask("socket inet stream; connect 1.2.3.4:443") {
        assert_eq!(answer.errno(), "EPERM", "{answer:?}");
    }
    assert_eq!(scene.world.names.asked().len(), before, "nothing was asked");
    drop(worker);
    scene.agent.launch().expect("the agent starts again");
    let mut worker = scene.prober();
    let answer = ask(&mut worker, "ask udp 8.8.8.8:53 site.example A");
    assert_eq!(answer.values, ["NOERROR", "93.184.216.34"], "{answer:?}");
    assert!(
        ask(
            &mut worker,
            "socket inet stream; connect 93.184.216.34:8443"
        )
        .ok,
        "and opens its address"
    );
    scene.end();
}

#[test]
fn an_agent_that_ends_in_order_comes_back_to_its_names() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        let mut worker = scene.prober();
        let answer = ask(&mut worker, "ask tcp 8.8.8.8:53 site.example A");
        assert_eq!(answer.values, ["NOERROR", "93.184.216.34"], "{answer:?}");
        drop(worker);
        scene.agent.stop().expect("the agent ends");
        scene.agent.launch().expect("the agent starts again");
    }
    let mut worker = scene.prober();
    let answer = ask(&mut worker, "ask udp 8.8.8.8:53 v4.example A");
    assert_eq!(answer.values.len(), 2, "{answer:?}");
}

#[test]
fn observe_mode_answers_any_name_and_says_so() {
    let scene = Scene::new();
    scene.put("prober", &watching(&policy("prober", &egress())));
    let events = scene.events();
    let mut worker = scene.prober();
    let answer = ask(&mut worker, "ask udp 8.8.8.8:53 strange.example A");
    assert_eq!(answer.values, ["NOERROR", "93.184.216.66"], "{answer:?}");
    let event = events.await_reason("name_not_allowed");
    assert_eq!(event["outcome"], "observe", "{event}");
    assert_eq!(event["name"], "strange.example", "{event}");
    let other = ask(
        &mut worker,
        "ask udp 8.8.8.8:53 site.example A; socket inet stream; connect 93.184.216.34:8443; \
         payload hello other.example; send; recv",
    );
    assert!(other.ok, "reported and passed: {other:?}");
    let event = events.await_reason("tls_name");
    assert_eq!(event["outcome"], "observe", "{event}");
    // What no mode opens stays shut.
    let private = ask(&mut worker, "ask udp 8.8.8.8:53 private.example A");
    assert_eq!(private.values.len(), 1, "{private:?}");
    let dial = ask(&mut worker, "socket inet stream; connect 10.1.2.3:443");
    assert_eq!(dial.errno(), "EPERM", "{dial:?}");
}

#[test]
fn a_worker_that_asks_without_end_is_slowed_and_hurts_nobody() {
    let scene = Scene::new();
    let (mut loud, mut quiet) = (scene.prober(), scene.prober());
    loud.say("load 8.8.8.8:53 site.example 0 1 20000 64")
        .expect("it is told");
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let began = Instant::now();
        let answer = ask(&mut quiet, "ask udp 8.8.8.8:53 v4.example A");
        assert_eq!(answer.values.len(), 2, "{answer:?}");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    loud.kill().expect("it is killed");
}
