//! The record of one session: what its policy's sessions have in common, rendered once, and its user.
//! Every launch writes it twice, to its caller and to the journal: in the journal's form, which is a
//! canonical one, both times.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use serde_json::value::RawValue;

use super::{Measure, fence, limited, memory_counted, unix_sockets};
use crate::{json::canonical, kernel::cgroup, sandbox::plan::Plan};

/// The record of a session. Sessions of a policy share all of it but their user.
#[derive(Clone, Debug)]
pub struct Enforced {
    shared: Arc<Shared>,
    uid: u32,
}

/// What is the same for every session of a policy, and its form in records, made once.
#[derive(Debug)]
pub(crate) struct Shared {
    memory_counted: bool,
    limits: Vec<cgroup::Measure>,
    unix_hooks: bool,
    before_user: Vec<Rendered>,
    after_user: Vec<Rendered>,
}

#[derive(Debug)]
struct Rendered(Measure, Box<RawValue>);

impl Shared {
    /// What a session has whose worker was executed under `plan`: every step before that succeeded,
    /// or there would be none. `unix_hooks` says whether the kernel judges the name of a unix socket.
    pub(crate) fn new(
        plan: &Plan,
        memory_counted: bool,
        limits: &[cgroup::Measure],
        unix_hooks: bool,
    ) -> serde_json::Result<Self> {
        let egress =
            Measure::enforced("egress", "the hooks of the parent cgroup know this session");
        let before_user = std::iter::once(egress).chain(limits.iter().map(limited));
        let after_user = fence(plan, memory_counted).into_iter();
        let after_user = after_user.chain([unix_sockets(plan, unix_hooks)]);
        Ok(Self {
            memory_counted,
            limits: limits.to_vec(),
            unix_hooks,
            before_user: before_user.map(Rendered::new).collect::<Result<_, _>>()?,
            after_user: after_user.map(Rendered::new).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it was made of these.
    pub(crate) fn is_of(
        &self,
        memory_counted: bool,
        limits: &[cgroup::Measure],
        unix_hooks: bool,
    ) -> bool {
        self.memory_counted == memory_counted
            && self.limits == limits
            && self.unix_hooks == unix_hooks
    }
}

impl Rendered {
    fn new(measure: Measure) -> serde_json::Result<Self> {
        let form = canonical::raw(&measure)?;
        Ok(Self(measure, form))
    }
}

impl Enforced {
    /// The record of a session of this user.
    pub(crate) fn new(shared: Arc<Shared>, uid: u32) -> Self {
        Self { shared, uid }
    }

    /// The measures, in the order of the layers.
    #[must_use]
    pub fn measures(&self) -> Vec<Measure> {
        let Shared {
            before_user,
            after_user,
            ..
        } = &*self.shared;
        let of = |rendered: &Rendered| rendered.0.clone();
        let before = before_user.iter().map(of).chain([self.user()]);
        before.chain(after_user.iter().map(of)).collect()
    }

    /// What a session would have, before there is one.
    #[must_use]
    pub fn planned(plan: &Plan, limits: &[cgroup::Measure]) -> Vec<Measure> {
        let mut measures: Vec<_> = limits.iter().map(limited).collect();
        measures.extend(fence(plan, memory_counted(limits)));
        measures
    }

    fn user(&self) -> Measure {
        let uid = self.uid;
        Measure::enforced("user", format!("uid and gid {uid}, no groups"))
    }
}

impl Serialize for Enforced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Record<'a> {
            measures: Measures<'a>,
        }
        Record {
            measures: Measures(self),
        }
        .serialize(serializer)
    }
}

struct Measures<'a>(&'a Enforced);

impl Serialize for Measures<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(enforced) = self;
        let Shared {
            before_user,
            after_user,
            ..
        } = &*enforced.shared;
        let mut list = serializer.serialize_seq(None)?;
        for Rendered(_, form) in before_user {
            list.serialize_element(form)?;
        }
        list.serialize_element(&enforced.user())?;
        for Rendered(_, form) in after_user {
            list.serialize_element(form)?;
        }
        list.end()
    }
}
