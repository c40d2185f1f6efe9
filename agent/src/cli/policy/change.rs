//! Changes of policies asked of a running agent, and what is shown of them.

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    difference,
    print::{Answer, Colour, paint},
};
use crate::{
    cli::{Failure, Target, runtime},
    daemon::control::{
        channel::Channel,
        policies::{FILES_BYTES_MAX, FlowCut, PolicyReply, PolicyRequest, SessionCut},
        protocol::{Reply, Request},
    },
    exit::Code,
    policy::{
        bundle::{Bundle, is_of_host},
        diff,
        store::{self, PolicySet, SetError},
    },
    sys::memfd,
};

/// Digits of a digest for people.
const DIGITS: usize = 12;

/// The files of policies that a person names, with their locks and schemas. All lie in one folder,
/// because a schema is named from there.
pub(super) fn collect(paths: &[PathBuf]) -> Result<Result<Bundle, SetError>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            match store::list(path) {
                Ok(list) => files.extend(list),
                Err(error) => return Ok(Err(SetError(vec![error]))),
            }
        } else {
            files.extend(store::without_locks(std::slice::from_ref(path)));
        }
    }
    files.sort();
    files.dedup();
    let folder = |file: &PathBuf| {
        let parent = file.parent().unwrap_or(Path::new("")).to_owned();
        let parent = if parent.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            parent
        };
        parent.canonicalize().unwrap_or(parent)
    };
    let mut folders: Vec<PathBuf> = files.iter().map(folder).collect();
    folders.dedup();
    if folders.len() > 1 {
        let message = "push: the files lie in several folders\nhint: push one folder at a time";
        return Err(Failure::said(Code::Usage, message));
    }
    let place = paths.first().cloned().unwrap_or_default();
    Ok(store::collect(&place, &files).map(|sources| {
        let mut files = sources.files;
        // The agent reads those itself, where they lie.
        files.retain(|name| !is_of_host(name));
        files
    }))
}

/// What a change would be.
pub(super) struct Preview {
    reply: PolicyReply,
    old: Bundle,
    new: Bundle,
}

impl Preview {
    /// The policies in force.
    pub(super) fn before(&self) -> anyhow::Result<PolicySet> {
        Ok(store::compile_held(Path::new("in force"), &self.old)?.set)
    }

    /// The policies that would be.
    pub(super) fn after(&self) -> anyhow::Result<PolicySet> {
        Ok(store::compile_held(Path::new("new"), &self.new)?.set)
    }
}

/// What a push would be.
pub(super) fn preview_of_push(
    target: &Target,
    files: &Bundle,
    replace: bool,
) -> Result<Preview, Failure> {
    let request = PolicyRequest::Push {
        replace,
        dry_run: true,
    };
    let (reply, mut sets) = ask(target, request, Some(files))?;
    let (Some(new), Some(old), None) = (sets.pop(), sets.pop(), sets.pop()) else {
        return Err(Failure::odd_answer());
    };
    Ok(Preview { reply, old, new })
}

/// Has the agent carry a request out, or say what it would change, and shows the answer.
pub(super) fn carry_out(
    target: &Target,
    request: PolicyRequest,
    files: Option<&Bundle>,
    as_json: bool,
) -> anyhow::Result<Answer> {
    let (reply, mut sets) = ask(target, request, files)?;
    match reply {
        PolicyReply::Changed {
            before,
            after,
            tools,
            rules,
        } => {
            if as_json {
                let value = json!({
                    "before": before, "after": after, "tools": tools, "rules": rules,
                });
                return Answer::json(Code::Ok, &value);
            }
            let text = if before == after {
                format!("nothing changed: set {} is in force\n", short(&after))
            } else {
                format!(
                    "set {} is in force: {tools} tools, {rules} rules (before: {})\n",
                    short(&after),
                    short(&before)
                )
            };
            Ok(Answer::text(Code::Ok, text))
        }
        reply @ PolicyReply::Preview { .. } => {
            let (Some(new), Some(old), None) = (sets.pop(), sets.pop(), sets.pop()) else {
                return Err(Failure::odd_answer().into());
            };
            show(&Preview { reply, old, new }, as_json)
        }
        PolicyReply::History { .. } => Err(Failure::odd_answer().into()),
    }
}

