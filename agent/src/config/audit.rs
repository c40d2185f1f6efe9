//! `[audit]` of the agent's configuration: where the journal's checkpoints are kept beside the journal,
//! and how often. It knows nothing of what a checkpoint is.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{
    broker::{CA_DEFAULT, Endpoint, LoopbackHttp, duration},
    file::Error,
    place::Place,
};

/// Places beside the journal.
pub const KEEPERS_MAX: usize = 8;
/// Where the file says nothing.
const EVERY_DEFAULT: Duration = Duration::from_mins(1);
/// What was cut off within this time and is kept nowhere else is not missed: so not longer.
const EVERY_MAX: Duration = Duration::from_hours(1);

const _: () = assert!(EVERY_DEFAULT.as_secs() <= EVERY_MAX.as_secs());

/// Where checkpoints are kept beside the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Shortest time from one checkpoint to the next that a place gets.
    pub every: Duration,
    /// The places.
    pub keepers: Vec<Keeper>,
}

/// A place that keeps checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The host's log, and wherever that is sent.
    Journald,
    /// A file: it holds the last one.
    File(PathBuf),
    /// Whoever takes them by HTTP.
    Post {
        /// Where.
        endpoint: Endpoint,
        /// PEM file of the authorities that may have signed the server's certificate.
        ca: PathBuf,
    },
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            every: EVERY_DEFAULT,
            keepers: Vec::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    checkpoint_every: Option<toml::Spanned<String>>,
    #[serde(default)]
    checkpoint: Vec<RawKeeper>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeeper {
    to: toml::Spanned<String>,
    ca: Option<toml::Spanned<PathBuf>>,
    loopback_http: Option<toml::Spanned<bool>>,
}

impl RawAudit {
    pub(super) fn check(self, place: &Place<'_>) -> Result<Audit, Error> {
        let Self {
            checkpoint_every,
            checkpoint,
        } = self;
        let every = match &checkpoint_every {
            None => EVERY_DEFAULT,
            Some(text) => {
                let every = duration(place, text, "audit.checkpoint_every")?;
                if every > EVERY_MAX {
                    let message = format!("`{}` is more than 1h", text.get_ref());
                    return Err(place.value(text, "audit.checkpoint_every", message));
                }
                every
            }
        };
        let mut keepers = Vec::new();
        for raw in checkpoint {
            let to = raw.to.clone();
            let keeper = raw.check(place)?;
            let fail = |message| Err(place.value(&to, "audit.checkpoint.to", message));
            if keepers.contains(&keeper) {
                return fail(format!("`{}` is named twice", to.get_ref()));
            }
            if keepers.len() == KEEPERS_MAX {
                return fail(format!("more than {KEEPERS_MAX} places"));
            }
            keepers.push(keeper);
        }
        Ok(Audit { every, keepers })
    }
}

impl RawKeeper {
    fn check(self, place: &Place<'_>) -> Result<Keeper, Error> {
        let Self {
            to,
            ca,
            loopback_http,
        } = self;
        let text = to.get_ref();
        let local = match text.as_str() {
            "journald" => Some(Keeper::Journald),
            path if path.starts_with('/') && !path.ends_with('/') => {
                Some(Keeper::File(PathBuf::from(path)))
            }
            _ => None,
        };
        if let Some(local) = local {
            // Who says it expects it to count.
            let message = || "is for a URL, and `to` is none".to_owned();
            if let Some(ca) = &ca {
                return Err(place.value(ca, "audit.checkpoint.ca", message()));
            }
            return match &loopback_http {
                Some(http) => Err(place.value(http, "audit.checkpoint.loopback_http", message())),
                None => Ok(local),
            };
        }
        let http = match loopback_http.as_ref().map(toml::Spanned::get_ref) {
            Some(true) => LoopbackHttp::Taken,
            Some(false) | None => LoopbackHttp::Refused,
        };
        let endpoint = Endpoint::parse(text, http).ok_or_else(|| {
            let message = format!(
                "`{}` is neither `journald` nor the absolute path of a file nor an `https` URL\nhint: `loopback_http = true` takes `http` of 127.0.0.1 and [::1]",
                text.escape_debug()
            );
            place.value(&to, "audit.checkpoint.to", message)
        })?;
        let ca = match &ca {
            Some(path) => place.absolute(path, "audit.checkpoint.ca")?,
            None => Path::new(CA_DEFAULT).to_owned(),
        };
        Ok(Keeper::Post { endpoint, ca })
    }
}

#[cfg(test)]
mod tests;
