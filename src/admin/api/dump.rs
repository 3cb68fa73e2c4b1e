//! `/api/support-dump`: what somebody who helps wants to see, without addresses, names of people or secrets of the install
//! configuration.

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use serde_json::{Value, json};

use super::Api;
use crate::{
    config::units::Span,
    exchange::{Body, Response},
    observe::{clock_text, json},
};

impl Api<'_> {
    /// A compressed archive of three files.
    pub(super) fn dump(&self) -> Response {
        let version = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "codename": "portway",
            "startDate": clock_text(self.admin.started),
        });
        let mut install = serde_json::to_value(&*self.admin.install).unwrap_or_default();
        anonymise("", &mut install);
        let mut archive = Archive::default();
        archive.add("version.json", &json::to_vec(&version));
        archive.add("static-config.json", &json::to_vec(&install));
        archive.add("runtime-config.json", &json::to_vec(&self.raw_data()));
        let mut response = Response::new(Body::from(Bytes::from(archive.compressed())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
        let attachment = HeaderValue::from_static("attachment; filename=support-dump.tar.gz");
        headers.insert(CONTENT_DISPOSITION, attachment);
        response
    }
}

/// Hides every text but durations and the values of options that are words of the configuration language or names in it.
fn anonymise(option: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                anonymise(name, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| anonymise(option, item)),
        Value::String(text) => {
            if !text.is_empty() && !SHOWN.contains(&option) && text.parse::<Span>().is_err() {
                *text = "xxxx".to_owned();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Options whose values tell nothing about anybody.
const SHOWN: &[&str] = &[
    "aliasHeadersStrategy",
    "basePath",
    "certResolver",
    "defaultMode",
    "defaultRuleSyntax",
    "directory",
    "entryPoint",
    "filename",
    "filePath",
    "format",
    "keyType",
    "level",
    "middlewares",
    "options",
    "precedence",
    "scheme",
    "to",
    "traceVerbosity",
    "underscoreHeadersStrategy",
];

/// Files in the order they were added, in the ustar format.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(&mut self, name: &str, content: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let mut head = [0; BLOCK];
        let mut put = |at: usize, text: &str| {
            head[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, name);
        put(100, "0000600");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, &format!("{now:011o}"));
        // The sum is made with blanks in its own place.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar");
        put(263, "00");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        let sum = format!("{sum:06o}\0 ");
        head[148..156].copy_from_slice(sum.as_bytes());
        self.0.extend_from_slice(&head);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }

    fn compressed(mut self) -> Vec<u8> {
        // Two empty blocks are its end.
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing to memory cannot fail.
        encoder.write_all(&self.0).ok();
        encoder.finish().unwrap_or_default()
    }
}

const BLOCK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_may_tell_something_are_hidden() {
        let mut install = json!({
            "entryPoints": {"web": {"address": ":80", "asDefault": true, "middlewares": ["a@file"],
                "readTimeout": "1m0s", "forwardedHeaders": {"trustedIPs": ["10.0.0.0/8"]}}},
            "log": {"level": "INFO"}, "email": "", "n": 3,
        });
        anonymise("", &mut install);
        let expected = json!({
            "entryPoints": {"web": {"address": "xxxx", "asDefault": true, "middlewares": ["a@file"],
                "readTimeout": "1m0s", "forwardedHeaders": {"trustedIPs": ["xxxx"]}}},
            "log": {"level": "INFO"}, "email": "", "n": 3,
        });
        assert_eq!(install, expected);
    }
}
