//! The language of conditions: `NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(50.0) > 100`.
//!
//! A function stands left of a comparison and a number of its own type right of it: `0.5` for a ratio, `100` for milliseconds.

use super::lexer::{Lexer, Token};

/// A condition, and what must be counted for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expression {
    pub(super) condition: Condition,
    /// The sets of answers that are counted.
    pub(super) codes: Vec<Codes>,
    /// Whether latencies matter.
    pub(super) latency: bool,
}

/// When the breaker opens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    All(Box<[Self; 2]>),
    Any(Box<[Self; 2]>),
    /// Of the answers in `codes[whole]`, the share of those in `codes[part]`.
    Ratio {
        part: usize,
        whole: usize,
        order: Order,
        limit: f64,
    },
    /// Milliseconds within which that many percent were answered.
    Latency {
        quantile: f64,
        order: Order,
        limit: i64,
    },
}

/// How two numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Order {
    pub(super) fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
        }
    }
}

/// A set of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    All,
    /// Those that say that a server could not be reached: 502 and 504.
    Network,
    /// From the first code up to, but without, the second.
    Range(i64, i64),
}

impl Codes {
    pub(super) fn contains(self, status: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network => matches!(status, 502 | 504),
            Self::Range(from, to) => (from..to).contains(&i64::from(status)),
        }
    }
}

/// What is wrong with an expression, and at which column of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub(super) struct Wrong {
    pub(super) column: usize,
    pub(super) message: String,
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut parser = Parser {
            lexer: Lexer::new(text)?,
            codes: Vec::new(),
            latency: false,
            depth: 0,
        };
        let start = parser.lexer.column();
        let value = parser.any()?;
        let Value::Condition(condition) = value else {
            let message = format!(
                "{} is no condition: compare it, as in `NetworkErrorRatio() > 0.5`",
                value.name()
            );
            return Err(Wrong {
                column: start,
                message,
            });
        };
        if parser.lexer.token() != &Token::End {
            return Err(parser.lexer.unexpected("`&&`, `||` or the end"));
        }
        Ok(Self {
            condition,
            codes: parser.codes,
            latency: parser.latency,
        })
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    codes: Vec<Codes>,
    latency: bool,
    depth: usize,
}

/// A part of an expression.
enum Value {
    Condition(Condition),
    Ratio(usize, usize),
    Latency(f64),
    Int(i64),
    Float(f64),
    Text,
}

