//! What becomes known of a query: it is counted once, and the daemon is told what it should hear of.

use std::{net::IpAddr, time::Duration};

use common::{
    decide::Mode,
    verdict::{Outcome, Reason},
};

use super::{Case, Resolver};
use crate::{
    clock::BootTime,
    dns::{
        answer::Records,
        asker::{Answered, QueryEvent},
        gate::{self, Admitted},
        query::Query,
        stats::Served,
    },
    policy::compiled::CompiledPolicy,
};

impl Resolver {
    /// Counts an answer, and tells the witness of it where the worker is only observed.
    pub(super) fn told(&self, case: &Case, admitted: &Admitted, records: &Records) {
        let served = if records.is_empty() {
            Served::Nothing
        } else {
            Served::Answered
        };
        self.served(case, served);
        if case.asker.policy.mode == Mode::Observe {
            self.witness.answered(Answered {
                session: case.asker.session,
                policy: &case.asker.policy,
                question: &admitted.question,
                observed: admitted.observed,
                addresses: match records {
                    Records::Addresses(addresses) => addresses,
                    Records::Others(_) => &[],
                },
            });
        }
    }

    pub(super) fn served(&self, case: &Case, result: Served) {
        self.counters.of(result).add();
        let duration = BootTime::now().0.saturating_sub(case.now.0);
        self.witness.served(
            case.asker.policy.tool.as_str(),
            result,
            Duration::from_nanos(duration),
        );
    }

    pub(super) fn report(
        &self,
        case: &Case,
        query: Option<&Query<'_>>,
        (outcome, reason): (Outcome, Reason),
        address: Option<IpAddr>,
    ) {
        let now = BootTime::now();
        if !case.session.lock().may_report(now.0) {
            self.counters.events_suppressed.add();
            return;
        }
        let policy: &CompiledPolicy = &case.asker.policy;
        self.witness.saw(QueryEvent {
            session: case.asker.session,
            tool: policy.tool.as_str().to_owned(),
            name: query.map(Query::shown_name).unwrap_or_default(),
            record: query
                .map(|query| gate::record_name(query.record))
                .unwrap_or_default(),
            outcome,
            reason,
            rule: query.and_then(|query| gate::rule_text(policy, query)),
            address,
            took: Duration::from_nanos(now.0.saturating_sub(case.now.0)),
        });
    }
}

pub(super) fn denied(reason: Reason) -> (Outcome, Reason) {
    (Outcome::Deny, reason)
}
