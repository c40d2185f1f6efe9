//! The end of a worker: told once, asked for by whoever has it.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    BOUNDS, CALLER, Ended, Fenced, Host, Order, Process, Starting, children, policy, process, soon,
};
use crate::policy::compiled::CompiledPolicy;

async fn until_it_ended(process: &mut Process) {
    while process.is_alive() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_worker_that_ended_while_idle_is_let_go_like_any_other() {
    for (script, expected) in [
        ("pass", Ended::Well),
        (
            "import sys; sys.exit(3)",
            Ended::Badly("exit status: 3".to_owned()),
        ),
    ] {
        let mut process = process(&children(script)).await;
        soon(until_it_ended(&mut process)).await;
        assert!(!process.is_alive(), "{script}");
        assert_eq!(soon(process.ended()).await, expected);
        assert_eq!(soon(process.ended()).await, expected);
        assert!(!process.is_alive(), "{script}");
        process.leave();
    }
}

/// A host that starts nothing and tells of no end.
struct Silent;

impl Host for Silent {
    fn policy(&self, _tool: &str) -> Option<Arc<CompiledPolicy>> {
        None
    }

    fn policies(&self) -> Vec<Arc<CompiledPolicy>> {
        Vec::new()
    }

    fn is_worker(&self, _uid: u32) -> bool {
        false
    }

    fn launch(&self, _order: Order) -> Starting {
        let (stop, _stopped) = oneshot::channel();
        let (_tell, ended) = oneshot::channel();
        Box::pin(async move {
            Ok(Fenced {
                session: 1,
                stop,
                ended,
            })
        })
    }
}

#[tokio::test]
async fn an_end_that_nobody_tells_is_one_too() {
    let runtime = tokio::runtime::Handle::current();
    let started = Process::start((&Silent, &runtime), &policy(), CALLER, BOUNDS).await;
    let mut process = started.unwrap_or_else(|failure| panic!("{}", failure.refused.detail));
    assert!(!process.is_alive());
    assert!(matches!(soon(process.ended()).await, Ended::Badly(_)));
    process.leave();
}
