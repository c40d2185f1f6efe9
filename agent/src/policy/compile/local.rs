//! `[[local.allow]]`: the doors to this host. An address and port, a unix socket, or
//! loopback among the session's own processes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use common::{
    flow::{Address, TCP},
    limits::UNIX_DOORS_PER_POLICY_MAX,
    special::{self, Special},
    unix::UNIX_PATH_BYTES_MAX,
};

use super::{
    super::{
        compiled::{Prefix, RuleKind, Target},
        error::{Code, Span},
        port,
        raw::{Field, Located, RawLocalAllow, RawLoopback, RawPort},
    },
    Context,
    rules::Placed,
};

/// Folders below which no door lies, and why.
const NO_DOOR_BELOW: &[(&str, &str)] = &[
    ("/proc", "a session has a masked /proc of its own"),
    ("/sys", "the kernel's settings are never shown to a worker"),
    ("/dev", "a session has a minimal /dev of its own"),
    (
        "/tmp",
        "a session has a private /tmp of its own: let the server listen elsewhere, such as below /run",
    ),
    (
        "/workdir",
        "a session has a workdir of its own: let the server listen elsewhere, such as below /run",
    ),
];

impl Context<'_> {
    pub(super) fn local_allow(&mut self, raw: Located<RawLocalAllow>) -> Option<Placed> {
        let Located {
            value:
                RawLocalAllow {
                    tcp,
                    unix,
                    loopback,
                    reason,
                },
            span,
        } = raw;
        let reason = self.prose("reason", reason.given());
        let named = [
            !matches!(tcp, Field::Absent),
            !matches!(unix, Field::Absent),
            !matches!(loopback, Field::Absent),
        ];
        if named.iter().filter(|given| **given).count() != 1 {
            let message = "`local.allow` needs one of `tcp`, `unix` and `loopback`";
            let hint = "add a line like `tcp = \"127.0.0.1:5432\"`";
            self.findings.hinted(Code::MissingKey, span, message, hint);
            return None;
        }
        if let Some(loopback) = loopback.given() {
            let RawLoopback::Own = loopback.value;
            return Some(self.place(span, RuleKind::Local, Target::Own, 0, Vec::new(), reason));
        }
        if let Some(unix) = unix.given() {
            let target = Target::Unix(self.unix(&unix)?);
            return Some(self.place(span, RuleKind::Local, target, 0, Vec::new(), reason));
        }
        let (target, port) = self.local(&tcp.given()?)?;
        Some(self.place(
            span,
            RuleKind::Local,
            target,
            TCP,
            vec![(port, port)],
            reason,
        ))
    }

    /// More unix sockets than a policy may name; the first one beyond is reported.
    pub(super) fn refuse_too_many_doors(&mut self, mut spans: impl Iterator<Item = Span>) {
        let Some(beyond) = spans.nth(UNIX_DOORS_PER_POLICY_MAX) else {
            return;
        };
        let message = format!("policy names more than {UNIX_DOORS_PER_POLICY_MAX} unix sockets");
        self.findings.add(Code::OutOfBounds, beyond, message);
    }

    fn unix(&mut self, text: &Located<String>) -> Option<PathBuf> {
        let path = self.path(text)?;
        if path.as_os_str().len() > UNIX_PATH_BYTES_MAX {
            let message = format!("`{}` is too long for a unix socket", text.value);
            let hint = format!("a socket's path has at most {UNIX_PATH_BYTES_MAX} bytes (unix(7))");
            self.findings
                .hinted(Code::BadPath, text.span, message, hint);
            return None;
        }
        let below = NO_DOOR_BELOW
            .iter()
            .find(|(folder, _)| path.starts_with(folder));
        let why = match below {
            Some((_, why)) => why,
            None if path == Path::new("/") => "name the socket itself",
            None => return Some(path),
        };
        let message = format!("`{}` can not be a door", text.value);
        self.findings.hinted(Code::BadPath, text.span, message, why);
        None
    }

    pub(super) fn local(&mut self, tcp: &Located<String>) -> Option<(Target, u16)> {
        let bad = |context: &mut Self, code, message: String, hint: &str| {
            context.findings.hinted(code, tcp.span, message, hint);
            None
        };
        let text = &tcp.value;
        let Ok(socket) = text.parse::<SocketAddr>() else {
            let message = format!("`{text}` is no address and port");
            let hint =
                "write it like \"127.0.0.1:5432\" or \"[::1]:5432\"; names are not looked up";
            return bad(self, Code::BadAddress, message, hint);
        };
        if socket.ip() != socket.ip().to_canonical() {
            let message = format!("`{text}` holds an IPv4 address in IPv6 form");
            return bad(self, Code::BadAddress, message, "write it as IPv4");
        }
        if let Err(error) = port::parse(&RawPort::Number(socket.port().into())) {
            return bad(self, Code::BadPort, error.to_string(), &error.hint());
        }
        let address = Address::from(socket.ip());
        if socket.ip().is_unspecified() {
            let message = format!("`{text}` names no address");
            return bad(self, Code::BadAddress, message, "write 127.0.0.1 or [::1]");
        }
        if special::classify(&address) == Special::Private {
            let message = format!("`{text}` is a private or special-purpose address");
            let hint = "use `[[egress.allow_private]]`; it opens addresses of this host too";
            return bad(self, Code::SpecialAddress, message, hint);
        }
        Some((Target::Prefix(Prefix::host(address)), socket.port()))
    }
}
