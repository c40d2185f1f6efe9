//! The place of a policy's template, empty until somebody needs one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, OnceCell},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{Channel, Template};
use crate::{
    config::Instance,
    launcher::error::LaunchError,
    policy::compiled::CompiledPolicy,
    sandbox::{Plan, PlanError},
};

/// File systems that have not shown the listed paths by then do not answer. Less than a launch may take: it
/// is said what is wrong.
pub(super) const LOOK_TIME_MAX: Duration = Duration::from_secs(4);

/// A plan, and when it was begun.
type Planned = Result<(Instant, Plan), PlanError>;

/// Makes one template at a time.
#[derive(Debug, Default)]
pub(in crate::launcher) struct TemplateCell {
    template: OnceCell<Arc<Template>>,
    /// The plan that is computed, by a thread that nobody can end: whoever tries again waits for the same.
    planning: Mutex<Option<JoinHandle<Planned>>>,
}

impl TemplateCell {
    /// The template, where there is one.
    pub(in crate::launcher) fn get(&self) -> Option<&Arc<Template>> {
        self.template.get()
    }

    /// The template, or a new one.
    pub(in crate::launcher) async fn get_or_make(
        &self,
        instance: &Instance,
        launcher: &Channel,
        policy: &Arc<CompiledPolicy>,
    ) -> Result<Arc<Template>, LaunchError> {
        let template = self
            .template
            .get_or_try_init(|| self.make(instance, launcher, policy))
            .await?;
        Ok(Arc::clone(template))
    }

    async fn make(
        &self,
        instance: &Instance,
        launcher: &Channel,
        policy: &Arc<CompiledPolicy>,
    ) -> Result<Arc<Template>, LaunchError> {
        let (began, plan) = self.plan(instance, policy).await?;
        Template::new(launcher, policy, plan, began).await
    }

    async fn plan(
        &self,
        instance: &Instance,
        policy: &Arc<CompiledPolicy>,
    ) -> Result<(Instant, Plan), LaunchError> {
        let mut planning = self.planning.lock().await;
        // One that ended when everybody had given up tells how the host was then.
        if planning.as_ref().is_some_and(JoinHandle::is_finished) {
            *planning = None;
        }
        let under_way = planning.get_or_insert_with(|| {
            let (instance, policy) = (instance.clone(), Arc::clone(policy));
            spawn_blocking(move || {
                let began = Instant::now();
                Plan::new(&instance, &policy).map(|plan| (began, plan))
            })
        });
        let planned = timeout(LOOK_TIME_MAX, under_way).await;
        let planned = planned.map_err(|_elapsed| unanswered())?;
        *planning = None;
        Ok(planned.map_err(|error| LaunchError::Lost(error.into()))??)
    }
}

/// The listed paths can not be looked at.
pub(super) fn unanswered() -> LaunchError {
    LaunchError::Unanswered {
        seconds: LOOK_TIME_MAX.as_secs(),
    }
}

#[cfg(test)]
mod tests;
