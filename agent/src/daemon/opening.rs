//! What an engine opens before anything runs: its journal, and what issues tokens.

use std::{path::Path, sync::Arc};

use super::{error::StartError, tokens::Tokens};
use crate::{
    audit::{Journal, Opened},
    config::{Broker, Calls, Instance},
};

/// Opens the journal and says what was found in it.
pub(super) fn open_journal(path: &Path) -> Result<Arc<Journal>, StartError> {
    let (journal, opened) = Journal::open(path)?;
    say_opened(&opened);
    Ok(Arc::new(journal))
}

/// How calls are taken, and what issues tokens for them; neither where no calls are taken.
pub(super) fn open_tokens(
    broker: Option<Broker>,
    instance: &Instance,
    journal: &Arc<Journal>,
) -> Result<(Option<Calls>, Option<Tokens>), StartError> {
    let broker = broker.filter(|settings| settings.calls.enabled);
    let calls = broker.as_ref().map(|settings| settings.calls.clone());
    let tokens = broker.map(|settings| Tokens::open(settings, instance, journal));
    Ok((calls, tokens.transpose()?))
}

/// What was found in the journal that somebody should know.
fn say_opened(opened: &Opened) {
    if opened.torn_bytes > 0 {
        let bytes = opened.torn_bytes;
        tracing::warn!(
            journal.torn_bytes = bytes,
            "journal ended in a record that was cut"
        );
    }
    if opened.unfinished > 0 {
        tracing::warn!(
            journal.unfinished = opened.unfinished,
            "the last agent ended unseen; what became of its sessions and calls is not known"
        );
    }
    if opened.adopted {
        tracing::warn!("journal without a chain put aside; the new one goes on from it");
    }
}
