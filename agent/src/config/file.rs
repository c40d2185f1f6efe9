//! The agent's configuration file, `stockade.toml`: read, checked and defaulted once.
//!
//! Every key has a default, so an absent file at the default place is an empty one. It knows
//! nothing of policies but where they lie.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use common::limits;
use serde::Deserialize;

use super::{
    audit::{Audit, RawAudit},
    broker::{Broker, RawBroker},
    dns::{Dns, RawDns},
    instance::Instance,
    place::{Place, syntax},
};
use crate::ownership::{self, Distrust};

/// Where the file is looked for when none is named.
pub(super) const DEFAULT_FILE: &str = "/etc/stockade/stockade.toml";
/// Largest configuration file, bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// Sessions at once when the file does not say.
pub(super) const SESSIONS_DEFAULT: u32 = 1_024;
/// Places made ahead when the file does not say: enough for as many tools as a busy host uses in turns.
pub(super) const AHEAD_DEFAULT: u32 = 32;

const POLICIES_DEFAULT: &str = "/etc/stockade/policies.d";
/// Policy sets that are kept when the file does not say.
const HISTORY_DEFAULT: usize = 20;
const METRICS_PORT_DEFAULT: u16 = 9_464;
/// Tools with labels of their own when the file does not say: each is about a hundred time series where
/// it is used.
const METRICS_TOOLS_DEFAULT: usize = 256;
/// Not the group that may call: who may use the control socket pushes policies and issues tokens.
const CONTROL_GROUP_DEFAULT: &str = "stockade-admin";

const _: () = assert!(SESSIONS_DEFAULT <= limits::SESSIONS_MAX);

/// The agent's configuration, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which instance the agent is.
    pub instance: Instance,
    /// Folder of policy files.
    pub policies: PathBuf,
    /// How many policy sets that were in force are kept.
    pub policies_history: usize,
    /// Whether the folder is read again when its files change.
    pub policies_watch: bool,
    /// Group whose members may use the control socket beside root. Where the group does not exist,
    /// root alone may.
    pub control_group: String,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// Tools that have labels of their own in metrics; the others share `other`.
    pub metrics_tools: usize,
    /// What is logged: a `tracing` filter such as `info` or `agent::daemon=debug,info`.
    pub log_level: String,
    /// What the kernel programs log of themselves.
    pub kernel_log: KernelLog,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Sessions alive at once.
    pub sessions_max: u32,
    /// Places that wait for sessions at most, of all policies together; none are made where it is 0.
    pub sessions_ahead: u32,
    /// How long sessions have to end by themselves when the agent stops.
    pub drain: Duration,
    /// How names are resolved.
    pub dns: Dns,
    /// How calls are checked.
    pub broker: Broker,
    /// Where the journal's checkpoints are kept beside it.
    pub audit: Audit,
}

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// Nowhere.
    Off,
    /// `/metrics` and `/healthz` at this address.
    Address(SocketAddr),
}

