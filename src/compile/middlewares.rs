//! Middlewares: every one checked, chains expanded to the steps they stand for, one instance made for each router that uses it.

use std::{cell::RefCell, collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Stage,
    authorities::Authorities,
    fallback::{self, Forms},
    needs,
};
use crate::{
    config::{
        About, Diagnostic, Kind,
        definitions::{Defined, Definitions, Name, Suggestions, qualify},
        routing::Middleware as Config,
    },
    middleware::Middleware,
    service::Service,
};

/// Every middleware that can be used.
pub(super) struct Middlewares<'a> {
    stage: &'a Stage<'a>,
    /// Single steps.
    steps: BTreeMap<Arc<str>, Step>,
    authorities: Authorities,
    /// What each chain stands for.
    chains: BTreeMap<Name, Vec<Name>>,
    suggestions: Suggestions<'a>,
}

/// A middleware that is no chain.
struct Step {
    definition: Defined<Config>,
    /// Whether an instance of the previous snapshot would come out the same.
    unchanged: bool,
    /// The instance that was made to see whether it can be; the first router gets it.
    first: RefCell<Option<Middleware>>,
}

impl<'a> Middlewares<'a> {
    /// Checks all middlewares, used or not.
    pub(super) fn build(
        stage: &'a Stage<'a>,
        good: &mut Definitions,
        findings: &mut Vec<Diagnostic>,
    ) -> Self {
        let wanted = &stage.wanted.middlewares;
        let mut middlewares = Self {
            stage,
            steps: BTreeMap::new(),
            authorities: Authorities::default(),
            chains: BTreeMap::new(),
            suggestions: Suggestions::new(wanted.keys().map(|name| &**name)),
        };
        let last = stage.last.map(|last| &last.middlewares);
        let all = fallback::forms(Kind::Middleware, wanted, stage.wanted, last);
        for forms in &all {
            let name = forms.name;
            // A chain can only be expanded when its members are known.
            if forms.best().is_some_and(is_chain) {
                continue;
            }
            let built = forms.build(findings, |definition, findings| {
                make((stage, &middlewares.authorities), definition, findings)
            });
            if let Some((first, definition)) = built {
                good.middlewares
                    .insert(Arc::clone(name), definition.clone());
                let step = middlewares.step(definition, first);
                middlewares.steps.insert(Arc::clone(name), step);
            }
        }
        let mut expansion = Expansion::default();
        for forms in &all {
            middlewares.expand(forms.name, &mut expansion, findings);
        }
        good.middlewares.extend(expansion.good);
        middlewares.chains = expansion
            .done
            .into_iter()
            .filter_map(|(name, steps)| Some((name, steps?)))
            .collect();
        middlewares
    }

