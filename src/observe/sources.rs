//! How the sources of routing configuration are: whether they answer, and when they last told everything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// All sources that may be away, by the name of their provider. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sources(Arc<Mutex<BTreeMap<Arc<str>, SourceState>>>);

/// How one source is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceState {
    /// Whether it answers.
    pub connected: bool,
    /// When it last told everything.
    pub last_sync: Option<SystemTime>,
    /// Why it is away.
    pub problem: Option<String>,
}

impl Sources {
    /// The one of this provider; it is listed once it has reported something.
    pub fn source(&self, provider: &Arc<str>) -> Source {
        Source {
            provider: Arc::clone(provider),
            all: self.clone(),
        }
    }

    /// All states by provider.
    pub fn states(&self) -> BTreeMap<Arc<str>, SourceState> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, SourceState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one provider reports how its source is.
#[derive(Debug, Clone)]
pub struct Source {
    provider: Arc<str>,
    all: Sources,
}

impl Source {
    /// It has told everything.
    pub fn synced(&self) {
        self.change(|state| {
            *state = SourceState {
                connected: true,
                last_sync: Some(SystemTime::now()),
                problem: None,
            };
        });
    }

    /// It does not answer.
    pub fn lost(&self, problem: String) {
        self.change(|state| {
            state.connected = false;
            state.problem = Some(problem);
        });
    }

    fn change(&self, change: impl FnOnce(&mut SourceState)) {
        let mut states = self.all.lock();
        change(states.entry(Arc::clone(&self.provider)).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_lost_keeps_the_time_of_its_last_word() {
        let sources = Sources::default();
        let docker: Arc<str> = "docker".into();
        let source = sources.source(&docker);
        assert!(sources.states().is_empty());
        source.lost("no such file".to_owned());
        assert_eq!(sources.states()[&docker].last_sync, None);
        source.synced();
        let synced = sources.states()[&docker].clone();
        assert!(synced.connected && synced.problem.is_none());
        source.lost("gone".to_owned());
        let lost = sources.states()[&docker].clone();
        assert!(!lost.connected && lost.last_sync == synced.last_sync);
        assert_eq!(lost.problem.as_deref(), Some("gone"));
    }
}
