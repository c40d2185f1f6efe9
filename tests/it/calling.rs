//! Calls from outside: the command line, and the official SDK of MCP for Python over the shim, against
//! an agent that takes calls and runs a worker in its fence.

use std::{fs, path::Path, process::Command};

use lab::{
    Lab,
    agent::Agent,
    binary::{self, Scratch},
};

/// What the SDK's client sees, in the mode of its first argument.
const CLIENT: &str = r#"
import asyncio, json, sys
from mcp import Client, StdioServerParameters

async def main():
    server = StdioServerParameters(command=sys.argv[2], args=sys.argv[3:])
    async with Client(server, mode=sys.argv[1]) as client:
        listed = await client.list_tools()
        print(*sorted(tool.name for tool in listed.tools))
        good = await client.call_tool("read", {"id": "INV-0A1B2C3D"})
        print(good.is_error, good.structured_content["id"])
        bad = await client.call_tool("read", {"id": "x"})
        print(bad.is_error, bad.content[0].text.splitlines()[0])
        try:
            await client.call_tool("remove", {})
        except Exception as error:
            print(type(error).__name__, error)

asyncio.run(main())
"#;

/// A lab with an agent that has the `invoice` tool.
struct Scene {
    agent: Agent,
    _lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().expect("the lab can be made");
        let scratch = Scratch::new().expect("a folder");
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let tools = scratch.path().join("tools");
        fs::create_dir(&tools).expect("a folder");
        fs::copy(
            policies.join("workers/invoice.py"),
            tools.join("invoice.py"),
        )
        .expect("the worker of the example");
        let agent = Agent::start_in(lab.host(), scratch, &[]).expect("an agent");
        let schemas = agent.policies().join("schemas/invoice");
        fs::create_dir_all(&schemas).expect("a folder");
        for name in ["read.json", "create.json", "invoice.json"] {
            let from = policies.join("schemas/invoice").join(name);
            fs::copy(from, schemas.join(name)).expect("a schema of the example");
        }
        let policy = fs::read_to_string(policies.join("invoice.toml")).expect("the example");
        let policy = policy.replace("/opt/tools/invoice", "{scratch}/tools");
        agent.write_policy("invoice", &policy).expect("a policy");
        agent.reload().expect("a policy that compiles");
        Self { agent, _lab: lab }
    }

    /// What a command prints: output, errors, exit code.
    fn say(&self, words: &[&str]) -> (String, String, Option<i32>) {
        let output = self.agent.command(words).expect("the command runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            text(&output.stdout),
            text(&output.stderr),
            output.status.code(),
        )
    }
}

#[test]
fn the_command_line_calls_and_is_told_what_does_not_fit() {
    let scene = Scene::new();
    let read = |id: &str| format!("{{\"id\": \"{id}\"}}");
    let good = ["call", "invoice", "read", "--json", "--arguments"];
    let (said, errors, code) = scene.say(&[&good[..], &[&read("INV-0A1B2C3D")]].concat());
    assert_eq!(code, Some(0), "{said}{errors}{}", scene.agent.log());
    assert!(said.contains("\"id\": \"INV-0A1B2C3D\""), "{said}");
    let (_, errors, code) = scene.say(&["call", "invoice", "read", "--arguments", &read("secret")]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(
        errors.contains("arguments_refused") && errors.contains("/id"),
        "{errors}"
    );
    assert!(!errors.contains("secret"), "{errors}");
    let (_, errors, code) = scene.say(&["call", "invoice", "remove"]);
    assert_eq!(code, Some(77), "{errors}");
    assert!(errors.contains("unknown_or_forbidden"), "{errors}");
    let (_, errors, code) = scene.say(&["call", "other", "read"]);
    assert_eq!(code, Some(77), "{errors}");
    assert!(
        errors.contains("unknown_or_forbidden"),
        "unknown and forbidden look alike: {errors}"
    );
}

#[test]
fn the_sdk_for_python_speaks_to_the_shim_in_both_eras() {
    let scene = Scene::new();
    let folder = scene.agent.scratch().path();
    let (key, token) = (folder.join("proof.pem"), folder.join("token"));
    let (key, token) = (key.display().to_string(), token.display().to_string());
    plain(&["token", "key", &key]);
    let instance = scene.agent.instance();
    let issued = plain(&[
        "token",
        "issue",
        "--instance",
        instance,
        "--subject",
        "alice",
        "--client",
        "sdk",
        "--scope",
        "invoice:read",
        "--tool",
        "invoice",
        "--key",
        &key,
    ]);
    fs::write(&token, issued).expect("a file");
    for mode in ["legacy", "auto", "2026-07-28"] {
        let output = Command::new("/usr/bin/python3")
            .env(
                "PYTHONPATH",
                binary::servers("pypi").expect("it is installed"),
            )
            .args(["-c", CLIENT, mode])
            .arg(binary::stockade().expect("it is built"))
            .args(["mcp", "invoice", "--instance", scene.agent.instance()])
            .args(["--key", &key, "--token-file", &token])
            .output()
            .expect("python runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = said.lines().collect();
        let [tools, good, bad, unknown] = lines.as_slice() else {
            panic!("{mode}: {said}{errors}{}", scene.agent.log());
        };
        assert_eq!(*tools, "read", "{mode}: only what the token covers");
        assert_eq!(*good, "False INV-0A1B2C3D", "{mode}");
        assert!(
            bad.starts_with("True the arguments do not fit"),
            "{mode}: {bad}"
        );
        assert!(
            unknown.contains("there is no such operation"),
            "{mode}: {unknown}"
        );
    }
}

/// What a command prints that succeeds.
fn plain(words: &[&str]) -> Vec<u8> {
    let mut command = Command::new(binary::stockade().expect("it is built"));
    let output = command.args(words).output().expect("the command runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    output.stdout
}
