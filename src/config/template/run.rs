//! Runs a parsed template.

use super::functions::Context;
use super::parse::{Branch, Command, Operand, Part, Pipeline};
use super::{EnvLookup, Rendered, Segment, Value, Wrong};

/// Makes the output.
pub(super) fn run(
    text: &str,
    parts: &[Part],
    data: &Value,
    env: EnvLookup<'_>,
) -> Result<Rendered, Wrong> {
    let mut run = Run {
        text,
        env,
        output: String::new(),
        segments: Vec::new(),
        variables: vec![(String::new(), data.clone())],
        steps: 0,
    };
    run.parts(parts, data)?;
    Ok(Rendered {
        text: run.output,
        segments: run.segments,
    })
}

struct Run<'a> {
    text: &'a str,
    env: EnvLookup<'a>,
    output: String,
    segments: Vec<Segment>,
    /// Innermost last; `$` alone has the empty name.
    variables: Vec<(String, Value)>,
    steps: usize,
}

/// A key or index, and what is there.
type Item = (Value, Value);

impl Run<'_> {
    fn parts(&mut self, parts: &[Part], dot: &Value) -> Result<(), Wrong> {
        let scope = self.variables.len();
        for part in parts {
            self.part(part, dot)?;
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn part(&mut self, part: &Part, dot: &Value) -> Result<(), Wrong> {
        match part {
            Part::Text(start, end) => self.push(*start, &self.text[*start..*end], true),
            Part::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.push(pipeline.offset, &value.to_string(), false)
            }
            Part::Set {
                name,
                declare,
                value,
            } => self.set(name, *declare, value, dot),
            Part::If(branches) => self.branches(branches, dot),
            Part::With {
                value,
                body,
                otherwise,
            } => {
                let value = self.pipeline(value, dot)?;
                match value.is_true() {
                    true => self.parts(body, &value),
                    false => self.parts(otherwise, dot),
                }
            }
            Part::Range {
                names,
                over,
                body,
                otherwise,
            } => {
                let items = self.items(over, dot)?;
                if items.is_empty() {
                    return self.parts(otherwise, dot);
                }
                self.range(names, items, over.offset, body)
            }
        }
    }

    fn branches(&mut self, branches: &[Branch], dot: &Value) -> Result<(), Wrong> {
        for Branch { condition, body } in branches {
            let chosen = match condition {
                None => true,
                Some(condition) => self.pipeline(condition, dot)?.is_true(),
            };
            if chosen {
                return self.parts(body, dot);
            }
        }
        Ok(())
    }

    fn items(&mut self, over: &Pipeline, dot: &Value) -> Result<Vec<Item>, Wrong> {
        match self.pipeline(over, dot)? {
            Value::List(items) => Ok((0..).map(Value::Int).zip(items).collect()),
            Value::Map(entries) => Ok(entries
                .into_iter()
                .map(|(name, value)| (Value::Text(name), value))
                .collect()),
            Value::Int(count) => {
                let count = count.clamp(0, MAX_STEPS as i64);
                Ok((0..count).map(|n| (Value::Int(n), Value::Int(n))).collect())
            }
            Value::Nil => Ok(Vec::new()),
            other => Err(Wrong::new(
                over.offset,
                format!("cannot range over {other:?}"),
            )),
        }
    }

    fn range(
        &mut self,
        names: &[String],
        items: Vec<Item>,
        offset: usize,
        body: &[Part],
    ) -> Result<(), Wrong> {
        let scope = self.variables.len();
        for (key, value) in items {
            self.step(offset)?;
            match names {
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
                [] => {}
            }
            self.parts(body, &value)?;
            self.variables.truncate(scope);
        }
        Ok(())
    }

    fn set(
        &mut self,
        name: &str,
        declare: bool,
        value: &Pipeline,
        dot: &Value,
    ) -> Result<(), Wrong> {
        let offset = value.offset;
        let value = self.pipeline(value, dot)?;
        if declare {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let slot = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        let (_, slot) = slot.ok_or_else(|| undeclared(offset, name))?;
        *slot = value;
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Wrong> {
        let mut carried = None;
        for command in &pipeline.commands {
            self.step(pipeline.offset)?;
            carried = Some(self.command(command, carried, dot)?);
        }
        Ok(carried.unwrap_or(Value::Nil))
    }

    fn command(
        &mut self,
        command: &Command,
        carried: Option<Value>,
        dot: &Value,
    ) -> Result<Value, Wrong> {
        let (offset, function, operands) = match command {
            Command::Value(operand) => return self.operand(operand, dot),
            Command::Call {
                offset,
                function,
                arguments,
            } => (*offset, function, arguments),
        };
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(carried);
        let context = Context { env: self.env };
        let value = function.call(&context, &arguments);
        value.map_err(|message| Wrong::new(offset, format!("`{}` {message}", function.name)))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Wrong> {
        match operand {
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Field(names) => Ok(field(dot, names)),
            Operand::Group(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                Ok(field(&value, fields))
            }
            Operand::Variable(offset, name, fields) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| undeclared(*offset, name))?;
                Ok(field(value, fields))
            }
        }
    }

    fn push(&mut self, origin: usize, text: &str, copied: bool) -> Result<(), Wrong> {
        if self.output.len() + text.len() > MAX_OUTPUT {
            return Err(Wrong::new(origin, "the output is too large"));
        }
        if !text.is_empty() {
            self.segments.push(Segment {
                output: self.output.len(),
                origin,
                copied,
            });
            self.output.push_str(text);
        }
        Ok(())
    }

    fn step(&mut self, offset: usize) -> Result<(), Wrong> {
        self.steps += 1;
        match self.steps > MAX_STEPS {
            true => Err(Wrong::new(offset, format!("more than {MAX_STEPS} steps"))),
            false => Ok(()),
        }
    }
}

fn undeclared(offset: usize, name: &str) -> Wrong {
    Wrong::new(offset, format!("the variable `${name}` is not declared"))
}

fn field(value: &Value, names: &[String]) -> Value {
    let mut value = value;
    for name in names {
        let Value::Map(entries) = value else {
            return Value::Nil;
        };
        match entries.get(name) {
            Some(inner) => value = inner,
            None => return Value::Nil,
        }
    }
    value.clone()
}

const MAX_OUTPUT: usize = 32 * 1024 * 1024;
const MAX_STEPS: usize = 1_000_000;
