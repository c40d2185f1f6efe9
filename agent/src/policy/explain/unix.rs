//! Why a policy allows or refuses a unix socket. The answer comes from `common::unix`, which judges for
//! the kernel's hook too.

use std::path::Path;

use common::{
    unix::{UnixName, judge},
    verdict::Verdict,
};

use super::super::compiled::{CompiledPolicy, Rule};

/// What a policy says of one unix socket.
#[derive(Clone, Debug)]
pub struct UnixExplanation<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that allows it.
    pub rule: Option<&'a Rule>,
    /// What would allow it, or what bounds it all the same.
    pub hint: Option<String>,
}

/// Asks the policy about the path that a program connects to, letter by letter.
#[must_use]
pub fn explain_unix<'a>(policy: &'a CompiledPolicy, path: &Path) -> UnixExplanation<'a> {
    let door = policy
        .egress
        .unix_doors()
        .find(|(door, _)| door.as_os_str() == path.as_os_str());
    let name = door.map_or(UnixName::Path, |(_, rule)| UnixName::Door(rule));
    let verdict = judge(name, policy.syscalls.profile.has_unix_names());
    let rule = door.and_then(|(_, id)| policy.egress.rules.iter().find(|rule| rule.id == id));
    let hint = match (verdict, rule) {
        (Verdict::Deny(_), _) => Some(format!("[[local.allow]]\nunix = \"{}\"", path.display())),
        (_, None) => Some(
            "the profile has sockets by name among the session's own processes: what its root does not hold can not be reached; a socket beneath a listed folder can, if its mode lets anybody"
                .to_owned(),
        ),
        (_, Some(_)) => None,
    };
    UnixExplanation {
        verdict,
        rule,
        hint,
    }
}
