//! What Redis is told: two scripts, each atomic.
//!
//! Keys and fields are those of Traefik (`rate:MIDDLEWARE:SOURCE` with `last` in microseconds and `tokens`), so that proxies of both kinds
//! share their buckets. The clock is that of Redis, because those of several machines differ.

use std::{
    fmt::Write,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use redis::{Cmd, RedisResult};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::{
    super::{Rate, SECOND, buckets::Verdict},
    link::Connection,
};

/// A token is to be taken.
pub(super) struct Ask<'a> {
    key: &'a [u8],
    /// Tokens per microsecond, tokens in a full bucket, seconds to live, microseconds of patience.
    arguments: [String; 4],
}

impl<'a> Ask<'a> {
    pub(super) fn new(key: &'a [u8], rate: &Rate) -> Self {
        let per_microsecond = 1000.0 / rate.interval as f64;
        // How long Traefik keeps a bucket at least.
        let lives = if rate.interval <= SECOND {
            2
        } else {
            1 + rate.interval / SECOND
        };
        Self {
            key,
            arguments: [
                format!("{per_microsecond:e}"),
                (rate.burst / rate.interval).to_string(),
                lives.to_string(),
                (rate.patience / 1000).to_string(),
            ],
        }
    }

    pub(super) async fn send(&self, link: Connection) -> RedisResult<Verdict> {
        static TAKE: Script = Script::new(TAKE_SCRIPT);
        let (refused, wait) = TAKE
            .run::<(bool, u64)>(link, self.key, &self.arguments)
            .await?;
        Ok(match (refused, Duration::from_micros(wait)) {
            (true, wait) => Verdict::Refused(wait),
            (false, Duration::ZERO) => Verdict::Now,
            (false, wait) => Verdict::After(wait),
        })
    }
}

/// The proxies that use a limiter are to be counted, this one among them.
pub(super) struct Census {
    key: Vec<u8>,
}

impl Census {
    pub(super) fn new(middleware: &str) -> Self {
        Self {
            key: format!("rate-instances:{middleware}").into_bytes(),
        }
    }

    pub(super) async fn send(&self, link: Connection) -> RedisResult<u64> {
        static COUNT: Script = Script::new(CENSUS_SCRIPT);
        static OWN: LazyLock<String> = LazyLock::new(|| format!("{:016x}", fastrand::u64(..)));
        let remembered = CENSUS_LASTS.to_string();
        COUNT.run(link, &self.key, &[OWN.clone(), remembered]).await
    }
}

/// The key of a source's bucket. A source that is longer than any honest one stands there by its digest.
pub(super) fn key(middleware: &str, source: &[u8]) -> Vec<u8> {
    let mut key = format!("rate:{middleware}:").into_bytes();
    match source.len() {
        ..=LONGEST_SOURCE => key.extend_from_slice(source),
        _ => key.extend_from_slice(hex(&Sha256::digest(source)).as_bytes()),
    }
    key
}

/// A script, which Redis knows by its digest after the first time.
struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self {
            text,
            digest: OnceLock::new(),
        }
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        mut link: Connection,
        key: &[u8],
        arguments: &[String],
    ) -> RedisResult<T> {
        let digest = self.digest.get_or_init(|| hex(&Sha1::digest(self.text)));
        let command = |name: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(name).arg(script).arg(1).arg(key).arg(arguments);
            command
        };
        match link.query(&command("EVALSHA", digest)).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                link.query(&command("EVAL", self.text)).await
            }
            answer => answer,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// A bucket nobody has is full. One that a clock far ahead has written would refill nothing for long: it starts from now.
const TAKE_SCRIPT: &str = "
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local lives, patience = tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local bucket = redis.call('HMGET', KEYS[1], 'last', 'tokens')
local last, tokens = tonumber(bucket[1]), tonumber(bucket[2])
if last and tokens then
  if last > now and last < now + 10000000 then now = last end
  tokens = math.min(burst, tokens + math.max(0, now - last) * rate)
else
  tokens = burst
end
local left, wait = tokens - 1, 0
if left < 0 then wait = math.ceil(-left / rate) end
local refused = wait > patience
if refused then left = tokens end
local full_in = math.min(1000000000, math.ceil((burst - left) / rate / 1000000) + 1)
redis.call('HSET', KEYS[1], 'last', string.format('%.0f', now), 'tokens', string.format('%.17g', left))
redis.call('EXPIRE', KEYS[1], string.format('%.0f', math.max(lives, full_in)))
return {refused and 1 or 0, wait}";

const CENSUS_SCRIPT: &str = "
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])";

/// How often a proxy with traffic says that it is there, in milliseconds.
pub(super) const CENSUS_EVERY: u64 = 5000;
/// How long it counts after that, in seconds.
const CENSUS_LASTS: u64 = 30;
const LONGEST_SOURCE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Span;

    #[test]
    fn arguments_are_what_traefik_sends() {
        for (average, period, burst, expected) in [
            (10, 1000, 5, ["1e-5", "5", "2", "50000"]),
            (6, 60_000, 2, ["1e-7", "2", "11", "500000"]),
            (1, 1000, 1, ["1e-6", "1", "2", "500000"]),
        ] {
            let rate = Rate::new(average, Span::from_millis(period), burst).unwrap();
            assert_eq!(Ask::new(b"k", &rate).arguments, expected);
        }
    }

    #[test]
    fn keys_are_bounded() {
        assert_eq!(key("m@file", b"192.0.2.1"), b"rate:m@file:192.0.2.1");
        assert_eq!(key("m@file", &[b'x'; 100_000]).len(), 12 + 64);
        assert_ne!(key("m", &[b'x'; 1000]), key("m", &[b'y'; 1000]));
    }
}