    /// The steps that `names`, as written by an object of `provider`, stand for; for each name that cannot be used, its position and
    /// why.
    pub(super) fn resolve<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
        provider: &str,
    ) -> Result<Vec<Name>, Vec<Misplaced>> {
        let mut steps = Vec::new();
        let mut missing = Vec::new();
        for (position, name) in names.enumerate() {
            let name = qualify(name, provider);
            if let Some((name, _)) = self.steps.get_key_value(&*name) {
                steps.push(Arc::clone(name));
            } else if let Some(chain) = self.chains.get(&*name) {
                steps.extend(chain.iter().map(Arc::clone));
            } else {
                missing.push((position, self.missing(&name)));
            }
        }
        if missing.is_empty() {
            Ok(steps)
        } else {
            Err(missing)
        }
    }

    /// Whether all of `steps` would come out as they were in the previous snapshot.
    pub(super) fn unchanged(&self, steps: &[Arc<str>]) -> bool {
        steps
            .iter()
            .all(|name| self.steps.get(name).is_some_and(|step| step.unchanged))
    }

    /// A new instance of a step that was resolved before.
    pub(super) fn instance(&self, name: &Arc<str>) -> Option<Middleware> {
        let step = self.steps.get(name)?;
        let first = step.first.borrow_mut().take();
        let stage = (self.stage, &self.authorities);
        first.or_else(|| make(stage, &step.definition, &mut Vec::new()))
    }

    /// All that can be used, but for chains.
    pub(super) fn definitions(&self) -> impl Iterator<Item = &Defined<Config>> {
        self.steps.values().map(|step| &step.definition)
    }

    /// The services that middlewares ask.
    pub(super) fn authorities(&self) -> Vec<Arc<Service>> {
        self.authorities.all()
    }

    fn forms<'n>(&self, name: &'n Arc<str>) -> Forms<'n, Config>
    where
        'a: 'n,
    {
        let last = self.stage.last.map(|last| &last.middlewares);
        Forms::of(
            Kind::Middleware,
            name,
            (&self.stage.wanted.middlewares, self.stage.wanted),
            last,
        )
    }

    fn step(&self, definition: Defined<Config>, first: Middleware) -> Step {
        let before = self
            .stage
            .last
            .and_then(|last| last.middlewares.get(&definition.name));
        let previous = self.stage.input.previous;
        let same_files = previous.is_none_or(|previous| {
            let files = needs::of_middleware(&definition.object.value);
            let now = self.stage.input.files;
            files.iter().all(|path| previous.files.agree_on(now, path))
        });
        let same_authority = match &definition.object.value {
            Config::ForwardAuth(_) => self.authorities.unchanged(self.stage, &definition.name),
            _ => true,
        };
        Step {
            unchanged: same_files
                && same_authority
                && before.is_some_and(|before| before.object == definition.object),
            first: RefCell::new(Some(first)),
            definition,
        }
    }

    fn missing(&self, name: &str) -> Missing {
        let known = self.stage.wanted.middlewares.contains_key(name)
            || self
                .stage
                .wanted
                .broken
                .contains(&(Kind::Middleware, name.into()));
        match known {
            true => Missing {
                about: self.about(name),
                message: format!("the middleware `{name}` cannot be used"),
                hint: None,
            },
            false => Missing {
                about: About::Value,
                message: format!("the middleware `{name}` does not exist"),
                hint: self.suggestions.hint(name),
            },
        }
    }

    /// Whether a middleware that cannot be used is one that nobody could use yet.
    fn about(&self, name: &str) -> About {
        let definition = self.stage.wanted.middlewares.get(name);
        match definition.map(|definition| &definition.object.value) {
            Some(Config::Unsupported { .. }) => About::Unsupported,
            _ => About::Value,
        }
    }

    /// Expands a chain and those within it.
    fn expand(
        &self,
        name: &Arc<str>,
        expansion: &mut Expansion,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Vec<Arc<str>>> {
        if let Some((name, _)) = self.steps.get_key_value(name) {
            return Some(vec![Arc::clone(name)]);
        }
        if let Some(done) = expansion.done.get(name) {
            return done.clone();
        }
        expansion.path.push(Arc::clone(name));
        let built = self.forms(name).build(findings, |definition, findings| {
            self.expand_form(definition, expansion, findings)
        });
        expansion.path.pop();
        let steps = built.map(|(steps, definition)| {
            expansion.good.insert(Arc::clone(name), definition);
            steps
        });
        expansion.done.insert(Arc::clone(name), steps.clone());
        steps
    }

    fn expand_form(
        &self,
        definition: &Defined<Config>,
        expansion: &mut Expansion,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<Vec<Arc<str>>> {
        let Config::Chain(chain) = &definition.object.value else {
            return None;
        };
        if chain.middlewares.is_empty() {
            const FIELD: &str = "chain.middlewares";
            if !definition.object.places.wrote(FIELD) {
                findings.push(definition.error(Kind::Middleware, FIELD, "the chain is empty"));
                return None;
            }
            let message = "the chain is empty and does nothing";
            findings.push(definition.warning(Kind::Middleware, FIELD, message));
        }
        let mut steps = Vec::new();
        let mut complete = true;
        for (position, member) in chain.middlewares.iter().enumerate() {
            let member: Arc<str> = qualify(member, &definition.provider).into();
            let expanded = match expansion.obstacle(&member, steps.len()) {
                Some(obstacle) => Err(Missing {
                    about: About::Value,
                    message: obstacle,
                    hint: None,
                }),
                None => self
                    .expand(&member, expansion, findings)
                    .ok_or_else(|| self.missing(&member)),
            };
            match expanded {
                Ok(expanded) => steps.extend(expanded),
                Err(missing) => {
                    let field = format!("chain.middlewares[{position}]");
                    findings.push(missing.about(definition.error(Kind::Middleware, &field, "")));
                    complete = false;
                }
            }
        }
        complete.then_some(steps)
    }
}

/// A name that cannot be used: its position in a list, and why.
pub(super) type Misplaced = (usize, Missing);

/// Why a name cannot be used.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) about: About,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Missing {
    /// Puts it into a finding.
    pub(super) fn about(self, finding: Diagnostic) -> Diagnostic {
        Diagnostic {
            about: self.about,
            message: self.message,
            hint: self.hint,
            ..finding
        }
    }
}

