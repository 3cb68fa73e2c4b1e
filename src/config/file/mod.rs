//! Routing configuration from the text of a file.

use std::path::Path;

use super::diagnostic::{Diagnostic, Place};
use super::routing::{DecodedRouting, decode_routing};
use super::template::{self, EnvLookup, Value};
use super::tree::{Format, Parsed, Source, parse};

/// Reads a routing file: its template, its syntax, its objects. An error means that the file as a whole could not be read, so that
/// its last good content should go on serving.
pub fn parse_routing_file(
    name: &str,
    text: &str,
    env: EnvLookup<'_>,
) -> Result<DecodedRouting, Vec<Diagnostic>> {
    decoded(parse_file(name, text, env)?)
}

/// Reads the text of somebody who is not to see our environment: no template in it is run.
pub fn parse_routing_text(
    name: &str,
    text: &str,
    format: Format,
) -> Result<DecodedRouting, Vec<Diagnostic>> {
    decoded(parse(format, &Source::new(name, text)))
}

fn decoded(parsed: Parsed) -> Result<DecodedRouting, Vec<Diagnostic>> {
    match parsed.root {
        None if parsed.diagnostics.iter().any(Diagnostic::is_error) => Err(parsed.diagnostics),
        _ => Ok(decode_routing(parsed)),
    }
}

fn parse_file(name: &str, text: &str, env: EnvLookup<'_>) -> Result<Parsed, Vec<Diagnostic>> {
    let format = Format::of(Path::new(name)).ok_or_else(|| {
        let wrong = Diagnostic::error(Place::whole_file(name), "", "is neither YAML nor TOML");
        vec![wrong.with_hint("name it `.yml`, `.yaml` or `.toml`")]
    })?;
    let written = Source::new(name, text);
    match template::render(&written, &Value::Bool(false), env)? {
        None => Ok(parse(format, &written)),
        Some(made) => {
            let source = Source::rendered(name, &made.text, text, &made.segments);
            Ok(parse(format, &source))
        }
    }
}

/// What a routing file's template made of it, for those who want to see it.
pub fn render_routing_file(
    name: &str,
    text: &str,
    env: EnvLookup<'_>,
) -> Result<String, Vec<Diagnostic>> {
    let rendered = template::render(&Source::new(name, text), &Value::Bool(false), env)?;
    Ok(rendered.map_or_else(|| text.to_owned(), |rendered| rendered.text))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
