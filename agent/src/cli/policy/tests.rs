//! The verbs as a shell would call them: arguments in, exit code and text out.

mod names;

use std::path::Path;

use clap::Parser;
use expect_test::{Expect, expect};

use super::{PolicyCommand, print::Answer};
use crate::exit::Code;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    verb: PolicyCommand,
}

/// Runs a line; `@` stands for the shipped policies, `!` for the bad ones.
fn answer(line: &str) -> Answer {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR"));
    let good = agent.join("../policies").display().to_string();
    let bad = agent.join("src/policy/testdata/bad").display().to_string();
    let words = line
        .split(' ')
        .map(|word| word.replace('@', &good).replace('!', &bad));
    let line = Line::try_parse_from(std::iter::once("policy".to_owned()).chain(words)).unwrap();
    let mut answer = line.verb.answer().unwrap();
    answer.out = answer.out.replace(&good, "@").replace(&bad, "!");
    answer.err = answer.err.replace(&good, "@").replace(&bad, "!");
    answer
}

fn check(line: &str, code: Code, expected: &Expect) {
    let answer = answer(line);
    assert_eq!(answer.code, code, "{line}: {}{}", answer.out, answer.err);
    expected.assert_eq(&format!("{}{}", answer.out, answer.err));
}

fn json(line: &str, code: Code) -> serde_json::Value {
    let answer = answer(line);
    assert_eq!(answer.code, code, "{line}");
    assert_eq!(answer.err, "", "{line}");
    serde_json::from_str(&answer.out).unwrap()
}