/// Chains being expanded.
#[derive(Default)]
struct Expansion {
    /// The chains that are being expanded now, outermost first.
    path: Vec<Arc<str>>,
    /// `None` for those that cannot be.
    done: BTreeMap<Name, Option<Vec<Name>>>,
    good: BTreeMap<Arc<str>, Defined<Config>>,
}

impl Expansion {
    fn obstacle(&self, member: &Arc<str>, steps: usize) -> Option<String> {
        if let Some(start) = self.path.iter().position(|name| name == member) {
            let circle: Vec<&str> = self.path[start..]
                .iter()
                .chain([member])
                .map(|name| &**name)
                .collect();
            return Some(format!(
                "the chain contains itself: {}",
                circle.join(" -> ")
            ));
        }
        if self.path.len() > MAX_DEPTH {
            return Some(format!("chains are nested more than {MAX_DEPTH} deep"));
        }
        (steps > MAX_STEPS).then(|| format!("the chain has more than {MAX_STEPS} steps"))
    }
}

fn is_chain(definition: &Defined<Config>) -> bool {
    matches!(definition.object.value, Config::Chain(_))
}

/// Looks for what is wrong with a middleware that is not to be used.
pub(super) fn look(
    stage: &Stage<'_>,
    definition: &Defined<Config>,
    findings: &mut Vec<Diagnostic>,
) {
    if !is_chain(definition) {
        make((stage, &Authorities::default()), definition, findings);
    }
}

fn make(
    (stage, authorities): (&Stage<'_>, &Authorities),
    definition: &Defined<Config>,
    findings: &mut Vec<Diagnostic>,
) -> Option<Middleware> {
    if let Config::Unsupported {
        kind: "plugin",
        config,
    } = &definition.object.value
    {
        return make_plugin(stage, definition, &config.0, findings);
    }
    if let Config::Errors(errors) = &definition.object.value
        && !leads_somewhere(stage, definition, &errors.service)
    {
        let message = format!(
            "the service `{}` does not exist",
            qualify(&errors.service, &definition.provider)
        );
        findings.push(definition.error(Kind::Middleware, "errors.service", message));
        return None;
    }
    let read = |path: &str| {
        stage
            .input
            .files
            .text(Path::new(path))
            .map(|text| text.to_string())
    };
    let mut made = Middleware::build(&definition.name, &definition.object, &read, findings)?;
    made.share(&stage.input.workshop.stores);
    if let (Middleware::ForwardAuth(auth), Config::ForwardAuth(config)) =
        (&mut made, &definition.object.value)
    {
        auth.ask(authorities.of(stage, definition, config, findings)?);
    }
    Some(made)
}

/// Whether there is a service of this name, as far as can be told before services are built.
fn leads_somewhere(stage: &Stage<'_>, definition: &Defined<Config>, service: &str) -> bool {
    let name = qualify(service, &definition.provider);
    let (wanted, last) = (stage.wanted, stage.last);
    // Without a service there is more to say than this.
    service.is_empty()
        || name.ends_with("@internal")
        || wanted.services.contains_key(&*name)
        || wanted.broken.contains(&(Kind::Service, (*name).into()))
        || (wanted.is_all_broken(Kind::Service, &definition.provider)
            && last.is_some_and(|last| last.services.contains_key(&*name)))
}

/// `plugin: {name: options}`: a middleware the embedder brought.
fn make_plugin(
    stage: &Stage<'_>,
    definition: &Defined<Config>,
    config: &serde_json::Value,
    findings: &mut Vec<Diagnostic>,
) -> Option<Middleware> {
    let plugins = &stage.input.workshop.plugins;
    let written = config.as_object().and_then(|plugins| plugins.iter().next());
    let Some((name, options)) = written else {
        findings.push(definition.error(Kind::Middleware, "plugin", "names no plugin"));
        return None;
    };
    let field = format!("plugin.{name}");
    let Some(make) = plugins.get(name) else {
        let known: Vec<&str> = plugins.names().collect();
        let finding = definition.error(
            Kind::Middleware,
            &field,
            format!("the plugin `{name}` is not built in"),
        );
        let finding = finding.about(About::Unsupported);
        findings.push(finding.with_hint(match known.is_empty() {
            true => "Go plugins cannot be loaded; middlewares are added in Rust, see examples/custom_middleware.rs".to_owned(),
            false => format!("there are: {}", known.join(", ")),
        }));
        return None;
    };
    match make(options) {
        Ok(hook) => Some(Middleware::Custom(hook)),
        Err(message) => {
            findings.push(definition.error(Kind::Middleware, &field, message));
            None
        }
    }
}

const MAX_DEPTH: usize = 32;
const MAX_STEPS: usize = 512;
