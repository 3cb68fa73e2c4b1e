//! Template text to a tree of parts.

use super::functions::{self, Function};
use super::lex::{Piece, Token, TokenKind, pieces, tokens};
use super::{Value, Wrong};
use crate::config::decode::did_you_mean;

/// A part of a template.
#[derive(Debug)]
pub(super) enum Part {
    /// Text, by byte range.
    Text(usize, usize),
    /// A value put into the output.
    Print(Pipeline),
    /// `$x := …` or `$x = …`.
    Set {
        name: String,
        declare: bool,
        value: Pipeline,
    },
    /// `if … else if … else … end`; a branch without a condition is the last.
    If(Vec<Branch>),
    /// `with … else … end`.
    With {
        value: Pipeline,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
    /// `range $key, $value := … else … end`.
    Range {
        names: Vec<String>,
        over: Pipeline,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

/// One way of an `if`.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) condition: Option<Pipeline>,
    pub(super) body: Vec<Part>,
}

/// Commands, each given the result of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) offset: usize,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) enum Command {
    Call {
        offset: usize,
        function: Function,
        arguments: Vec<Operand>,
    },
    Value(Operand),
}

#[derive(Debug)]
pub(super) enum Operand {
    Constant(Value),
    Field(Vec<String>),
    Variable(usize, String, Vec<String>),
    /// `( … )`, and fields of its value.
    Group(Pipeline, Vec<String>),
}

/// Parses a template; unknown functions are all reported, other mistakes end it.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, Vec<Wrong>> {
    let pieces = pieces(text).map_err(|wrong| vec![wrong])?;
    let mut parser = Parser {
        text,
        pieces: pieces.into_iter(),
        wrong: Vec::new(),
        depth: 0,
    };
    match parser.body(None) {
        Ok((parts, _)) if parser.wrong.is_empty() => Ok(parts),
        Ok(_) => Err(parser.wrong),
        Err(wrong) => {
            parser.wrong.push(wrong);
            Err(parser.wrong)
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    pieces: std::vec::IntoIter<Piece>,
    wrong: Vec<Wrong>,
    depth: usize,
}

/// Parts up to an end, and what ended them.
type Body = (Vec<Part>, End);
/// A body and its `else`.
type Bodies = (Vec<Part>, Vec<Part>);
type Outcome<T> = Result<T, Wrong>;

/// What ended a body.
enum End {
    Text,
    Closed,
    /// `else`, with what follows it on the same action.
    Else(Tokens),
}

impl Parser<'_> {
    /// Parts up to the end of the text, or of the block opened at an offset.
    fn body(&mut self, opened: Option<usize>) -> Outcome<Body> {
        let mut parts = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (start, end) = match piece {
                Piece::Text(start, end) => {
                    parts.push(Part::Text(start, end));
                    continue;
                }
                Piece::Action(start, end) => (start, end),
            };
            let mut tokens = Tokens::new(start, tokens(self.text, start, end)?);
            let start = tokens.offset();
            match (tokens.word(), opened) {
                (Some("end"), Some(_)) => return Ok((parts, End::Closed)),
                (Some("else"), Some(_)) => {
                    tokens.skip();
                    return Ok((parts, End::Else(tokens)));
                }
                (Some(word @ ("end" | "else")), None) => {
                    return Err(Wrong::new(
                        start,
                        format!("`{word}` without `if`, `with` or `range`"),
                    ));
                }
                _ => parts.extend(self.action(tokens)?),
            }
        }
        match opened {
            Some(offset) => Err(Wrong::new(offset, "this block has no `{{ end }}`")),
            None => Ok((parts, End::Text)),
        }
    }

    fn action(&mut self, mut tokens: Tokens) -> Result<Option<Part>, Wrong> {
        let start = tokens.offset();
        let part = match tokens.word() {
            None if tokens.rest().is_empty() => return Ok(None),
            Some("if") => {
                tokens.skip();
                self.nested(start, |parser| parser.conditional(start, tokens))?
            }
            Some("with") => {
                tokens.skip();
                let value = self.whole_pipeline(tokens)?;
                let (body, otherwise) = self.nested(start, |parser| parser.block(start))?;
                Part::With {
                    value,
                    body,
                    otherwise,
                }
            }
            Some("range") => {
                tokens.skip();
                let names = tokens.declared_names();
                let over = self.whole_pipeline(tokens)?;
                let (body, otherwise) = self.nested(start, |parser| parser.block(start))?;
                Part::Range {
                    names,
                    over,
                    body,
                    otherwise,
                }
            }
            Some(word @ ("define" | "template" | "block" | "break" | "continue")) => {
                let message = format!("`{word}` is not supported in routing files");
                return Err(Wrong::new(start, message));
            }
            _ => self.print_or_set(tokens)?,
        };
        Ok(Some(part))
    }

