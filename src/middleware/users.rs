//! What `basicAuth` and `digestAuth` have in common: lists of users, and what a server learns of the one who passed.

use bytestring::ByteString;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Flow, ReadFile, report::Report};
use crate::{
    config::units::Secret,
    exchange::{Body, Exchange, Response},
};

/// What happens to a request whose user is known.
#[derive(Debug)]
pub(super) struct Admission {
    remove_header: bool,
    header_field: Option<HeaderName>,
}

impl Admission {
    pub(super) fn build(
        header_field: &str,
        remove_header: bool,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let header_field = match header_field {
            "" => None,
            name => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Some(name),
                Err(_) => {
                    report.error("headerField", format!("{name:?} is not a header name"));
                    return None;
                }
            },
        };
        Some(Self {
            remove_header,
            header_field,
        })
    }

    /// Lets `user` pass.
    pub(super) fn admit(&self, exchange: &mut Exchange, user: &str) -> Flow {
        let headers = &mut exchange.request.headers;
        if let Some(name) = &self.header_field {
            headers.remove(name);
            if let Ok(value) = HeaderValue::from_bytes(user.as_bytes()) {
                headers.insert(name, value);
            }
        }
        if self.remove_header {
            headers.remove(header::AUTHORIZATION);
        }
        Flow::Continue
    }
}

/// Notes for the access log who the client says it is: failed attempts are wanted there most of all.
pub(super) fn claim(exchange: &mut Exchange, user: &str) {
    if !user.is_empty() {
        exchange.user = Some(ByteString::from(user));
    }
}

/// The refusal, with a challenge.
pub(super) fn refuse(challenge: HeaderValue) -> Flow {
    let mut response = Response::new(Body::from("401 Unauthorized\n"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, challenge);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Flow::respond(response)
}

/// One entry of a list of users, and where it stands.
pub(super) struct Entry<'a> {
    pub(super) text: &'a str,
    /// The option.
    pub(super) field: &'a str,
    /// The line of a file, as in ` in line 2`; else empty.
    pub(super) line: &'a str,
}

/// Hands `add` every entry of the file and, after them, those written inline; false if the file cannot be read or `add` says so once.
pub(super) fn each_entry(
    (users, file): (&[Secret], &str),
    read: ReadFile<'_>,
    report: &mut Report<'_>,
    mut add: impl FnMut(&Entry<'_>, &mut Report<'_>) -> bool,
) -> bool {
    let mut usable = true;
    if !file.is_empty() {
        let field = "usersFile";
        match read(file) {
            Err(reason) => {
                usable = false;
                report.error(field, reason);
            }
            Ok(content) => {
                for (index, text) in content.lines().enumerate() {
                    let text = text.trim();
                    if !text.is_empty() && !text.starts_with('#') {
                        let line = &format!(" in line {}", index + 1);
                        usable &= add(&Entry { text, field, line }, report);
                    }
                }
            }
        }
    }
    for (index, entry) in users.iter().enumerate() {
        let entry = Entry {
            text: entry.expose(),
            field: &format!("users[{index}]"),
            line: "",
        };
        usable &= add(&entry, report);
    }
    usable
}
