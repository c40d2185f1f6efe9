//! The same question of the same session again: answered from what was decided a moment ago.

use common::decide::Mode;

use super::{Case, Resolver};
use crate::{
    clock::BootTime,
    dns::{cache::Kept, gate::Admitted, query::Query, ready::Reply, reply, stats::Served},
};

impl Resolver {
    /// Writes the reply where the decision of a moment ago stands.
    pub(super) fn repeats(
        &self,
        case: &Case,
        query: &Query<'_>,
        protocol: u16,
        out: &mut Vec<u8>,
    ) -> bool {
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return false;
        }
        let served = {
            let state = case.session.lock();
            let minute_ns = state.minute_ns(case.now.0);
            let Some(ready) = state.ready.find(&case.asker, query, minute_ns, case.now) else {
                return false;
            };
            if !ready.write(query, reply::bytes_max(query, protocol), out) {
                return false;
            }
            ready.served
        };
        self.counters.cache_hits.add();
        self.served(case, served);
        true
    }
}

impl Case {
    /// Keeps the reply that has just been written, for as long as it is told like this.
    pub(super) fn remember(
        &self,
        query: &Query<'_>,
        admitted: &Admitted,
        kept: &Kept,
        now: BootTime,
        written: &[u8],
    ) {
        let ends_ns = Reply::end(kept, now);
        // Of a worker that is only observed, each answer is told.
        if self.asker.policy.mode == Mode::Observe || ends_ns <= now.0 {
            return;
        }
        let Some((count, records)) = Reply::records(query, written) else {
            return;
        };
        let mut state = self.session.lock();
        let minute_ns = match admitted.chosen_bytes {
            Some(_) if state.has_taken(admitted.question.name.as_str()) => state.minute_ns(now.0),
            Some(_) => return,
            None => None,
        };
        let reply = Reply {
            code: kept.answer.code,
            served: if usize::from(count) == kept.answer.aliases.len() {
                Served::Nothing
            } else {
                Served::Answered
            },
            count,
            records: records.into(),
            minute_ns,
            ends_ns,
        };
        state.ready.keep(&self.asker, query, reply);
    }
}
