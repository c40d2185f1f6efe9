//! Clients of others as they come from their registries, in both eras of MCP, through every door that
//! each can take: the same steps, the same answers.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use lab::{Lab, agent::Agent, binary, binary::Scratch, patience};

use super::{Scene, examples::example, text};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/clients");
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples");

/// The reference server; of what it has, two tools.
const EVERYTHING: &str = r#"
version = 1
tool = "everything"
description = "The reference server"
[worker]
command = ["/usr/bin/node", "{npm}/node_modules/@modelcontextprotocol/server-everything/dist/index.js"]
protocol = "mcp"
reuse = "session"
[filesystem]
read = ["/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "{npm}"]
execute = ["/usr/bin/node"]
[syscalls]
profile = "interpreter"
[limits]
memory = "1GiB"
processes = 64

[[verb]]
name = "echo"
description = "Says it again"
scope = "everything:use"
arguments = "{scratch}/echo.json"
[verb.limits]
repeats = 1000

[[verb]]
name = "long"
worker_tool = "trigger-long-running-operation"
description = "Takes its time and tells how far it is"
scope = "everything:use"
arguments = "{scratch}/long.json"
[verb.limits]
repeats = 1000
"#;
const ECHO: &str = r#"{"type": "object", "additionalProperties": false, "required": ["message"],
"properties": {"message": {"type": "string", "maxLength": 100}}}"#;
const LONG: &str = r#"{"type": "object", "additionalProperties": false, "required": ["duration", "steps"],
"properties": {"duration": {"type": "number", "minimum": 0, "maximum": 60},
"steps": {"type": "integer", "minimum": 1, "maximum": 100}}}"#;

/// What every client says of every step, in lower case.
const SAID: &str = "\
list everything.echo everything.long time.convert time.now
call false echo: hello
schema true /message: type \"string\"
failure true true
unknown true
progress false true true
cancel echo: after
";

const ERAS: &[&str] = &["legacy", "2026-07-28"];
const DOORS: &[&str] = &["http", "lines", "shim"];

/// A client, and what it can do.
struct Client {
    name: &'static str,
    program: &'static str,
    doors: &'static [&'static str],
    eras: &'static [&'static str],
}

const CLIENTS: &[Client] = &[
    Client {
        name: "mcp",
        program: "client.py",
        doors: DOORS,
        eras: ERAS,
    },
    Client {
        name: "fastmcp",
        program: "client.py",
        doors: &["http", "shim"],
        eras: ERAS,
    },
    Client {
        name: "@modelcontextprotocol/client",
        program: "client.mjs",
        doors: DOORS,
        eras: ERAS,
    },
    Client {
        name: "@modelcontextprotocol/sdk",
        program: "client.mjs",
        doors: DOORS,
        eras: &["legacy"],
    },
    Client {
        name: "rmcp",
        program: "client.rs",
        doors: DOORS,
        eras: ERAS,
    },
];

/// An agent with `time` and `everything`, and what clients need of it.
pub(super) struct Stage {
    pub(super) scene: Scene,
    folder: PathBuf,
    pub(super) resource: String,
}