    /// Blocks in blocks are recursion.
    fn nested<T>(
        &mut self,
        offset: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Wrong::new(
                offset,
                format!("nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn print_or_set(&mut self, mut tokens: Tokens) -> Result<Part, Wrong> {
        match tokens.assignment() {
            Some((name, declare)) => {
                let value = self.whole_pipeline(tokens)?;
                Ok(Part::Set {
                    name,
                    declare,
                    value,
                })
            }
            None => self.whole_pipeline(tokens).map(Part::Print),
        }
    }

    fn conditional(&mut self, start: usize, condition: Tokens) -> Result<Part, Wrong> {
        let mut condition = Some(self.whole_pipeline(condition)?);
        let mut branches = Vec::new();
        loop {
            let last = condition.is_none();
            let (body, end) = self.body(Some(start))?;
            branches.push(Branch {
                condition: condition.take(),
                body,
            });
            match end {
                End::Else(mut rest) if !last => {
                    if rest.word() == Some("if") {
                        rest.skip();
                        condition = Some(self.whole_pipeline(rest)?);
                    }
                }
                End::Else(rest) => return Err(Wrong::new(rest.offset(), "a second `else`")),
                End::Closed | End::Text => return Ok(Part::If(branches)),
            }
        }
    }

    /// A body and its `else`.
    fn block(&mut self, start: usize) -> Outcome<Bodies> {
        let (body, end) = self.body(Some(start))?;
        let End::Else(_) = end else {
            return Ok((body, Vec::new()));
        };
        match self.body(Some(start))? {
            (_, End::Else(rest)) => Err(Wrong::new(rest.offset(), "a second `else`")),
            (otherwise, _) => Ok((body, otherwise)),
        }
    }

    fn whole_pipeline(&mut self, mut tokens: Tokens) -> Result<Pipeline, Wrong> {
        let pipeline = self.pipeline(&mut tokens, 0)?;
        match tokens.rest().first() {
            None => Ok(pipeline),
            Some(token) => Err(Wrong::new(token.offset, "unexpected here")),
        }
    }

    fn pipeline(&mut self, tokens: &mut Tokens, depth: usize) -> Result<Pipeline, Wrong> {
        let offset = tokens.offset();
        if depth > MAX_DEPTH {
            return Err(Wrong::new(offset, "too many parentheses"));
        }
        let mut commands = Vec::new();
        loop {
            let first = commands.is_empty();
            commands.extend(self.command(tokens, first, depth)?);
            if tokens.peek() != Some(&TokenKind::Pipe) {
                return Ok(Pipeline { offset, commands });
            }
            tokens.skip();
        }
    }

    /// Nothing when its function is unknown, which is noted.
    fn command(
        &mut self,
        tokens: &mut Tokens,
        first: bool,
        depth: usize,
    ) -> Result<Option<Command>, Wrong> {
        let offset = tokens.offset();
        let name = match tokens.word() {
            Some("true" | "false" | "nil") | None => None,
            Some(name) => Some(name.to_owned()),
        };
        let Some(name) = name else {
            let value = self.operand(tokens, depth)?;
            let value =
                value.ok_or_else(|| Wrong::new(offset, "a value or function is missing"))?;
            if !first {
                return Err(Wrong::new(offset, "a function is needed after `|`"));
            }
            return Ok(Some(Command::Value(value)));
        };
        tokens.skip();
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand(tokens, depth)? {
            arguments.push(argument);
        }
        Ok(self.function(offset, &name).map(|function| Command::Call {
            offset,
            function,
            arguments,
        }))
    }

    fn function(&mut self, offset: usize, name: &str) -> Option<Function> {
        let found = functions::find(name);
        if found.is_none() {
            let message = format!("unknown function `{name}`");
            let hint = did_you_mean(name, &functions::names());
            self.wrong.push(Wrong::new(offset, message).with_hint(hint));
        }
        found
    }

    fn operand(&mut self, tokens: &mut Tokens, depth: usize) -> Result<Option<Operand>, Wrong> {
        let offset = tokens.offset();
        let operand = match tokens.peek() {
            Some(TokenKind::Text(text)) => Operand::Constant(Value::Text(text.clone())),
            Some(TokenKind::Int(number)) => Operand::Constant(Value::Int(*number)),
            Some(TokenKind::Field(names)) => Operand::Field(names.clone()),
            Some(TokenKind::Variable(name, fields)) => {
                Operand::Variable(offset, name.clone(), fields.clone())
            }
            Some(TokenKind::Word(word)) => match word.as_str() {
                "true" => Operand::Constant(Value::Bool(true)),
                "false" => Operand::Constant(Value::Bool(false)),
                "nil" => Operand::Constant(Value::Nil),
                _ => {
                    // A function without arguments may stand for a value.
                    let name = word.clone();
                    tokens.skip();
                    let function = self.function(offset, &name);
                    return Ok(Some(Operand::Group(
                        call_alone(offset, function),
                        Vec::new(),
                    )));
                }
            },
            Some(TokenKind::Open) => {
                tokens.skip();
                let group = self.pipeline(tokens, depth + 1)?;
                if tokens.peek() != Some(&TokenKind::Close) {
                    return Err(Wrong::new(offset, "`(` without `)`"));
                }
                Operand::Group(group, tokens.fields_of_group())
            }
            _ => return Ok(None),
        };
        tokens.skip();
        Ok(Some(operand))
    }
}

fn call_alone(offset: usize, function: Option<Function>) -> Pipeline {
    let call = function.map(|function| Command::Call {
        offset,
        function,
        arguments: Vec::new(),
    });
    Pipeline {
        offset,
        commands: call.into_iter().collect(),
    }
}

/// The tokens of one action, read from the front.
struct Tokens {
    start: usize,
    tokens: Vec<Token>,
    at: usize,
}

impl Tokens {
    fn new(start: usize, tokens: Vec<Token>) -> Self {
        Self {
            start,
            tokens,
            at: 0,
        }
    }

    fn rest(&self) -> &[Token] {
        &self.tokens[self.at..]
    }

    fn peek(&self) -> Option<&TokenKind> {
        self.rest().first().map(|token| &token.kind)
    }

    fn word(&self) -> Option<&str> {
        match self.peek() {
            Some(TokenKind::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn skip(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len());
    }

    /// Offset of the next token, of the last when none is left, of the action when it is empty.
    fn offset(&self) -> usize {
        let token = self.rest().first().or_else(|| self.tokens.last());
        token.map_or(self.start, |token| token.offset)
    }

    /// `.A` straight after the closing parenthesis at the front; the parenthesis is left to skip unless there is one.
    fn fields_of_group(&mut self) -> Vec<String> {
        let [close, field, ..] = self.rest() else {
            return Vec::new();
        };
        match &field.kind {
            TokenKind::Field(names) if field.offset == close.offset + 1 => {
                let names = names.clone();
                self.skip();
                names
            }
            _ => Vec::new(),
        }
    }

    /// `$x :=` or `$x =` at the front.
    fn assignment(&mut self) -> Option<(String, bool)> {
        let [name, operator, ..] = self.rest() else {
            return None;
        };
        let declare = match operator.kind {
            TokenKind::Declare => true,
            TokenKind::Assign => false,
            _ => return None,
        };
        let name = variable(name)?;
        self.at += 2;
        Some((name, declare))
    }

    /// `$x :=` or `$i, $x :=` at the front; no names otherwise.
    fn declared_names(&mut self) -> Vec<String> {
        let names: Vec<_> = match self.rest() {
            [first, comma, second, declare, ..]
                if comma.kind == TokenKind::Comma && declare.kind == TokenKind::Declare =>
            {
                [first, second].into_iter().filter_map(variable).collect()
            }
            [only, declare, ..] if declare.kind == TokenKind::Declare => {
                variable(only).into_iter().collect()
            }
            _ => Vec::new(),
        };
        self.at += 2 * names.len();
        names
    }
}

fn variable(token: &Token) -> Option<String> {
    match &token.kind {
        TokenKind::Variable(name, fields) if fields.is_empty() => Some(name.clone()),
        _ => None,
    }
}

const MAX_DEPTH: usize = 32;
