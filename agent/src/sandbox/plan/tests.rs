//! What a plan takes from a policy besides its paths.

use super::{Plan, landlock::ABI_TCP};
use crate::{config::Instance, policy::compile, sys};

const RULE: &str = "[[egress.allow]]\ncidr = \"8.8.8.8/32\"\nports = [443]\n";

fn shuts_tcp(mode: &str, egress: &str) -> bool {
    let text = format!(
        "version = 1\ntool = \"t\"\nmode = \"{mode}\"\n{egress}\
         [worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"exec\"\n\
         [filesystem]\nexecute = [\"/usr/bin\"]\n"
    );
    let policy = compile("t.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let instance = Instance::stand_alone(std::process::id());
    let plan = Plan::new(&instance, &policy).expect("a plan");
    plan.landlock.no_tcp
}

/// What landlock refuses nobody reports: it must not refuse what is only observed.
#[test]
fn landlock_shuts_tcp_only_where_nothing_is_to_be_seen() {
    let knows_tcp = sys::landlock::abi().is_ok_and(|abi| abi >= ABI_TCP);
    assert_eq!(shuts_tcp("enforce", ""), knows_tcp);
    for (mode, egress) in [("observe", ""), ("observe", RULE), ("enforce", RULE)] {
        assert!(!shuts_tcp(mode, egress), "{mode} {egress}");
    }
}
