//! Limits that whoever starts the agent has set: a service manager, a container, a shell.

use std::process::{Command, Output};

use lab::{
    Lab,
    binary::{self, Scratch},
};

const POLICY: &str = r#"
version = 1
tool = "shell"
description = "A shell"
[worker]
command = ["/usr/bin/sh", "-c"]
protocol = "exec"
[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]
"#;

/// What a worker says of its limit of core dumps, where the agent is started by these words.
fn core_limit(starter: &[&str]) -> Output {
    let lab = Lab::new().expect("the lab can be made");
    let scratch = Scratch::new().expect("a folder");
    let policy = scratch
        .write("shell.toml", POLICY)
        .expect("the policy is written");
    let (first, others) = starter.split_first().expect("a program");
    let mut command = Command::new(first);
    command
        .args(others)
        .arg(binary::stockade().expect("the binary is built"))
        .args(["run", "--policy"])
        .arg(policy)
        .args(["--", "/usr/bin/sh", "-c"])
        .arg("exec grep '^Max core file size' /proc/self/limits");
    let output = lab.host().enter(|| command.output());
    output.expect("the namespace").expect("it runs")
}

fn says(output: &Output, limit: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let words: Vec<_> = said.split_whitespace().skip(4).take(2).collect();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(words, [limit, limit], "{output:?}");
}

#[test]
fn a_limit_of_core_dumps_is_lowered_to_the_one_that_starts_no_handler() {
    says(&core_limit(&["prlimit", "--core=4096:4096"]), "1");
}

#[test]
fn a_limit_of_core_dumps_that_can_not_be_raised_refuses_no_launch() {
    let starter = [
        "prlimit",
        "--core=0:0",
        "setpriv",
        "--bounding-set=-sys_resource",
    ];
    says(&core_limit(&starter), "0");
}