/// What the kernel programs log of themselves, beside their verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelLog {
    /// Nothing: the lines are no part of the programs then.
    #[default]
    Off,
    /// What only a lack of memory brings about.
    Warn,
    /// And processes in the agent's cgroup that no session knows.
    Info,
    /// And sockets whose state is made only when they send.
    Debug,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal and under journald, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// The file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can not be read.
    #[error("configuration `{}`: can not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could have written it.
    #[error("configuration: it can not be trusted")]
    Distrusted(#[from] Distrust),
    /// It is larger than any configuration is.
    #[error("configuration `{}`: larger than {FILE_BYTES_MAX} bytes", .0.display())]
    Size(PathBuf),
    /// It is not the TOML that is expected.
    #[error("configuration `{}`: line {line}, column {column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A value is not what its key takes.
    #[error("configuration `{}`: line {line}: `{key}`: {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// What is wrong, and a hint.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    instance: Option<toml::Spanned<String>>,
    policies: Option<toml::Spanned<PathBuf>>,
    policies_history: Option<toml::Spanned<usize>>,
    #[serde(default)]
    policies_watch: bool,
    control_group: Option<String>,
    metrics: Option<toml::Spanned<String>>,
    metrics_tools: Option<toml::Spanned<u32>>,
    #[serde(default)]
    log: RawLog,
    #[serde(default)]
    sessions: RawSessions,
    #[serde(default)]
    dns: RawDns,
    #[serde(default)]
    broker: RawBroker,
    #[serde(default)]
    audit: RawAudit,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: Option<toml::Spanned<String>>,
    #[serde(default)]
    format: LogFormat,
    #[serde(default)]
    kernel: KernelLog,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSessions {
    max: Option<toml::Spanned<u32>>,
    ahead: Option<toml::Spanned<u32>>,
    drain: Option<toml::Spanned<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: Instance::service(),
            policies: PathBuf::from(POLICIES_DEFAULT),
            policies_history: HISTORY_DEFAULT,
            policies_watch: false,
            control_group: CONTROL_GROUP_DEFAULT.to_owned(),
            metrics: Metrics::Address((Ipv4Addr::LOCALHOST, METRICS_PORT_DEFAULT).into()),
            metrics_tools: METRICS_TOOLS_DEFAULT,
            log_level: "info".to_owned(),
            kernel_log: KernelLog::Off,
            log_format: LogFormat::Auto,
            sessions_max: SESSIONS_DEFAULT,
            sessions_ahead: AHEAD_DEFAULT,
            drain: Duration::ZERO,
            dns: Dns::default(),
            broker: Broker::default(),
            audit: Audit::default(),
        }
    }
}

impl Config {
    /// Reads the file that was named, or the one at the default place if there is one.
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(Error::Size(path.to_owned()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(error) => return Err(read(error)),
        }
        Self::parse(path, &fs::read_to_string(path).map_err(read)?)
    }

    /// The same for an agent: a file that others than root and the agent's own user could have written
    /// is refused.
    pub fn load_trusted(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        // One that can not be opened is told as such by `load`.
        if let Ok(file) = File::open(path) {
            ownership::file(path, &file)?;
        }
        Self::load(named)
    }

    /// Checks the text of a file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let raw = toml::from_str(text).map_err(|error| syntax(path, text, &error))?;
        let RawConfig {
            instance,
            policies,
            policies_history,
            policies_watch,
            control_group,
            metrics,
            metrics_tools,
            log:
                RawLog {
                    level,
                    format,
                    kernel,
                },
            sessions: RawSessions { max, ahead, drain },
            dns,
            broker,
            audit,
        } = raw;
        let place = Place { path, text };
        let default = Self::default();
        Ok(Self {
            instance: instance.map_or(Ok(default.instance), |name| place.instance(&name))?,
            policies: policies.map_or(Ok(default.policies), |folder| {
                place.absolute(&folder, "policies")
            })?,
            policies_history: policies_history
                .map_or(Ok(default.policies_history), |sets| place.history(&sets))?,
            policies_watch,
            control_group: control_group.unwrap_or(default.control_group),
            metrics: metrics.map_or(Ok(default.metrics), |text| place.metrics(&text))?,
            metrics_tools: metrics_tools.map_or(Ok(default.metrics_tools), |number| {
                place.metrics_tools(&number)
            })?,
            log_level: level.map_or(Ok(default.log_level), |text| place.log_level(&text))?,
            kernel_log: kernel,
            log_format: format,
            sessions_max: max.map_or(Ok(default.sessions_max), |max| place.sessions(&max))?,
            sessions_ahead: ahead
                .map_or(Ok(default.sessions_ahead), |ahead| place.ahead(&ahead))?,
            drain: drain.map_or(Ok(default.drain), |text| place.drain(&text))?,
            dns: dns.check(&place)?,
            broker: broker.check(&place)?,
            audit: audit.check(&place)?,
        })
    }
}

impl Metrics {
    /// Reads `off` or an address with its port.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self::Off);
        }
        text.parse().ok().map(Self::Address)
    }
}
