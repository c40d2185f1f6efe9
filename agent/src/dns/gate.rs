//! Which questions a policy lets a worker ask. Pure: a policy and a query in, a ruling out.
//!
//! What is refused here never leaves the host, in whatever letters: the name that goes upstream is
//! the canonical one, made here.

use common::{decide::Mode, verdict::Reason};

use super::query::Query;
use crate::policy::{
    compiled::{CompiledPolicy, Record, Rule},
    domain::DomainName,
};

/// A name and a type that may be asked for upstream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Question {
    /// The name.
    pub name: DomainName,
    /// The type.
    pub record: Record,
}

/// What becomes of a query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// It is answered.
    Admit(Admitted),
    /// No rule covers the name. Whether that is worth an event.
    NoName(Option<Reason>),
    /// The name is covered, the type is not among its rules' records: there is nothing, and whether
    /// that is worth an event.
    NoRecord(Option<Reason>),
    /// A name that every resolver knows not to exist here (`localhost`, reverse names).
    Nothing,
}

/// A question that the gate let pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// The question.
    pub question: Question,
    /// Bytes of labels before the base of the longest wildcard, where no rule names the name itself:
    /// what a worker could say by choosing names.
    pub chosen_bytes: Option<usize>,
    /// Why it would be refused if the mode were not `observe`.
    pub observed: Option<Reason>,
}

/// Judges one query.
#[must_use]
pub fn judge(policy: &CompiledPolicy, query: &Query<'_>) -> Ruling {
    let observing = policy.mode == Mode::Observe;
    let Some(text) = query.plain_name() else {
        return Ruling::NoName(Some(Reason::NameNotAllowed));
    };
    if is_answered_here(&text) {
        return Ruling::Nothing;
    }
    // The parser knows IDNA's mappings; a name that it would change is not the name that was asked.
    let name = match DomainName::parse(&text) {
        Ok(name) if name.as_str() == text => name,
        _ => return Ruling::NoName(Some(Reason::NameNotAllowed)),
    };
    let egress = &policy.egress;
    let mut covered = false;
    let mut answered = false;
    let mut base = None;
    let mut exact = false;
    let record = record(query.record);
    for rule in egress.names.covering(&egress.rules, &name) {
        let Some(domain) = rule.domain() else {
            continue;
        };
        covered = true;
        answered |= record.is_some_and(|record| domain.answers(record));
        match domain.pattern.wildcard_base() {
            // From the longest to the shortest.
            Some(wildcard) => base = base.or(Some(wildcard.len())),
            None => exact = true,
        }
    }
    let observed = match (covered, answered) {
        (true, true) => None,
        (true, false) => Some(Reason::RecordNotAllowed),
        (false, _) => Some(Reason::NameNotAllowed),
    };
    match (record, observed) {
        (Some(record), observed) if observed.is_none() || observing => {
            let chosen_bytes = base
                .filter(|_| !exact)
                .map(|base| name.as_str().len().saturating_sub(base));
            Ruling::Admit(Admitted {
                question: Question { name, record },
                chosen_bytes,
                observed,
            })
        }
        (_, Some(Reason::NameNotAllowed)) => Ruling::NoName(observed),
        // Programs ask for these of every name; an event for each would bury the others.
        (Some(Record::A | Record::Aaaa | Record::Https | Record::Svcb), _) => {
            Ruling::NoRecord(None)
        }
        (_, _) => Ruling::NoRecord(Some(Reason::RecordNotAllowed)),
    }
}

/// The rules by which a question is answered: those that cover the name and list the type.
pub fn rules<'a>(
    policy: &'a CompiledPolicy,
    question: &'a Question,
) -> impl Iterator<Item = &'a Rule> {
    let egress = &policy.egress;
    egress
        .names
        .covering(&egress.rules, &question.name)
        .filter(|rule| {
            rule.domain()
                .is_some_and(|domain| domain.answers(question.record))
        })
}

/// The first rule that covers the name, whatever it lists, in its canonical words.
#[must_use]
pub fn rule_text(policy: &CompiledPolicy, query: &Query<'_>) -> Option<String> {
    let name = DomainName::parse(&query.plain_name()?).ok()?;
    let egress = &policy.egress;
    let rule = egress.names.covering(&egress.rules, &name).next()?;
    Some(rule.text.clone())
}

/// Number of a type (IANA DNS parameters).
#[must_use]
pub const fn number(record: Record) -> u16 {
    match record {
        Record::A => 1,
        Record::Mx => 15,
        Record::Txt => 16,
        Record::Aaaa => 28,
        Record::Srv => 33,
        Record::Svcb => 64,
        Record::Https => 65,
        Record::Caa => 257,
    }
}

fn record(wanted: u16) -> Option<Record> {
    use Record::{A, Aaaa, Caa, Https, Mx, Srv, Svcb, Txt};
    [A, Aaaa, Mx, Txt, Srv, Caa, Https, Svcb]
        .into_iter()
        .find(|record| number(*record) == wanted)
}

/// Name of a type for people.
#[must_use]
pub fn record_name(wanted: u16) -> String {
    match record(wanted) {
        Some(record) => record.word().to_owned(),
        None => hickory_proto::rr::RecordType::from(wanted).to_string(),
    }
}

/// `localhost` (RFC 6761, 6.3): a worker's own loopback is behind a door of its policy, which names
/// the address. Reverse names: an address that a worker knows is not a reason to tell upstream of it.
fn is_answered_here(name: &str) -> bool {
    ["localhost", "in-addr.arpa", "ip6.arpa"]
        .into_iter()
        .any(|zone| {
            name.strip_suffix(zone)
                .is_some_and(|head| head.is_empty() || head.ends_with('.'))
        })
}

#[cfg(test)]
mod tests;
