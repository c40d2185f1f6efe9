//! Log lines for journald by its own protocol (`systemd.journal-fields(7)`, *Native Journal Protocol*):
//! the line that people read, and beside it each field by name, so that
//! `journalctl STOCKADE_SESSION_ID=7` finds what a session did.
//!
//! Control characters are escaped in every value: journald stores bytes as they come.

use std::{fmt::Write as _, io, os::unix::net::UnixDatagram};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Before each of our fields' names.
const PREFIX: &str = "STOCKADE_";
/// Bytes of one value; what is longer is cut.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a field's name, by journald's rule.
const NAME_BYTES_MAX: usize = 64;

/// The layer that sends lines to journald.
pub(super) struct Journald {
    socket: UnixDatagram,
}

impl Journald {
    /// Connects; an error where no journald listens.
    pub(super) fn connect() -> io::Result<Self> {
        Self::connect_to(SOCKET)
    }

    fn connect_to(path: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self { socket })
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let entry = fields.entry(event.metadata());
        if self.socket.send(&entry).is_err() {
            // Standard error leads to the journal too, without the fields.
            let priority = priority(*event.metadata().level());
            eprintln!("<{priority}>{}", fields.line());
        }
    }
}

/// The priority of a level (`syslog(3)`).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: &str) {
        let mut safe = String::with_capacity(value.len());
        for letter in value.chars() {
            if safe.len() >= VALUE_BYTES_MAX {
                safe.push('…');
                break;
            }
            if letter.is_control() {
                safe.extend(letter.escape_default());
            } else {
                safe.push(letter);
            }
        }
        if field.name() == "message" {
            self.message = safe;
        } else {
            self.others.push((field.name(), safe));
        }
    }

    /// `message name=value …`.
    fn line(&self) -> String {
        let mut line = self.message.clone();
        for (name, value) in &self.others {
            // Writing to a string can not fail.
            write!(line, " {name}={value}").ok();
        }
        line
    }

    fn entry(&self, metadata: &Metadata<'_>) -> Vec<u8> {
        let mut entry = Vec::with_capacity(512);
        put(&mut entry, "MESSAGE", &self.line());
        let priority = priority(*metadata.level()).to_string();
        put(&mut entry, "PRIORITY", &priority);
        put(&mut entry, "SYSLOG_IDENTIFIER", "stockade");
        put(&mut entry, &field_name("target"), metadata.target());
        put(&mut entry, &field_name("message"), &self.message);
        for (name, value) in &self.others {
            put(&mut entry, &field_name(name), value);
        }
        entry
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }
}

/// One field. There is no line end in the value: it was escaped.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'=');
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// `session.id` is `STOCKADE_SESSION_ID`: capitals, digits and `_` are what journald takes.
fn field_name(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => letter.to_ascii_uppercase(),
        _ => '_',
    });
    PREFIX.chars().chain(letters).take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::Journald;

    fn sent(say: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        let layer = Journald::connect_to(path.to_str().expect("text")).expect("connected");
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, say);
        let mut buffer = vec![0; 1 << 17];
        let size = journal.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer.get(..size).expect("size").to_vec()).expect("text")
    }

    #[test]
    fn a_line_for_people_and_each_field_by_name() {
        let entry = sent(|| {
            tracing::warn!(session.id = 7, dst.name = "api.example", "verdict");
        });
        let lines: Vec<_> = entry.lines().collect();
        assert_eq!(
            lines,
            [
                "MESSAGE=verdict session.id=7 dst.name=api.example",
                "PRIORITY=4",
                "SYSLOG_IDENTIFIER=stockade",
                "STOCKADE_TARGET=agent::observe::journald::tests",
                "STOCKADE_MESSAGE=verdict",
                "STOCKADE_SESSION_ID=7",
                "STOCKADE_DST_NAME=api.example",
            ]
        );
    }

    #[test]
    fn nobody_writes_a_field_of_another_name() {
        let entry = sent(|| {
            let said = "x\nPRIORITY=0\n\x1b[31mred\u{9b}\0";
            tracing::info!(worker.said = said, other = ?said, "worker");
        });
        assert_eq!(
            entry
                .lines()
                .filter(|line| line.starts_with("PRIORITY="))
                .count(),
            1
        );
        assert!(
            !entry
                .chars()
                .any(|letter| letter.is_control() && letter != '\n')
        );
        assert!(entry.contains("STOCKADE_WORKER_SAID=x\\nPRIORITY=0\\n\\u{1b}[31mred"));
    }

    #[test]
    fn a_value_without_end_is_cut() {
        let entry = sent(|| tracing::info!(worker.said = "é".repeat(1 << 20), "worker"));
        assert!(entry.len() < 3 * super::VALUE_BYTES_MAX, "{}", entry.len());
        assert!(entry.contains('…'));
    }
}
