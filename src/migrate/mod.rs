//! Configuration of Traefik 2 in the form of Traefik 3: labels, flags, variables, static and dynamic files. Changes exactly the bytes
//! that must be others; comments, order and quotes of everything else stay.

mod advice;
mod diff;
mod entry;
mod rule;
mod stack;
mod steps;
#[cfg(test)]
mod tests;
mod text;
mod toml;
mod yaml;

use self::rule::Stands;
use self::stack::Kind;
use self::steps::{Facts, Kept, Step};
use self::text::Text;
use crate::compose::{Pair, Project, Service};
use crate::config::{Place, tree::Format};

/// A text in its old and its new form.
#[derive(Debug)]
pub struct Migrated {
    pub name: String,
    pub new: String,
    /// Empty if nothing changes.
    pub diff: String,
    /// What has no new form, or does something else there.
    pub remarks: Vec<Remark>,
}

/// What there is to say about an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    pub line: usize,
    pub column: usize,
    pub option: String,
    pub text: String,
}

/// The files that are to be changed, and what each of them is.
#[derive(Debug, Default)]
pub struct Migration {
    texts: Vec<Text>,
}

impl Migration {
    /// Adds a static or dynamic configuration file.
    pub fn add_file(&mut self, name: &str, text: &str, format: Format) {
        let mut file = Text::new(name, text, Stands::Actions);
        // Lines of a Go template between those of a file leave nothing that could be read as it is.
        let is_template = text.lines().any(|line| line.trim_start().starts_with("{{"));
        let read = match format {
            _ if is_template => None,
            Format::Toml => toml::read(text),
            Format::Yaml => {
                file.yaml = yaml::read(text);
                let yaml = file.yaml.as_ref();
                yaml.map(|yaml| yaml.entries(&file.lines, text))
            }
        };
        match read {
            Some(entries) => file.entries = entries,
            None => file.remarks.push(Remark {
                line: 1,
                column: 1,
                option: String::new(),
                text: "cannot be read as it is (is it a template?), and stays as it is".to_owned(),
            }),
        }
        self.texts.push(file);
    }

    /// Adds what the services of a project say. `text` gives the text of a file; `is_proxy` tells the services that are told options.
    pub fn add_project(
        &mut self,
        project: &Project,
        text: &dyn Fn(&str) -> Option<String>,
        is_proxy: &dyn Fn(&Service) -> bool,
    ) {
        for service in &project.services {
            let labels = service.labels.iter().chain(&service.deploy_labels);
            for pair in labels {
                self.add_pair(pair, Kind::Label, text);
            }
            if is_proxy(service) {
                for pair in &service.environment {
                    self.add_pair(pair, Kind::Variable, text);
                }
                for words in [&service.entrypoint, &service.command] {
                    let words = words.iter().flatten();
                    let words: Vec<(&str, &Place)> = words
                        .map(|word| (word.text.as_str(), &word.place))
                        .collect();
                    self.add_words(&words, text);
                }
            }
        }
    }

    fn add_pair(&mut self, pair: &Pair, kind: Kind, text: &dyn Fn(&str) -> Option<String>) {
        let Some((file, node)) = self.node(&pair.key, text) else {
            return;
        };
        let entry = file.as_file().and_then(|it| it.option(node, kind));
        if let Some(entry) = entry {
            file.add(entry);
        }
    }

    fn add_words(&mut self, words: &[(&str, &Place)], text: &dyn Fn(&str) -> Option<String>) {
        let mut rest = words;
        while let Some(((word, place), later)) = rest.split_first() {
            let same = later.iter().take_while(|(_, other)| other == place).count();
            let Some((file, node)) = self.node(place, text) else {
                rest = later;
                continue;
            };
            let Some(stack) = file.as_file() else {
                rest = later;
                continue;
            };
            if same > 0 {
                let line: Vec<&str> = rest[..=same].iter().map(|(word, _)| *word).collect();
                for entry in stack.line(node, &line) {
                    file.add(entry);
                }
                rest = &rest[same + 1..];
                continue;
            }
            let entry = stack.option(node, Kind::Flag);
            let has_value = word.contains('=');
            if let Some(mut entry) = entry {
                // The next word is the value, unless it is a flag itself.
                let next = later.first().filter(|(next, _)| !next.starts_with('-'));
                if let Some((_, place)) = next.filter(|_| !has_value) {
                    file.take_value(&mut entry, place);
                }
                file.add(entry);
            }
            rest = later;
        }
    }

    /// The file and the node that stand at a place.
    fn node(
        &mut self,
        place: &Place,
        text: &dyn Fn(&str) -> Option<String>,
    ) -> Option<(&mut Text, usize)> {
        let Place::File { path, line, column } = place else {
            return None;
        };
        let known = self.texts.iter().position(|known| *known.name == **path);
        let index = match known {
            Some(index) => index,
            None => {
                let mut file = Text::new(path, &text(path)?, Stands::Variables);
                file.yaml = yaml::read(&file.text);
                self.texts.push(file);
                self.texts.len() - 1
            }
        };
        let file = &mut self.texts[index];
        let yaml = file.yaml.as_ref()?;
        let node = yaml.find(&file.lines, &file.text, (*line, *column))?;
        Some((file, node))
    }

    /// Every text that changes, or about which there is something to say.
    pub fn finish(self) -> Vec<Migrated> {
        let facts = Facts::of(&self.texts);
        let steps: Vec<Vec<Vec<Step>>> = self
            .texts
            .iter()
            .map(|text| {
                text.entries
                    .iter()
                    .map(|it| facts.steps(it, text.stands))
                    .collect()
            })
            .collect();
        let kept = Kept::of(&self.texts, &steps);
        let all = self.texts.into_iter().zip(steps);
        all.map(|(text, steps)| text.migrated(&facts, &kept, steps))
            .filter(|migrated| !migrated.diff.is_empty() || !migrated.remarks.is_empty())
            .collect()
    }
}