impl Value {
    fn name(&self) -> &'static str {
        match self {
            Self::Condition(_) => "a condition",
            Self::Ratio(..) => "a ratio",
            Self::Latency(_) => "a latency",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text => "a text",
        }
    }
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Value, Wrong> {
        self.joined(&Token::Or, Self::all, |both| Condition::Any(Box::new(both)))
    }

    fn all(&mut self) -> Result<Value, Wrong> {
        self.joined(&Token::And, Self::comparison, |both| {
            Condition::All(Box::new(both))
        })
    }

    /// Conditions with `operator` between them, or a single value.
    fn joined(
        &mut self,
        operator: &Token,
        operand: fn(&mut Self) -> Result<Value, Wrong>,
        join: fn([Condition; 2]) -> Condition,
    ) -> Result<Value, Wrong> {
        let mut column = self.lexer.column();
        let mut left = operand(self)?;
        while self.lexer.token() == operator {
            self.lexer.advance()?;
            let first = condition(left, column)?;
            column = self.lexer.column();
            let second = condition(operand(self)?, column)?;
            left = Value::Condition(join([first, second]));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Value, Wrong> {
        let column = self.lexer.column();
        let mut left = self.operand()?;
        while let Token::Compare(order) = *self.lexer.token() {
            self.lexer.advance()?;
            let right_column = self.lexer.column();
            let right = self.operand()?;
            left = Value::Condition(compare((left, column), order, (right, right_column))?);
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Value, Wrong> {
        match self.lexer.token().clone() {
            Token::Open => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    let message = format!("parentheses are nested more than {MAX_DEPTH} deep");
                    return Err(self.lexer.wrong(message));
                }
                self.lexer.advance()?;
                let inner = self.any()?;
                self.expect(&Token::Close, "`)`")?;
                self.depth -= 1;
                Ok(inner)
            }
            Token::Name(name) => self.call(&name),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<Value, Wrong> {
        let value = match self.lexer.token() {
            Token::Int(number) => Value::Int(*number),
            Token::Float(number) => Value::Float(*number),
            Token::Text => Value::Text,
            _ => return Err(self.lexer.unexpected("a function or a number")),
        };
        self.lexer.advance()?;
        Ok(value)
    }

    fn call(&mut self, name: &str) -> Result<Value, Wrong> {
        let column = self.lexer.column();
        let wrong = |message: &str| Wrong {
            column,
            message: message.to_owned(),
        };
        self.lexer.advance()?;
        if !FUNCTIONS.contains(&name) {
            return Err(wrong(&format!(
                "there is no `{name}`; there are `NetworkErrorRatio()`, `ResponseCodeRatio(from, to, from, to)` and `LatencyAtQuantileMS(quantile)`"
            )));
        }
        let arguments = self.arguments()?;
        match (name, &*arguments) {
            ("NetworkErrorRatio", []) => Ok(Value::Ratio(
                self.count(Codes::Network),
                self.count(Codes::All),
            )),
            (
                "ResponseCodeRatio",
                &[Value::Int(a), Value::Int(b), Value::Int(c), Value::Int(d)],
            ) => Ok(Value::Ratio(
                self.count(Codes::Range(a, b)),
                self.count(Codes::Range(c, d)),
            )),
            ("LatencyAtQuantileMS", &[Value::Float(quantile)]) => {
                self.latency = true;
                Ok(Value::Latency(quantile))
            }
            ("NetworkErrorRatio", _) => Err(wrong("`NetworkErrorRatio` takes no argument")),
            ("ResponseCodeRatio", _) => Err(wrong(
                "`ResponseCodeRatio` takes four whole numbers, as in `ResponseCodeRatio(500, 600, 0, 600)`",
            )),
            _ => Err(wrong(
                "`LatencyAtQuantileMS` takes one number with a decimal point, as in `LatencyAtQuantileMS(50.0)`",
            )),
        }
    }

    /// Literals in parentheses; a comma may follow the last.
    fn arguments(&mut self) -> Result<Vec<Value>, Wrong> {
        self.expect(&Token::Open, "`(`")?;
        let mut arguments = Vec::new();
        while self.lexer.token() != &Token::Close {
            arguments.push(self.literal()?);
            if self.lexer.token() != &Token::Close {
                self.expect(&Token::Comma, "`,` or `)`")?;
            }
        }
        self.lexer.advance()?;
        Ok(arguments)
    }

    fn expect(&mut self, token: &Token, what: &str) -> Result<(), Wrong> {
        if self.lexer.token() != token {
            return Err(self.lexer.unexpected(what));
        }
        self.lexer.advance()
    }

    /// The place where these answers are counted.
    fn count(&mut self, codes: Codes) -> usize {
        let known = self.codes.iter().position(|known| *known == codes);
        known.unwrap_or_else(|| {
            self.codes.push(codes);
            self.codes.len() - 1
        })
    }
}

fn condition(value: Value, column: usize) -> Result<Condition, Wrong> {
    match value {
        Value::Condition(condition) => Ok(condition),
        other => Err(Wrong {
            column,
            message: format!(
                "`&&` and `||` stand between conditions, and this is {}",
                other.name()
            ),
        }),
    }
}

fn compare(
    (left, left_column): (Value, usize),
    order: Order,
    (right, right_column): (Value, usize),
) -> Result<Condition, Wrong> {
    let wrong = |column, message: &str| {
        Err(Wrong {
            column,
            message: message.to_owned(),
        })
    };
    match (left, right) {
        (Value::Ratio(part, whole), Value::Float(limit)) => Ok(Condition::Ratio {
            part,
            whole,
            order,
            limit,
        }),
        (Value::Latency(quantile), Value::Int(limit)) => Ok(Condition::Latency {
            quantile,
            order,
            limit,
        }),
        (Value::Ratio(..), _) => wrong(
            right_column,
            "a ratio is compared with a number with a decimal point, such as `0.5`",
        ),
        (Value::Latency(_), _) => wrong(
            right_column,
            "a latency is compared with a whole number of milliseconds, such as `100`",
        ),
        _ => wrong(
            left_column,
            "left of a comparison stands a function, such as `NetworkErrorRatio()`",
        ),
    }
}

const FUNCTIONS: [&str; 3] = [
    "NetworkErrorRatio",
    "ResponseCodeRatio",
    "LatencyAtQuantileMS",
];
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(condition: &Condition) -> String {
        match condition {
            Condition::All(both) => format!("({} and {})", shown(&both[0]), shown(&both[1])),
            Condition::Any(both) => format!("({} or {})", shown(&both[0]), shown(&both[1])),
            Condition::Ratio {
                part,
                whole,
                order,
                limit,
            } => format!("{part}/{whole} {order:?} {limit}"),
            Condition::Latency {
                quantile,
                order,
                limit,
            } => format!("p{quantile} {order:?} {limit}"),
        }
    }

    #[test]
    fn what_can_be_said() {
        for (text, expected) in [
            ("NetworkErrorRatio() > 0.5", "0/1 Greater 0.5"),
            ("  NetworkErrorRatio( ) != .5\n", "0/1 NotEqual 0.5"),
            ("((NetworkErrorRatio()) <= (1e0))", "0/1 LessOrEqual 1"),
            (
                "ResponseCodeRatio(500, 600, 0, 600,) >= 0.25",
                "0/1 GreaterOrEqual 0.25",
            ),
            ("LatencyAtQuantileMS(50.0) > 100", "p50 Greater 100"),
            ("LatencyAtQuantileMS(0.5e2) < 010", "p50 Less 10"),
            ("LatencyAtQuantileMS(500.) == 1", "p500 Equal 1"),
            (
                "NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(9.5) > 1 && NetworkErrorRatio() < 1_0.5",
                "(0/1 Greater 0.5 or (p9.5 Greater 1 and 0/1 Less 10.5))",
            ),
            (
                "(NetworkErrorRatio() > 0.5 || ResponseCodeRatio(1,2,3,4) > 0.1) && NetworkErrorRatio() > 0.1 // why",
                "((0/1 Greater 0.5 or 2/3 Greater 0.1) and 0/1 Greater 0.1)",
            ),
            (
                "NetworkErrorRatio() > 0.1 /* or */ ||\n NetworkErrorRatio() > 0.2 || NetworkErrorRatio() > 0.3",
                "((0/1 Greater 0.1 or 0/1 Greater 0.2) or 0/1 Greater 0.3)",
            ),
        ] {
            let expression =
                Expression::parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
            assert_eq!(shown(&expression.condition), expected, "{text}");
            assert_eq!(expression.latency, text.contains("Latency"), "{text}");
        }
    }

    /// Expressions, and the column and the message of what is wrong.
    const WRONG: &[(&str, usize, &str)] = &[
        ("", 1, "expected a function or a number, found the end"),
        ("NetworkErrorRatio()", 1, "a ratio is no condition"),
        ("0.5", 1, "a number is no condition"),
        (
            "NetworkErrorRatio() > 1",
            23,
            "with a decimal point, such as `0.5`",
        ),
        ("NetworkErrorRatio() > 'x'", 23, "`'`"),
        ("NetworkErrorRatio() > \"x\"", 23, "with a decimal point"),
        (
            "NetworkErrorRatio() > NetworkErrorRatio()",
            23,
            "with a decimal point",
        ),
        (
            "LatencyAtQuantileMS(50.0) > 0.5",
            29,
            "a whole number of milliseconds",
        ),
        (
            "LatencyAtQuantileMS(50) > 1",
            1,
            "one number with a decimal point",
        ),
        (
            "NetworkErrorRatio() > 0.5 && LatencyAtQuantileMS() > 1",
            30,
            "one number",
        ),
        (
            "ResponseCodeRatio(500, 600, 0) > 0.5",
            1,
            "four whole numbers",
        ),
        (
            "ResponseCodeRatio(500, 600, 0, 0.5) > 0.5",
            1,
            "four whole numbers",
        ),
        ("NetworkErrorRatio(1) > 0.5", 1, "takes no argument"),
        (
            "networkErrorRatio() > 0.5",
            1,
            "there is no `networkErrorRatio`",
        ),
        ("0.5 < NetworkErrorRatio()", 1, "left of a comparison"),
        ("NetworkErrorRatio() > 0.5 > 0.5", 1, "left of a comparison"),
        (
            "NetworkErrorRatio() > 0.5 && NetworkErrorRatio()",
            30,
            "stand between conditions",
        ),
        (
            "NetworkErrorRatio() || NetworkErrorRatio() > 0.5",
            1,
            "stand between conditions",
        ),
        ("!(NetworkErrorRatio() > 0.5)", 1, "`!` is not supported"),
        ("NetworkErrorRatio() > -0.5", 23, "`-`"),
        (
            "(NetworkErrorRatio() > 0.5",
            27,
            "expected `)`, found the end",
        ),
        (
            "NetworkErrorRatio() > 0.5)",
            26,
            "expected `&&`, `||` or the end, found `)`",
        ),
        ("NetworkErrorRatio() & 0.5", 21, "`&`"),
        ("NetworkErrorRatio() = 0.5", 21, "`=`"),
        ("LatencyAtQuantileMS(50.0) > 0x10", 29, "0x10"),
        (
            "LatencyAtQuantileMS(50.0) > 99999999999999999999",
            29,
            "too large",
        ),
        (
            "LatencyAtQuantileMS((50.0)) > 1",
            21,
            "expected a function or a number, found `(`",
        ),
        ("NetworkErrorRatio() > 0.5;", 26, "`;`"),
        ("Ä > 0.5", 1, "`Ä`"),
        ("NetworkErrorRatio() > \"", 23, "is not closed"),
        ("NetworkErrorRatio() > 0.5 /*", 27, "is not closed"),
    ];

    #[test]
    fn what_is_wrong_and_where() {
        for (text, column, message) in WRONG {
            let wrong = Expression::parse(text).unwrap_err();
            assert!(
                wrong.column == *column && wrong.message.contains(message),
                "{text}: {wrong}"
            );
        }
        let deep = "(".repeat(1_000_000);
        assert!(
            Expression::parse(&deep)
                .unwrap_err()
                .message
                .contains("64 deep")
        );
    }
}
