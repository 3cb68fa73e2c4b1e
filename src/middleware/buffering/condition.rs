//! `retryExpression`, ready to be asked.

use http::StatusCode;

use super::Made;
use crate::middleware::predicate::{self, Call, Literal, Mistake, Node, Operator, Placed};

/// When a request is repeated.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    NetworkError,
    Attempts(Operator, i64),
    Status(Operator, i64),
    /// Whether the method is the one named, or is not.
    Method(bool, String),
}

impl Condition {
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        Self::read(predicate::parse(text)?)
    }

    pub(super) fn holds(&self, made: Made<'_>) -> bool {
        let compare = |operator: &Operator, one: i64, two: &i64| operator.holds(Some(one.cmp(two)));
        match self {
            Self::And(one, two) => one.holds(made) && two.holds(made),
            Self::Or(one, two) => one.holds(made) || two.holds(made),
            Self::NetworkError => matches!(
                made.status,
                StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::Attempts(operator, value) => compare(operator, made.number.into(), value),
            Self::Status(operator, value) => compare(operator, made.status.as_u16().into(), value),
            Self::Method(is, name) => (made.method.as_str() == name) == *is,
        }
    }

    fn read(node: Node) -> Result<Self, Mistake> {
        let pair =
            |one: Node, two: Node| Ok((Box::new(Self::read(one)?), Box::new(Self::read(two)?)));
        match node {
            Node::And(one, two) => pair(*one, *two).map(|(one, two)| Self::And(one, two)),
            Node::Or(one, two) => pair(*one, *two).map(|(one, two)| Self::Or(one, two)),
            Node::Call(call) => match known(&call)? {
                "IsNetworkError" => Ok(Self::NetworkError),
                name => Err(Mistake::new(
                    call.column,
                    format!("`{name}()` must be compared with something"),
                )),
            },
            Node::Compare {
                call,
                operator,
                value,
            } => match known(&call)? {
                "Attempts" => Ok(Self::Attempts(operator, whole(&value)?)),
                "ResponseCode" => Ok(Self::Status(operator, whole(&value)?)),
                "RequestMethod" => method(&call, operator, value),
                name => Err(Mistake::new(
                    call.column,
                    format!("`{name}()` is true or false, and is not compared"),
                )),
            },
        }
    }
}

fn known(call: &Call) -> Result<&str, Mistake> {
    const NAMES: [&str; 4] = [
        "Attempts",
        "IsNetworkError",
        "RequestMethod",
        "ResponseCode",
    ];
    let Some(name) = NAMES.iter().find(|name| **name == call.name) else {
        let message = format!(
            "there is no function `{}`, but `Attempts`, `IsNetworkError`, `RequestMethod` and `ResponseCode`",
            call.name
        );
        return Err(Mistake::new(call.column, message));
    };
    match call.arguments.first() {
        None => Ok(name),
        Some(argument) => Err(Mistake::new(
            argument.column,
            format!("`{name}` takes no arguments"),
        )),
    }
}

fn whole(value: &Placed<Literal>) -> Result<i64, Mistake> {
    match value.value {
        Literal::Whole(number) => Ok(number),
        ref other => Err(Mistake::new(
            value.column,
            format!("expected a whole number, found {}", other.kind()),
        )),
    }
}

fn method(call: &Call, operator: Operator, value: Placed<Literal>) -> Result<Condition, Mistake> {
    if !operator.is_equality() {
        let message = "`RequestMethod()` can be compared with `==` and `!=` only";
        return Err(Mistake::new(call.column, message));
    }
    match value.value {
        Literal::Text(name) => Ok(Condition::Method(operator == Operator::Equal, name)),
        other => Err(Mistake::new(
            value.column,
            format!("expected a text, found {}", other.kind()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn when_requests_are_repeated() {
        for (text, method, number, status, expected) in [
            ("IsNetworkError()", "GET", 1, 502, true),
            ("IsNetworkError()", "GET", 1, 504, true),
            ("IsNetworkError()", "GET", 1, 503, false),
            ("Attempts() < 2", "GET", 1, 200, true),
            ("Attempts() < 2", "GET", 2, 200, false),
            (
                "ResponseCode() >= 500 && Attempts() <= 3",
                "GET",
                3,
                500,
                true,
            ),
            (
                "ResponseCode() >= 500 && Attempts() <= 3",
                "GET",
                4,
                500,
                false,
            ),
            (
                "ResponseCode() == 503 || IsNetworkError()",
                "GET",
                9,
                502,
                true,
            ),
            ("RequestMethod() == \"GET\"", "GET", 1, 200, true),
            ("RequestMethod() == \"get\"", "GET", 1, 200, false),
            ("RequestMethod() != `GET`", "POST", 1, 200, true),
        ] {
            let made = Made {
                number,
                status: StatusCode::from_u16(status).unwrap(),
                method: &method.parse::<Method>().unwrap(),
            };
            assert_eq!(
                Condition::parse(text).unwrap().holds(made),
                expected,
                "{text} {status}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_told_at_its_column() {
        for (text, expected) in [
            (
                "ResponseCode()",
                "column 1: `ResponseCode()` must be compared with something",
            ),
            (
                "IsNetworkError() == 1",
                "column 1: `IsNetworkError()` is true or false, and is not compared",
            ),
            (
                "Attempts() < 1.5",
                "column 14: expected a whole number, found a fraction",
            ),
            (
                "RequestMethod() > 2",
                "column 1: `RequestMethod()` can be compared with `==` and `!=` only",
            ),
            (
                "RequestMethod() == 2",
                "column 20: expected a text, found a whole number",
            ),
            (
                "Attempts(3) < 2",
                "column 10: `Attempts` takes no arguments",
            ),
        ] {
            assert_eq!(
                Condition::parse(text).unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
    }
}
