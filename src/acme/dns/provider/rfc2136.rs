//! Any name server that lets its zone be changed by messages (RFC 2136), signed with a shared key or not.

use std::time::SystemTime;

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType, rdata::TXT},
};
use tokio::net::lookup_host;

use super::{Setup, TxtRecord, api::Trouble};
use crate::acme::dns::{
    ask::exchange,
    servers::{Servers, said, with_port},
    tsig::TsigKey,
};

/// A name server that takes changes.
#[derive(Debug)]
pub(super) struct Rfc2136 {
    server: String,
    key: Option<TsigKey>,
    ttl: u32,
}

impl Rfc2136 {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, String> {
        let algorithm = setup.text("RFC2136_TSIG_ALGORITHM")?;
        let algorithm = algorithm.unwrap_or_else(|| "hmac-sha1".to_owned());
        let mut parts = match (
            setup.text("RFC2136_TSIG_KEY")?,
            setup.text("RFC2136_TSIG_SECRET")?,
        ) {
            (Some(name), Some(secret)) => Some((name, algorithm, secret)),
            (None, None) => None,
            (Some(_), None) => return Err("RFC2136_TSIG_SECRET is missing".to_owned()),
            (None, Some(_)) => return Err("RFC2136_TSIG_KEY is missing".to_owned()),
        };
        // The variable names the file that a key generator writes.
        if let Some(text) = setup.text("RFC2136_TSIG")? {
            let found = key_file(&text);
            parts = Some(found.ok_or("RFC2136_TSIG_FILE is not the file of a key")?);
        }
        let key = parts.map(|(name, algorithm, secret)| TsigKey::new(&name, &algorithm, &secret));
        Ok(Self {
            server: setup.needed("RFC2136_NAMESERVER")?,
            key: key
                .transpose()
                .map_err(|wrong| format!("RFC2136_TSIG_*: {wrong}"))?,
            ttl: setup.ttl()?,
        })
    }

    pub(super) async fn add(&self, record: &TxtRecord) -> Result<String, Trouble> {
        let change = Record::from_rdata(record.name.clone(), self.ttl, text(record));
        self.change(record, change).await.map(|()| String::new())
    }

    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), Trouble> {
        let mut change = Record::from_rdata(record.name.clone(), 0, text(record));
        // RFC 2136, 2.5.4: one record, by its value.
        change.dns_class = DNSClass::NONE;
        self.change(record, change).await
    }

    async fn change(&self, record: &TxtRecord, change: Record) -> Result<(), Trouble> {
        let servers = Servers::new(std::slice::from_ref(&self.server));
        let zone = servers.zone(&record.name).await.map_err(Trouble::Own)?;
        let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Update);
        message.add_query(Query::query(zone.clone(), RecordType::SOA));
        message.add_authority(change);
        let bytes = message
            .to_vec()
            .map_err(|error| Trouble::Own(error.to_string()))?;
        let (answer, refused) = self.send(&bytes).await?;
        let said = match refused {
            Some(refused) => format!("{}: {refused}", said(&answer)),
            None => said(&answer).to_owned(),
        };
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::NotAuth | ResponseCode::Refused => {
                Err(Trouble::Denied(format!("{}: {said}", self.server)))
            }
            code => Err(Trouble::Refused(
                code.into(),
                format!("zone {zone}: {said}"),
            )),
        }
    }

    /// The answer to a change, and what it finds wrong with our signature.
    async fn send(&self, message: &[u8]) -> Result<(Message, Option<String>), Trouble> {
        let unreachable = |wrong: String| Trouble::Unreachable(format!("{}: {wrong}", self.server));
        let found = lookup_host(with_port(&self.server)).await;
        let address = found
            .map_err(|error| unreachable(error.to_string()))?
            .next();
        let address = address.ok_or_else(|| unreachable("it has no address".to_owned()))?;
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_secs();
        let signed = self.key.as_ref().map(|key| (key, key.sign(message, now)));
        let bytes = signed.as_ref().map_or(message, |(_, signed)| &signed.bytes);
        let answer = exchange(address, bytes).await.map_err(unreachable)?;
        let parsed = Message::from_vec(&answer);
        let parsed =
            parsed.map_err(|error| unreachable(format!("its answer cannot be read: {error}")))?;
        if let Some((key, request)) = &signed {
            let verified = key.verify(request, &answer, now);
            // Who refuses need not know the key.
            if let (Err(wrong), ResponseCode::NoError) = (&verified, parsed.metadata.response_code)
            {
                return Err(Trouble::Denied(wrong.clone()));
            }
        }
        Ok((parsed, TsigKey::refused(&answer)))
    }
}

fn text(record: &TxtRecord) -> RData {
    RData::TXT(TXT::new(vec![record.value.clone()]))
}

/// Name, algorithm and secret of `key "name" { algorithm x; secret "y"; };`.
fn key_file(text: &str) -> Option<(String, String, String)> {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || "\"{};".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).map(|word| (*word).to_owned())
    };
    Some((after("key")?, after("algorithm")?, after("secret")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_read() {
        let text = "key \"lego\" {\n\talgorithm hmac-sha256;\n\tsecret \"YWJj\";\n};\n";
        let found = key_file(text).unwrap();
        assert_eq!(
            found,
            (
                "lego".to_owned(),
                "hmac-sha256".to_owned(),
                "YWJj".to_owned()
            )
        );
        assert_eq!(key_file("key \"lego\" { algorithm hmac-sha256; };"), None);
    }
}