impl Stage {
    pub(super) fn new() -> Self {
        let lab = Lab::unrecorded(&[]).expect("the lab can be made");
        let scratch = Scratch::new().expect("a folder");
        scratch.write("echo.json", ECHO).expect("a schema");
        scratch.write("long.json", LONG).expect("a schema");
        let npm = binary::servers("npm").expect("it is installed");
        for folder in [DATA, DOCS] {
            for file in fs::read_dir(folder).expect("a folder") {
                let file = file.expect("a file");
                let to = scratch.path().join(file.file_name());
                fs::copy(file.path(), to).expect("a copy");
            }
        }
        // Where Node looks for modules.
        let modules = scratch.path().join("node_modules");
        std::os::unix::fs::symlink(npm.join("node_modules"), modules).expect("a link");
        let everything = EVERYTHING.replace("{npm}", &npm.display().to_string());
        let policies = [("time", example("time")), ("everything", everything)];
        let policies = policies
            .each_ref()
            .map(|(name, text)| (*name, text.as_str()));
        let agent = Agent::start_in(lab.host(), scratch, &policies).expect("an agent");
        let folder = agent.scratch().path().to_owned();
        let key = folder.join("proof.pem").display().to_string();
        let mut command = Command::new(binary::stockade().expect("it is built"));
        binary::output(command.args(["token", "key", &key])).expect("a key");
        let mut stage = Self {
            scene: Scene { lab, agent },
            folder,
            resource: String::new(),
        };
        stage.renew();
        stage
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn socket(&self) -> PathBuf {
        Path::new("/run")
            .join(self.scene.agent.instance())
            .join("broker.sock")
    }

    /// A new token: on a busy machine one does not last for all.
    pub(super) fn renew(&mut self) {
        let key = self.path("proof.pem");
        let options = [
            ["--subject", "alice"],
            ["--client", "interop"],
            ["--scope", "everything:use"],
            ["--scope", "time:read"],
            ["--session-hash", "one"],
            ["--key", &key],
        ];
        let issued = self.scene.said(
            ["token", "issue"],
            &[options.as_flattened(), &["--json"]].concat(),
        );
        let issued: serde_json::Value = serde_json::from_str(&issued).expect("JSON");
        let field = |name: &str| issued[name].as_str().expect(name).to_owned();
        fs::write(self.path("token"), field("access_token")).expect("a file");
        self.resource = field("resource");
    }

    /// How many calls were cancelled, when so many are wanted: the last client may have gone before its
    /// word, or the end of its connection, is read.
    fn cancelled(&self, wanted: usize) -> usize {
        let end = Instant::now() + patience::scaled(Duration::from_secs(10));
        loop {
            let options = ["--outcome", "cancelled", "--verb", "long"];
            let cancelled = self.scene.records(&options).len();
            if cancelled >= wanted || Instant::now() > end {
                return cancelled;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a program of the folder, with these words before where the broker and the credentials are
    /// (and, where there are such, with what starts the shim). What it prints, and whether it came to its end.
    pub(super) fn run(&self, program: &str, words: &[&str]) -> (String, bool) {
        let started = match program.rsplit_once('.') {
            Some((_, "py")) => vec!["/usr/bin/python3".to_owned(), self.path(program)],
            Some((_, "sh")) => vec!["/bin/sh".to_owned(), self.path(program)],
            Some((name, "rs")) => {
                let built = binary::servers("rust").expect("it is installed");
                vec![built.join("bin").join(name).display().to_string()]
            }
            _ => vec!["/usr/bin/node".to_owned(), self.path(program)],
        };
        let seconds = patience::scaled(Duration::from_mins(3)).as_secs();
        let mut command = Command::new("timeout");
        command
            .arg(seconds.to_string())
            .args(started)
            .args(words)
            .arg(self.socket())
            .args([self.path("proof.pem"), self.path("token")])
            .arg(&self.resource)
            .env(
                "PYTHONPATH",
                binary::servers("pypi").expect("it is installed"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if !words.is_empty() {
            command
                .arg(self.scene.agent.instance())
                .arg(binary::stockade().expect("it is built"));
        }
        let output = command.output().expect("it runs");
        (
            text(&output.stdout) + &text(&output.stderr),
            output.status.success(),
        )
    }
}

#[test]
fn every_client_gets_the_same_through_every_door_in_both_eras() {
    let mut stage = Stage::new();
    let mut table = String::new();
    let (mut cells, mut wrong) = (0, String::new());
    for client in CLIENTS {
        for era in client.eras {
            for door in client.doors {
                stage.renew();
                let (said, ended) = stage.run(client.program, &[client.name, door, era]);
                let well = ended && said.to_lowercase() == SAID;
                let word = if well { "ok" } else { "FAILED" };
                println!("{:<30} {era:<12} {door:<6} {word}", client.name);
                writeln!(table, "{:<30} {era:<12} {door:<6} {word}", client.name).expect("text");
                if !well {
                    writeln!(wrong, "{} {era} {door}:\n{said}", client.name).expect("text");
                }
                cells += 1;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{table}\n{wrong}\n{}",
        stage.scene.agent.log()
    );
    assert_eq!(cells, 25);
    let cancelled = stage.cancelled(cells);
    assert_eq!(
        cancelled,
        cells,
        "each cell cancelled one call\n{:#?}\n{}",
        stage.scene.records(&["--verb", "long"]),
        stage.scene.agent.log()
    );
    stage.scene.end();
}

/// What the manual shows is what runs here.
#[test]
fn the_examples_of_the_manual_run() {
    let mut stage = Stage::new();
    for (program, said) in [
        ("call.py", "Asia/Tokyo\n"),
        ("call.mjs", "Asia/Tokyo\n"),
        ("call.rs", "\"Asia/Tokyo\"\n"),
        ("call.sh", "\"timezone\":\"Asia/Tokyo\""),
    ] {
        stage.renew();
        let (printed, ended) = stage.run(program, &[]);
        assert!(
            ended && printed.contains(said),
            "{program}: {printed}\n{}",
            stage.scene.agent.log()
        );
    }
    stage.scene.end();
}
