//! Text to tree: the grammar `expression = conjunction { "||" conjunction }`, `conjunction = unary { "&&" unary }`,
//! `unary = { "!" } ( matcher "(" strings ")" | "(" expression ")" )`.
//!
//! Negation is pushed down to the matchers while parsing (De Morgan), so the tree holds none elsewhere.

use std::borrow::Cow;
use std::sync::Arc;

use super::build::Builder;
use super::lexer::{Lexer, Token};
use super::matcher::Node;
use super::names;
use super::{Parsed, Rule, RuleError, Syntax};

/// Parses `text` completely.
pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Parsed, RuleError> {
    if text.len() > MAX_LENGTH {
        return Err(RuleError::at(
            text,
            0,
            format!(
                "the rule is {} bytes long, the limit is {MAX_LENGTH}",
                text.len()
            ),
        ));
    }
    let mut parser = Parser::new(text, syntax)?;
    let root = parser.expression(false)?;
    if parser.token == Token::Newline {
        parser.advance()?;
    }
    match parser.token {
        Token::End => Ok(Parsed {
            rule: Rule(Arc::new(root)),
            warnings: parser.builder.into_notes(),
        }),
        _ => Err(parser.trailing()),
    }
}

/// One string argument of a matcher and where it starts.
#[derive(Debug)]
pub(super) struct Argument<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) at: usize,
}

#[derive(Debug)]
struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    token: Token<'t>,
    /// Where `token` starts.
    at: usize,
    depth: usize,
    matchers: usize,
    builder: Builder<'t>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, syntax: Syntax) -> Result<Self, RuleError> {
        let mut lexer = Lexer::new(text);
        let (at, token) = lexer.next()?;
        Ok(Self {
            text,
            lexer,
            token,
            at,
            depth: 0,
            matchers: 0,
            builder: Builder::new(text, syntax),
        })
    }

    fn advance(&mut self) -> Result<(), RuleError> {
        (self.at, self.token) = self.lexer.next()?;
        Ok(())
    }

    fn expression(&mut self, negated: bool) -> Result<Node, RuleError> {
        let mut node = self.conjunction(negated)?;
        while self.token == Token::Or {
            self.advance()?;
            let right = self.conjunction(negated)?;
            node = if negated {
                Node::and(node, right)
            } else {
                Node::or(node, right)
            };
        }
        Ok(node)
    }

    fn conjunction(&mut self, negated: bool) -> Result<Node, RuleError> {
        let mut node = self.unary(negated)?;
        while self.token == Token::And {
            self.advance()?;
            let right = self.unary(negated)?;
            node = if negated {
                Node::or(node, right)
            } else {
                Node::and(node, right)
            };
        }
        Ok(node)
    }

    fn unary(&mut self, mut negated: bool) -> Result<Node, RuleError> {
        while self.token == Token::Not {
            negated = !negated;
            self.advance()?;
        }
        match self.token {
            Token::Open => self.group(negated),
            Token::Name(name) => self.matcher(name, negated),
            _ => Err(self.expected_matcher()),
        }
    }

    fn group(&mut self, negated: bool) -> Result<Node, RuleError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("parentheses are nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        self.advance()?;
        let node = self.expression(negated)?;
        self.depth -= 1;
        match self.token {
            Token::Close => self.advance()?,
            Token::Newline => return Err(self.broken_line("`)`")),
            _ => return Err(self.unexpected("`&&`, `||` or `)`")),
        }
        Ok(node)
    }

    fn matcher(&mut self, name: &'t str, negated: bool) -> Result<Node, RuleError> {
        let start = self.at;
        let kind = names::find(self.text, start, name, self.builder.syntax())?;
        self.matchers += 1;
        if self.matchers > MAX_MATCHERS {
            return Err(self.error(format!("the rule has more than {MAX_MATCHERS} matchers")));
        }
        self.advance()?;
        if self.token != Token::Open {
            return Err(self
                .unexpected(&format!("`(` after {name}"))
                .hint(format!("write {name}(`…`)")));
        }
        let mut arguments = self.builder.take_arguments();
        self.arguments(name, &mut arguments)?;
        let node = self.builder.matcher(kind, start, &arguments, negated)?;
        self.builder.give_arguments(arguments);
        Ok(node)
    }

    /// The arguments of a matcher, from its `(` to behind its `)`.
    fn arguments(
        &mut self,
        name: &str,
        arguments: &mut Vec<Argument<'t>>,
    ) -> Result<(), RuleError> {
        self.advance()?;
        while self.token != Token::Close {
            let Token::Text(text) = &mut self.token else {
                return Err(self.expected_string(name));
            };
            let text = std::mem::take(text);
            if arguments.len() == MAX_MATCHERS {
                return Err(self.error(format!("{name} has more than {MAX_MATCHERS} arguments")));
            }
            arguments.push(Argument { text, at: self.at });
            self.advance()?;
            match self.token {
                Token::Comma => self.advance()?,
                Token::Close => {}
                Token::Newline => return Err(self.broken_line("`,` or `)`")),
                _ => return Err(self.unexpected("`,` or `)`")),
            }
        }
        self.advance()
    }

    fn expected_matcher(&self) -> RuleError {
        match &self.token {
            Token::End if self.text.trim().is_empty() => self
                .error("the rule is empty")
                .hint("a rule that matches every request is PathPrefix(`/`)"),
            Token::Text(_) => self
                .unexpected("a matcher")
                .hint("write Host(`…`), PathPrefix(`…`) or another matcher around it"),
            _ => self.unexpected("a matcher such as Host(`…`)"),
        }
    }

    fn expected_string(&self, name: &str) -> RuleError {
        match &self.token {
            Token::Name(_) | Token::Other(_) | Token::Not => self
                .unexpected(&format!("a quoted string as argument of {name}"))
                .hint(format!("write {name}(`…`) with backticks")),
            Token::End => self.unexpected(&format!("a string or `)` after {name}(")),
            _ => self.unexpected(&format!("a string as argument of {name}")),
        }
    }

    /// The error for what follows a complete expression.
    fn trailing(&self) -> RuleError {
        let error = self.unexpected("`&&`, `||` or the end of the rule");
        match &self.token {
            Token::Name(word) if word.eq_ignore_ascii_case("and") => {
                error.hint("write && instead of and")
            }
            Token::Name(word) if word.eq_ignore_ascii_case("or") => {
                error.hint("write || instead of or")
            }
            Token::Other("&") => error.hint("write &&"),
            Token::Other("|") => error.hint("write ||"),
            Token::And | Token::Or => self.broken_line("the end of the rule"),
            Token::Close => error.hint("there is no `(` that it closes"),
            Token::Name(_) | Token::Not | Token::Open => error.hint("join matchers with && or ||"),
            _ => error,
        }
    }

    /// The error for a line that ends where Go ends the expression.
    fn broken_line(&self, expected: &str) -> RuleError {
        self.error(format!(
            "the rule may not be broken before this place; expected {expected} on the line before"
        ))
        .hint("end the line with &&, || or `,`")
    }

    fn unexpected(&self, expected: &str) -> RuleError {
        self.error(format!(
            "expected {expected}, found {}",
            self.token.describe()
        ))
    }

    fn error(&self, message: impl Into<String>) -> RuleError {
        RuleError::at(self.text, self.at, message)
    }
}

/// Bytes a rule may have; the largest rules seen in the wild list some hundred hosts.
const MAX_LENGTH: usize = 256 * 1024;
const MAX_MATCHERS: usize = 4096;
/// Bounds the recursion of the parser, the evaluation and everything else that walks the tree.
const MAX_DEPTH: usize = 100;
