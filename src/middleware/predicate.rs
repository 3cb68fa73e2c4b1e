//! The language of conditions on requests and answers: calls, compared with literals, joined by `&&`, `||` and parentheses.
//!
//! It is read here into a tree, with the place of everything; which calls there are is the business of whoever has the condition.

use std::fmt;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Compare {
        call: Call,
        operator: Operator,
        value: Placed<Literal>,
    },
    Call(Call),
}

/// `name(argument, ...)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Vec<Placed<Literal>>,
    /// From 1, in characters.
    pub(super) column: usize,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Whole(i64),
    Fraction(f64),
    Text(String),
}

/// Something, and the column where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) column: usize,
}

/// What is wrong with a condition, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) column: usize,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn new(column: usize, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { column, message }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)
    }
}

impl Operator {
    /// Whether two values that stand like this to one another fulfil it; those without an order fulfil `!=` alone.
    pub(super) fn holds(self, order: Option<std::cmp::Ordering>) -> bool {
        let Some(order) = order else {
            return self == Self::NotEqual;
        };
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    /// Whether it asks for equality only, which texts have too.
    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

impl Literal {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Whole(_) => "a whole number",
            Self::Fraction(_) => "a fraction",
            Self::Text(_) => "a text",
        }
    }
}

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Node, Mistake> {
    let mut reader = Reader {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
        end: text.chars().count() + 1,
    };
    let node = reader.either()?;
    match reader.peek() {
        None => Ok(node),
        Some(token) => Err(Mistake::new(token.column, unexpected(&token.value))),
    }
}

/// Parentheses and joins may be nested this deep.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Literal(Literal),
    /// An operator, a parenthesis or a comma.
    Sign(&'static str),
}

struct Reader {
    tokens: Vec<Placed<Token>>,
    next: usize,
    depth: usize,
    /// The column behind the text.
    end: usize,
}

impl Reader {
    /// `a || b`, which binds less than `a && b`.
    fn either(&mut self) -> Result<Node, Mistake> {
        let mut node = self.both()?;
        while self.take("||").is_some() {
            self.deeper()?;
            node = Node::Or(Box::new(node), Box::new(self.both()?));
        }
        Ok(node)
    }

    fn both(&mut self) -> Result<Node, Mistake> {
        let mut node = self.single()?;
        while self.take("&&").is_some() {
            self.deeper()?;
            node = Node::And(Box::new(node), Box::new(self.single()?));
        }
        Ok(node)
    }

    fn single(&mut self) -> Result<Node, Mistake> {
        if self.take("(").is_some() {
            self.deeper()?;
            let node = self.either()?;
            self.expect(")")?;
            return Ok(node);
        }
        let call = self.call()?;
        let Some(operator) = self.operator() else {
            return Ok(Node::Call(call));
        };
        let value = self.literal()?;
        Ok(Node::Compare {
            call,
            operator,
            value,
        })
    }

    fn call(&mut self) -> Result<Call, Mistake> {
        let (name, column) = match self.advance() {
            Some(Placed {
                value: Token::Name(name),
                column,
            }) => (name, column),
            other => return Err(self.wanted("a function", other)),
        };
        self.expect("(")?;
        let mut arguments = Vec::new();
        if self.take(")").is_none() {
            loop {
                arguments.push(self.literal()?);
                if self.take(",").is_none() {
                    break;
                }
            }
            self.expect(")")?;
        }
        Ok(Call {
            name,
            arguments,
            column,
        })
    }

    fn literal(&mut self) -> Result<Placed<Literal>, Mistake> {
        match self.advance() {
            Some(Placed {
                value: Token::Literal(value),
                column,
            }) => Ok(Placed { value, column }),
            other => Err(self.wanted("a number or a text in quotes", other)),
        }
    }

    fn operator(&mut self) -> Option<Operator> {
        let found = OPERATORS.iter().find(
            |(sign, _)| matches!(self.peek(), Some(token) if token.value == Token::Sign(sign)),
        );
        found.map(|(_, operator)| {
            self.next += 1;
            *operator
        })
    }

    fn deeper(&mut self) -> Result<(), Mistake> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let column = self.peek().map_or(self.end, |token| token.column);
            return Err(Mistake::new(column, "the condition has too many parts"));
        }
        Ok(())
    }

    fn peek(&self) -> Option<&Placed<Token>> {
        self.tokens.get(self.next)
    }

    fn advance(&mut self) -> Option<Placed<Token>> {
        let token = self.peek().cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn take(&mut self, sign: &'static str) -> Option<()> {
        let found = self.peek()?.value == Token::Sign(sign);
        self.next += usize::from(found);
        found.then_some(())
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Mistake> {
        match self.take(sign) {
            Some(()) => Ok(()),
            None => {
                let other = self.peek().cloned();
                Err(self.wanted(&format!("`{sign}`"), other))
            }
        }
    }

    fn wanted(&self, what: &str, found: Option<Placed<Token>>) -> Mistake {
        match found {
            Some(token) => Mistake::new(
                token.column,
                format!("expected {what}, found {}", shown(&token.value)),
            ),
            None => Mistake::new(self.end, format!("expected {what}, found the end")),
        }
    }
}

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// Longer signs first.
const SIGNS: [&str; 11] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "(", ")", ","];

