//! `oidc-provider` from npm, certified, in the lab's own network: hands out tokens, changes its keys,
//! goes away.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::SystemTime,
};

use agent::broker::proof::Signer;
use lab::netns::Netns;
use serde_json::Value;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/issuer/provider.mjs");
/// `orchestrator` and its secret (RFC 6749, 2.3.1).
const CLIENT: &str = "b3JjaGVzdHJhdG9yOmEtc2VjcmV0LW9mLXRoZS10ZXN0cw==";

/// It runs until this value goes.
pub(super) struct Provider {
    netns: Netns,
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
    pub(super) issuer: String,
}

impl Provider {
    pub(super) fn start(netns: &Netns, resource: &str) -> Self {
        let servers = lab::binary::servers("issuer").expect("it is installed");
        let mut command = Command::new("/usr/bin/node");
        command
            .arg(SCRIPT)
            .arg(servers.join("node_modules"))
            .arg(resource)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let spawned = netns.enter(|| command.spawn()).expect("the namespace");
        let mut child = spawned.expect("node starts");
        let orders = child.stdin.take().expect("a pipe");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let issuer = line(&mut said);
        Self {
            netns: netns.try_clone().expect("a handle"),
            child,
            orders,
            said,
            issuer,
        }
    }

    /// `rotate` or `drop`; gives the id of the key that signs now.
    pub(super) fn order(&mut self, word: &str) -> String {
        writeln!(self.orders, "{word}").expect("it reads");
        line(&mut self.said)
    }

    /// An access token for these scopes, bound to this key.
    pub(super) fn token(&self, signer: &Signer, scopes: &str, resource: &str) -> String {
        let endpoint = format!("{}/token", self.issuer);
        let proof = signer.proof(&endpoint, "", None, None, SystemTime::now());
        let proof = proof.expect("a proof");
        let body = format!("grant_type=client_credentials&scope={scopes}&resource={resource}");
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Authorization: Basic {CLIENT}\r\nDPoP: {proof}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.address(),
            body.len()
        );
        let answer = self.netns.enter(|| {
            let mut stream = TcpStream::connect(self.address()).expect("it listens");
            stream.write_all(request.as_bytes()).expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            answer
        });
        let answer = answer.expect("the namespace");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        assert_eq!(body["token_type"], "DPoP", "{answer}");
        body["access_token"].as_str().expect("a token").to_owned()
    }

    fn address(&self) -> &str {
        self.issuer.strip_prefix("http://").expect("its form")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn line(said: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    said.read_line(&mut line).expect("it speaks");
    assert!(!line.is_empty(), "the provider ended");
    line.trim().to_owned()
}