/// Asks the agent about policies; the sets that came beside its answer.
pub(super) fn ask(
    target: &Target,
    request: PolicyRequest,
    files: Option<&Bundle>,
) -> Result<(PolicyReply, Vec<Bundle>), Failure> {
    let broken = |error: std::io::Error| Failure::new(Code::Software, &error);
    let sent = files.map(|files| memfd::sealed(&files.encode()));
    let sent = sent.transpose().map_err(broken)?;
    let request = Request::Policies { ask: request };
    runtime()?.block_on(async {
        let mut channel = Channel::connect(&target.instance.control_socket()).await?;
        match &sent {
            Some(fd) => channel.send_with(&request, &[fd.as_fd()]).await?,
            None => channel.send(&request).await?,
        }
        let reply = channel.receive().await?;
        match reply {
            Some(Reply::Policies(reply)) => {
                let fds = channel.take_fds().into_iter();
                let sets = fds.map(|fd| {
                    let bytes = memfd::read_sealed(fd, FILES_BYTES_MAX).map_err(broken)?;
                    Bundle::decode(&bytes).map_err(|error| Failure::new(Code::Software, &error))
                });
                Ok((reply, sets.collect::<Result<_, Failure>>()?))
            }
            Some(Reply::Refused(refused)) => Err(refused.into()),
            Some(_) => Err(Failure::odd_answer()),
            None => Err(Failure::silent_agent()),
        }
    })
}

/// The beginning of a digest.
pub(super) fn short(digest: &str) -> &str {
    if digest.is_empty() {
        return "none";
    }
    digest.get(..DIGITS).unwrap_or(digest)
}

fn show(preview: &Preview, as_json: bool) -> anyhow::Result<Answer> {
    let PolicyReply::Preview {
        sessions,
        sessions_missing,
        flows,
        flows_missing,
    } = &preview.reply
    else {
        return Err(Failure::odd_answer().into());
    };
    let (old, new) = (preview.before()?, preview.after()?);
    let diff = diff::sets(&old, &new);
    if as_json {
        let mut value = difference::object(&diff);
        if let Value::Object(object) = &mut value {
            object.insert("sessions_ended".to_owned(), serde_json::to_value(sessions)?);
            object.insert("sessions_missing".to_owned(), json!(sessions_missing));
            object.insert("flows_cut".to_owned(), serde_json::to_value(flows)?);
            object.insert("flows_missing".to_owned(), json!(flows_missing));
        }
        return Answer::json(Code::Ok, &value);
    }
    let mut text = difference::words(&diff);
    for SessionCut { session, tool } in sessions {
        let line = format!("! session {session} of {tool} would end");
        text.push_str(&paint(Colour::Red, &line));
        text.push('\n');
    }
    for cut in flows {
        text.push_str(&paint(Colour::Red, &flow(cut)));
        text.push('\n');
    }
    let missing = sessions_missing.saturating_add(*flows_missing);
    if missing > 0 {
        text.push_str("! and ");
        text.push_str(&missing.to_string());
        text.push_str(" more\n");
    }
    if sessions.is_empty() && flows.is_empty() {
        text.push_str("no session would end, no open flow be cut\n");
    }
    Ok(Answer::text(Code::Ok, text))
}

fn flow(cut: &FlowCut) -> String {
    let FlowCut {
        session,
        tool,
        protocol,
        local_port: _,
        remote,
        remote_port,
    } = cut;
    let remote = std::net::SocketAddr::new(*remote, *remote_port);
    format!("! {remote}/{protocol} of session {session} ({tool}) would be cut")
}