fn unexpected(token: &Token) -> String {
    format!("{} cannot stand here", shown(token))
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{name}`"),
        Token::Sign(sign) => format!("`{sign}`"),
        Token::Literal(literal) => literal.kind().to_owned(),
    }
}

fn tokens(text: &str) -> Result<Vec<Placed<Token>>, Mistake> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let column = text[..at].chars().count() + 1;
        let rest = &text[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        let (value, length) = if let Some(sign) = sign {
            (Token::Sign(sign), sign.len())
        } else if first.is_ascii_digit() || first == '-' {
            number(rest, column)?
        } else if first == '"' || first == '`' {
            quoted(rest, first, column)?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = run(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            (Token::Name(rest[..length].to_owned()), length)
        } else {
            return Err(Mistake::new(
                column,
                format!("`{first}` has no meaning here"),
            ));
        };
        tokens.push(Placed { value, column });
        at += length;
    }
    Ok(tokens)
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn number(text: &str, column: usize) -> Result<(Token, usize), Mistake> {
    let digits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    let length = 1 + run(&text[1..], digits);
    let written = &text[..length];
    let literal = match (written.parse::<i64>(), written.parse::<f64>()) {
        (Ok(whole), _) => Literal::Whole(whole),
        (_, Ok(fraction)) if fraction.is_finite() => Literal::Fraction(fraction),
        _ => return Err(Mistake::new(column, format!("`{written}` is not a number"))),
    };
    Ok((Token::Literal(literal), length))
}

/// A text in double quotes, with backslashes before what means itself, or in back-quotes, as it is.
fn quoted(text: &str, quote: char, column: usize) -> Result<(Token, usize), Mistake> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            c if c == quote => return Ok((Token::Literal(Literal::Text(value)), at + 1)),
            '\\' if quote == '"' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some((_, other)) => {
                    return Err(Mistake::new(
                        column,
                        format!("`\\{other}` has no meaning in a text"),
                    ));
                }
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(Mistake::new(column, "the text does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(node: &Node) -> String {
        match node {
            Node::And(one, two) => format!("({} and {})", shape(one), shape(two)),
            Node::Or(one, two) => format!("({} or {})", shape(one), shape(two)),
            Node::Call(call) => call.name.clone(),
            Node::Compare {
                call,
                operator,
                value,
            } => format!("{} {operator:?} {:?}", call.name, value.value),
        }
    }

    #[test]
    fn conditions() {
        for (text, expected) in [
            ("A()", "A"),
            ("A() == 1", "A Equal Whole(1)"),
            ("A(50.0) > 0.5", "A Greater Fraction(0.5)"),
            ("A()!=`x\\`", r#"A NotEqual Text("x\\")"#),
            (r#"A() == "a\"b""#, r#"A Equal Text("a\"b")"#),
            ("A() || B() && C()", "(A or (B and C))"),
            ("(A() || B()) && C()", "((A or B) and C)"),
            ("A() && B() && C()", "((A and B) and C)"),
            (" ( ( A( ) <= -2 ) ) ", "A LessOrEqual Whole(-2)"),
            ("A(1, 2, 0, 6) >= 1", "A GreaterOrEqual Whole(1)"),
        ] {
            assert_eq!(shape(&parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_at_their_column() {
        for (text, expected) in [
            ("", "column 1: expected a function, found the end"),
            ("A() &&", "column 7: expected a function, found the end"),
            ("!A()", "column 1: `!` has no meaning here"),
            ("ä", "column 1: `ä` has no meaning here"),
            ("A", "column 2: expected `(`, found the end"),
            (
                "A() == B()",
                "column 8: expected a number or a text in quotes, found `B`",
            ),
            (
                "2 > A()",
                "column 1: expected a function, found a whole number",
            ),
            ("A() B()", "column 5: `B` cannot stand here"),
            ("A() == 1 == 2", "column 10: `==` cannot stand here"),
            ("(A()", "column 5: expected `)`, found the end"),
            ("A() == 0x1f7", "column 8: `0x1f7` is not a number"),
            ("A() == \"x", "column 8: the text does not end"),
            ("A() == \"\\n\"", "column 8: `\\n` has no meaning in a text"),
            (
                "A(,)",
                "column 3: expected a number or a text in quotes, found `,`",
            ),
            ("A() & B()", "column 5: `&` has no meaning here"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
        let deep = format!("{}A(){}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(parse(&deep).unwrap_err().column, MAX_DEPTH + 2);
    }
}
