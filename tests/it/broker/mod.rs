//! Calls: token, proof, checks, record, fenced worker, answer, with a real agent and real workers.

mod bad_input;
mod bridge;
mod caller;
mod conformance;
mod contract;
mod credentials;
mod doors;
mod examples;
mod flood;
mod flow;
mod gone;
mod handed_over;
mod interop;
mod kept;
mod killed;
mod oidc;
mod provider;
mod races;
mod streams;
mod warm;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use lab::{Lab, agent::Agent, binary::Scratch};
use serde_json::Value;

use caller::Caller;

/// The example policies and what they need.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");

struct Scene {
    lab: Lab,
    agent: Agent,
}

impl Scene {
    /// An agent with these policies, in which `{scratch}/tools` holds these workers and
    /// `{scratch}/schemas` these schemas.
    fn new(policies: &[(&str, &str)], workers: &[(&str, &str)], schemas: &[(&str, &str)]) -> Self {
        Self::configured(policies, workers, schemas, |_| String::new())
    }

    /// The same with a configuration of its own, written when the lab is there.
    fn configured(
        policies: &[(&str, &str)],
        workers: &[(&str, &str)],
        schemas: &[(&str, &str)],
        configure: impl FnOnce(&Lab) -> String,
    ) -> Self {
        Self::made(policies, workers, schemas, configure, |_| {})
    }

    /// The same without one, where something is done in the folder before the agent starts.
    fn prepared(
        policies: &[(&str, &str)],
        workers: &[(&str, &str)],
        schemas: &[(&str, &str)],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        Self::made(policies, workers, schemas, |_| String::new(), prepare)
    }

    fn made(
        policies: &[(&str, &str)],
        workers: &[(&str, &str)],
        schemas: &[(&str, &str)],
        configure: impl FnOnce(&Lab) -> String,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let lab = Lab::unrecorded(&[]).expect("the lab can be made");
        let scratch = Scratch::new().expect("a folder");
        prepare(scratch.path());
        let configuration = configure(&lab);
        if !configuration.is_empty() {
            scratch
                .write(lab::agent::CONFIGURATION, &configuration)
                .expect("a file");
        }
        for (folder, files) in [("tools", workers), ("schemas", schemas)] {
            let folder = scratch.path().join(folder);
            fs::create_dir(&folder).expect("a folder");
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("its mode");
            for (name, text) in files {
                fs::write(folder.join(name), text).expect("a file");
            }
        }
        let agent = Agent::start_in(lab.host(), scratch, policies).expect("an agent");
        Self { lab, agent }
    }

    /// The `invoice` examples as they are, but for their place.
    fn invoice() -> Self {
        Self::invoice_configured(|_| String::new())
    }

    /// The same with a configuration of its own.
    fn invoice_configured(configure: impl FnOnce(&Lab) -> String) -> Self {
        let read =
            |name: &str| fs::read_to_string(Path::new(EXAMPLES).join(name)).expect("an example");
        let place = |text: String| {
            text.replace("/opt/tools/invoice", "{scratch}/tools")
                .replace("schemas/invoice/", "{scratch}/schemas/")
        };
        let (once, server) = (place(read("invoice.toml")), place(read("invoice-mcp.toml")));
        let schemas = ["create.json", "read.json", "invoice.json"];
        let schemas = schemas.map(|name| (name, read(&format!("schemas/invoice/{name}"))));
        let schemas: Vec<_> = schemas
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        Self::configured(
            &[("invoice", &once), ("invoice-mcp", &server)],
            &[("invoice.py", &read("workers/invoice.py"))],
            &schemas,
            configure,
        )
    }

    /// A command of two words, such as `token issue`, on this instance.
    fn command(&self, words: [&str; 2], rest: &[&str]) -> Output {
        let mut command =
            std::process::Command::new(lab::binary::stockade().expect("the binary is built"));
        command
            .args(words)
            .args(["--instance", self.agent.instance()])
            .args(rest)
            .stdin(std::process::Stdio::null());
        command.output().expect("it runs")
    }

    /// What such a command prints; it must succeed.
    fn said(&self, words: [&str; 2], rest: &[&str]) -> String {
        let output = self.command(words, rest);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success(),
            "{words:?} {rest:?}: {said}{complained}\n{}",
            self.agent.log()
        );
        said
    }

    /// A caller with a key of its own and a token for these scopes.
    fn caller(&self, subject: &str, scopes: &[&str]) -> Caller {
        self.caller_of(subject, scopes, &[])
    }

    /// The same, with more options of `token issue`.
    fn caller_of(&self, subject: &str, scopes: &[&str], more: &[&str]) -> Caller {
        let signer = caller::signer();
        let jkt = signer.jkt();
        let mut options = vec![
            "--subject",
            subject,
            "--client",
            "it",
            "--jkt",
            &jkt,
            "--json",
        ];
        for scope in scopes {
            options.extend(["--scope", scope]);
        }
        options.extend(more);
        let issued = self.said(["token", "issue"], &options);
        let issued: Value = serde_json::from_str(&issued).expect("JSON");
        let field = |name: &str| issued[name].as_str().expect(name).to_owned();
        let socket = Path::new("/run").join(self.agent.instance());
        Caller::new(
            socket.join("broker.sock"),
            signer,
            field("access_token"),
            field("resource"),
        )
    }

    /// What `audit query --json` tells, with these options.
    fn records(&self, options: &[&str]) -> Vec<Value> {
        let mut all = vec!["--json"];
        all.extend(options);
        let said = self.said(["audit", "query"], &all);
        said.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// The journal is whole, and nothing is left behind.
    fn end(self) {
        self.said(["audit", "verify"], &[]);
        assert_eq!(
            self.agent.end().expect("the agent ends"),
            Vec::<String>::new()
        );
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