#[test]
fn check_names_each_policy_or_each_mistake() {
    check(
        "check @/strict.toml @/public-api.toml",
        Code::Ok,
        &expect![[r"
            ok  public-api  2 rules, enforce, no lock
            ok  strict  0 rules, enforce, no lock
            2 policies, nothing wrong
        "]],
    );
    check(
        "check @/strict.toml !/duplicates.toml",
        Code::Finding,
        &expect![[r"
            !/duplicates.toml:9:1: error[duplicate]: rule `cidr 185.199.108.0/22 tcp 80,443` is there twice
                 9 | [[egress.allow]]
                   | ^^^^^^^^^^^^^^^^
                   see line 3: first here
                   hint: line 3 says the same: drop one
        "]],
    );
    check(
        "check @/nowhere.toml",
        Code::Finding,
        &expect![[r"
        error: policy `@/nowhere.toml`: can not be read: No such file or directory (os error 2)
    "]],
    );
    let all = json("check @ --json", Code::Ok);
    assert_eq!(all["ok"], true);
    let bad = json("check --json !/bounds.toml", Code::Finding);
    assert_eq!(bad["ok"], false);
    assert_eq!(bad["errors"][0]["line"], 4);
    assert_eq!(bad["errors"][0]["code"], "out_of_bounds");
    let missing = json("check --json @/nowhere.toml", Code::Finding);
    assert_eq!(missing["errors"][0]["code"], "file");
}

#[test]
fn the_same_directory_twice_is_one() {
    check(
        "check @/strict.toml @/strict.toml",
        Code::Ok,
        &expect![[r"
            ok  strict  0 rules, enforce, no lock
            1 policy, nothing wrong
        "]],
    );
}

#[test]
fn a_directory_without_policies_is_told() {
    check(
        "check @/schemas @/strict.toml",
        Code::Ok,
        &expect![[r"
            ok  strict  0 rules, enforce, no lock
            warn  no policies in `@/schemas`
            1 policy, nothing wrong
        "]],
    );
    let none = json("check --json @/schemas", Code::Ok);
    let told = none["warnings"][0].as_str().unwrap();
    assert!(told.starts_with("no policies in"), "{told}");
}

#[test]
fn show_prints_the_compiled_form() {
    check(
        "show @/internal-database.toml",
        Code::Ok,
        &expect![[r#"
            digest                      90e94923b530f14acee1e4a67c7cbf077f7565fa5029c0117f855a9565d50747
            tool                        internal-database
            description                 Runs the nightly report
            mode                        enforce
            egress.limits.connections   none
            egress.limits.bytes_out     none
            verb                        -
            match.units                 -
            worker.command              ["/usr/bin/psql", "--no-psqlrc", "host=10.20.0.5 dbname=reports user=report"]
            worker.protocol             exec
            worker.environment          LANG="C.UTF-8" PGCONNECT_TIMEOUT="10"
            worker.idle_timeout         10m
            worker.wall_timeout         10m
            worker.pin                  -
            worker.lock                 optional
            worker.reuse                never
            filesystem.read             /etc/ld.so.cache /etc/ssl/certs /usr
            filesystem.execute          /usr/bin /usr/lib/postgresql
            filesystem.write            -
            filesystem.workdir_size     64MiB
            filesystem.tmp_size         64MiB
            filesystem.inodes           16384 16384
            filesystem.output           -
            syscalls.profile            default
            syscalls.allow              -
            syscalls.deny               -
            limits.memory               512MiB
            limits.processes            64
            limits.cpus                 1
            limits.open_files           256
            limits.cpu_time             none
            limits.output               64MiB

            rules
              dbbf4a6cf76baa45  line 11    private 10.20.0.5/32 tcp 5432  # reporting database, read-only replica

            table (covering blocks united)
              10.20.0.5/32                 tcp 5432 door
        "#]],
    );
    let strict = json("show --json --policies @ strict", Code::Ok);
    assert_eq!(strict["syscalls"]["profile"], "strict");
    assert_eq!(strict["limits"]["memory_bytes"], 256 << 20);
    check(
        "show !/command.toml",
        Code::Policy,
        &expect![[r#"
        !/command.toml:4:12: error[conflict]: `/opt/tool/worker` is in no path of `filesystem.execute`
             4 | command = ["/opt/tool/worker"]
               |            ^^^^^^^^^^^^^^^^^^
               hint: add "/opt/tool" to `filesystem.execute`
    "#]],
    );
}

#[test]
fn explain_answers_with_verdict_rule_and_remedy() {
    check(
        "explain @/public-api.toml 140.82.121.6:443",
        Code::Ok,
        &expect![[r"
            allow  140.82.121.6:443/tcp  rule
              why     a rule of the policy allows it
              rule    cidr 140.82.112.0/20 tcp 443 (line 15)
              policy  public-api 52b77608fefecab2d82319dc1e9542abdfab3850161785f4049307d3493144ca
        "]],
    );
    check(
        "explain --policies @ internal-database 10.20.0.6:5432",
        Code::Finding,
        &expect![[r#"
            deny  10.20.0.6:5432/tcp  private_address
              why     the destination is a private, special-purpose or metadata address
              range   private use (RFC 1918)
              hint    [[egress.allow_private]]
                      cidr = "10.20.0.6/32"
                      protocol = "tcp"
                      ports = [5432]
                      reason = "..."
              policy  internal-database 90e94923b530f14acee1e4a67c7cbf077f7565fa5029c0117f855a9565d50747
        "#]],
    );
    check(
        "explain --policies @ observe 8.8.8.8:443",
        Code::Ok,
        &expect![[r#"
            observe  8.8.8.8:443/tcp  not_allowed
              why     no rule of the policy names the destination, protocol and port
              mode    observe: it passes and is reported; enforce would refuse it
              names   it passes while a name of one of these resolves there:
                      domain api.github.com tcp 443 (line 13)
              hint    [[egress.allow]]
                      cidr = "8.8.8.8/32"
                      ports = [443]
              policy  observe 2e1421582a39d72544bd43126efc05ad1380086822cf7aad3cbf295f91d7dcb9
        "#]],
    );
    let answer = json(
        "explain --json --policies @ observe 127.0.0.1:443",
        Code::Finding,
    );
    assert_eq!(answer["reason"], "local_address");
    assert_eq!(answer["hint"], "[[local.allow]]\ntcp = \"127.0.0.1:443\"");
}

#[test]
fn what_is_not_understood_is_a_usage_error_with_a_hint() {
    check(
        "explain --policies @ strict ftp://example.com/",
        Code::Usage,
        &expect![[r"
            error: scheme `ftp` is not known
            hint: write it like `api.example.com:443`, with `/udp` if it is meant
        "]],
    );
    check(
        "explain --policies @ strict localhost:443",
        Code::Usage,
        &expect![[r#"
            error: destination `localhost` has one label only
            hint: this host is reached by `[[local.allow]]`: tcp = "127.0.0.1:5432"
        "#]],
    );
    check(
        "explain --policies @ strictt 8.8.8.8:443",
        Code::Usage,
        &expect![[r"
            error: no policy of `@` names the tool `strictt`
            hint: it has attached, default, fetch, filesystem, git, internal-database, invoice, invoice-mcp, limits, local-database, names, observe, own-loopback, pinned, public-api, python-fetcher, report, strict, time, time-check, unix-socket, wildcard
        "]],
    );
    check(
        "show --policies @ Strict",
        Code::Usage,
        &expect![[r"
        error: tool name `Strict`: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter
        hint: a file is named with a `/` or a final `.toml`
    "]],
    );
}

#[test]
fn diff_tells_what_changes_and_when() {
    check(
        "diff @ @",
        Code::Ok,
        &expect![[r"
        nothing differs
    "]],
    );
    check(
        "diff @/default.toml @/limits.toml",
        Code::Finding,
        &expect![[r#"
            tool limits
              + cidr 185.199.108.0/22 tcp 443
              ~ tool: default -> limits
              ~ description: Reaches nothing -> A small client that must stay small
              ~ egress.limits.connections: none -> 8
              ~ egress.limits.bytes_out: none -> 1MiB
              ~ worker.command: [] -> ["/usr/bin/curl", "--silent", "https://185.199.108.153/"] (new sessions)
              ~ worker.idle_timeout: 10m -> 30s (new sessions)
              ~ worker.wall_timeout: 10m -> 1m (new sessions)
              ~ filesystem.read: /etc/ld.so.cache /usr -> /etc/ld.so.cache /etc/ssl/certs /usr (new sessions)
              ~ filesystem.workdir_size: 64MiB -> 4MiB (new sessions)
              ~ filesystem.tmp_size: 64MiB -> 4MiB (new sessions)
              ~ filesystem.inodes: 16384 16384 -> 1024 1024 (new sessions)
              ~ limits.memory: 512MiB -> 64MiB (new sessions)
              ~ limits.processes: 64 -> 8 (new sessions)
              ~ limits.cpus: 1 -> 0.5 (new sessions)
              ~ limits.open_files: 256 -> 64 (new sessions)
              ~ limits.cpu_time: none -> 20s (new sessions)
              ~ limits.output: 64MiB -> 1MiB (new sessions)
        "#]],
    );
    check(
        "diff @/default.toml !/command.toml",
        Code::Policy,
        &expect![[r#"
            !/command.toml:4:12: error[conflict]: `/opt/tool/worker` is in no path of `filesystem.execute`
                 4 | command = ["/opt/tool/worker"]
                   |            ^^^^^^^^^^^^^^^^^^
                   hint: add "/opt/tool" to `filesystem.execute`
        "#]],
    );
    let diff = json("diff --json @/public-api.toml @/limits.toml", Code::Finding);
    assert_eq!(
        diff["changed"][0]["added"][0]["text"],
        "cidr 185.199.108.0/22 tcp 443"
    );
}

#[test]
fn the_schema_is_the_committed_one() {
    let committed = include_str!("../../../../policies/policy.schema.json");
    assert_eq!(answer("schema").out, committed);
}
