//! Publish keys: an encoder that knows a stream's key may push the stream.
//!
//! A key's entry is `STREAM=SALT:HASH`, with a salt of 16 bytes and the BLAKE3 hash of salt and key under a context of its
//! own, both in hexadecimal. `*` stands for every stream without an entry. A stream may have several entries, so that its
//! encoders can change keys one after the other. `damson key` makes random, long keys, so a fast hash is enough. A key that
//! a person chooses can be guessed: at one attempt a second for each address over the network, and at any rate from a
//! stolen settings file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use damson_core::model::StreamName;
use damson_core::model::time::Time;
use parking_lot::Mutex;
use tokio::time::sleep_until;

use super::publish_request::{Denied, PublishRequest};
use crate::{clock, observe};

/// Sets these hashes apart from those of any other purpose (BLAKE3, derive_key mode).
const CONTEXT: &str = "damson 2026 publish key";
/// The length of a salt, in bytes.
const SALT_LEN: usize = 16;
/// The length of a generated key, in bytes.
const KEY_LEN: usize = 20;
/// The delay that each wrong key adds to the answers to its address.
const WAIT: Duration = Duration::from_secs(1);
/// The longest delay of an answer: encoders give up after 10 s.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// The most addresses with a wrong key that are remembered.
const ADDRESSES_MAX: usize = 4_096;

/// One key of a stream, hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The stream; `None` for all streams that have no entry of their own.
    pub stream: Option<StreamName>,
    salt: [u8; SALT_LEN],
    hash: blake3::Hash,
}

impl KeyEntry {
    /// Returns the entry of `key`.
    pub fn new(stream: Option<StreamName>, key: &str, salt: [u8; SALT_LEN]) -> Self {
        KeyEntry { stream, salt, hash: hash(&salt, key) }
    }

    /// Returns a new key and its entry; `random` fills a slice with random bytes.
    pub fn generate(stream: Option<StreamName>, mut random: impl FnMut(&mut [u8])) -> (String, Self) {
        let (mut key, mut salt) = ([0; KEY_LEN], [0; SALT_LEN]);
        random(&mut key);
        random(&mut salt);
        let key = hex(&key);
        let entry = KeyEntry::new(stream, &key, salt);
        (key, entry)
    }

    /// Returns whether the entry is that of `key`, in constant time: see [`blake3::Hash`].
    fn is_of(&self, key: &str) -> bool {
        self.hash == hash(&self.salt, key)
    }
}

fn hash(salt: &[u8], key: &str) -> blake3::Hash {
    blake3::Hasher::new_derive_key(CONTEXT).update(salt).update(key.as_bytes()).finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.stream.as_ref().map_or("*", StreamName::as_str);
        write!(f, "{stream}={}:{}", hex(&self.salt), self.hash.to_hex())
    }
}

/// Shows the stream alone, since it may end up in a log.
impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEntry({:?})", self.stream)
    }
}

/// The reason why a text isn't an entry. It doesn't show the text, which may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a publish key is set as STREAM=SALT:HASH, which `damson key STREAM` prints: {0}")]
pub struct KeyEntryError(String);

impl FromStr for KeyEntry {
    type Err = KeyEntryError;

    fn from_str(text: &str) -> Result<Self, KeyEntryError> {
        let fault = |why: &str| KeyEntryError(why.to_owned());
        let (stream, rest) = text.split_once('=').ok_or_else(|| fault("'=' is missing"))?;
        let stream = match stream {
            "*" => None,
            name => Some(StreamName::parse(name).map_err(|error| KeyEntryError(error.to_string()))?),
        };
        let (salt, hash) =
            rest.split_once(':').ok_or_else(|| fault("':' is missing; the hash is set, and not the key itself"))?;
        let is_hex = salt.len() == SALT_LEN * 2 && salt.bytes().all(|byte| byte.is_ascii_hexdigit());
        let salt = u128::from_str_radix(salt, 16).ok().filter(|_| is_hex);
        let salt = salt.ok_or_else(|| fault("the salt must have 32 hexadecimal digits"))?.to_be_bytes();
        let hash = blake3::Hash::from_hex(hash).map_err(|_| fault("the hash must have 64 hexadecimal digits"))?;
        Ok(KeyEntry { stream, salt, hash })
    }
}

/// Allows a push that has a key of its stream, and any push of a stream without one.
#[derive(Debug, Default)]
pub struct Keys {
    entries: BTreeMap<Option<StreamName>, Vec<KeyEntry>>,
    /// The time until which answers to an address are delayed.
    slowed: Mutex<BTreeMap<IpAddr, Time>>,
    refused: observe::Ingest,
}

impl Keys {
    /// Makes the check of these keys, which counts refusals in `refused`.
    pub fn new(entries: impl IntoIterator<Item = KeyEntry>, refused: observe::Ingest) -> Self {
        let mut keys = Keys { refused, ..Keys::default() };
        for entry in entries {
            keys.entries.entry(entry.stream.clone()).or_default().push(entry);
        }
        keys
    }

    fn check(&self, request: &PublishRequest) -> Result<(), Denied> {
        // The operator has named this source in the settings.
        if request.remote.is_none() {
            return Ok(());
        }
        let stream = &request.stream;
        let own = self.entries.get(&Some(stream.clone()));
        let Some(entries) = own.or_else(|| self.entries.get(&None)) else { return Ok(()) };
        let Some(key) = request.key() else {
            return Err(Denied(format!("stream {stream} needs a publish key: add ?key=KEY to the URL")));
        };
        // All entries are compared, so that the time doesn't show which one matched.
        let known = entries.iter().fold(false, |known, entry| known | entry.is_of(key));
        if known {
            return Ok(());
        }
        Err(Denied(format!("key rejected for stream {stream}; create one with damson key {stream}")))
    }

    /// Returns the time at which a refused address may be answered.
    fn answer_at(&self, now: Time, address: IpAddr) -> Time {
        let mut slowed = self.slowed.lock();
        slowed.retain(|_, until| *until > now);
        if slowed.len() >= ADDRESSES_MAX && !slowed.contains_key(&address) {
            return now + WAIT_MAX;
        }
        let until = slowed.entry(address).or_insert(now);
        *until = (*until + WAIT).min(now + WAIT_MAX);
        *until
    }

    /// Counts a refusal, and delays the answer, so that keys can't be guessed quickly.
    pub(super) async fn refused(&self, request: &PublishRequest, denied: &Denied) {
        let Some(remote) = request.remote else { return };
        let (stream, protocol) = (&request.stream, request.protocol);
        tracing::warn!(%stream, %remote, protocol, "publisher refused: {denied}");
        self.refused.keys_refused.inc();
        sleep_until(clock::instant(self.answer_at(clock::now(), remote.ip().to_canonical())).into()).await;
    }

    /// Checks the key of a push; the answer to a refused one is delayed.
    ///
    /// # Errors
    /// The push has no key, or the wrong one.
    pub(super) async fn authorize(&self, request: &PublishRequest) -> Result<(), Denied> {
        let checked = self.check(request);
        if let Err(denied) = &checked {
            self.refused(request, denied).await;
        }
        checked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(stream: &str, query: Option<&str>) -> PublishRequest {
        let stream = StreamName::parse(stream).expect("a name");
        let query = query.map(str::to_owned);
        PublishRequest { query, ..PublishRequest::new(stream, Some(([192, 0, 2, 1], 9).into()), "rtmp") }
    }

    fn keys() -> Keys {
        let name = |name: &str| StreamName::parse(name).ok();
        let entries = [(name("cam1"), "one"), (name("cam1"), "two"), (None, "rest")];
        let entries = entries.map(|(stream, key)| KeyEntry::new(stream, key, [7; SALT_LEN]));
        // As they stand in a file.
        let read = entries.iter().map(|entry| entry.to_string().parse().expect("our own"));
        Keys::new(read, observe::Ingest::default())
    }

    #[test]
    fn a_streams_own_keys_come_before_those_of_all() {
        let keys = keys();
        let check = |stream: &str, query: Option<&str>, expect: Result<(), &str>| {
            let expect = expect.map_err(|why| Denied(why.to_owned()));
            assert_eq!(keys.check(&request(stream, query)), expect, "{stream} {query:?}");
        };
        check("cam1", Some("key=one"), Ok(()));
        check("cam1", Some("token=x&key=two"), Ok(()));
        check("cam1", Some("key=rest"), Err("key rejected for stream cam1; create one with damson key cam1"));
        check("cam1", Some("key=one&key=two"), Ok(()));
        check("cam1", Some("key="), Err("key rejected for stream cam1; create one with damson key cam1"));
        check("cam1", None, Err("stream cam1 needs a publish key: add ?key=KEY to the URL"));
        check("cam2", Some("key=rest"), Ok(()));
        check("cam2", Some("key=one"), Err("key rejected for stream cam2; create one with damson key cam2"));
        let open = Keys::new([], observe::Ingest::default());
        assert_eq!(open.check(&request("cam1", None)), Ok(()));
        assert_eq!(
            keys.check(&PublishRequest { remote: None, ..request("cam1", None) }),
            Ok(()),
            "a source of our own"
        );
    }

    #[test]
    fn a_key_is_made_and_its_entry_tells_nothing() {
        let mut next = 0;
        let (key, entry) = KeyEntry::generate(None, |bytes| {
            bytes.fill({
                next += 1;
                next
            })
        });
        assert_eq!(key, "01".repeat(KEY_LEN));
        assert!(entry.is_of(&key) && !entry.is_of("x"));
        let text = entry.to_string();
        assert!(text.starts_with("*=02020202") && !text.contains(&key), "{text}");
        assert_eq!(format!("{entry:?}"), "KeyEntry(None)");
    }

    #[test]
    fn a_key_in_place_of_an_entry_is_not_repeated() {
        for text in ["secret", "cam1=secret", "cam1=secret:secret", "cam1=00000000000000000000000000000000:secret"] {
            let error = text.parse::<KeyEntry>().expect_err(text).to_string();
            assert!(!error.contains("secret") && error.contains("damson key STREAM"), "{error}");
        }
    }

    #[test]
    fn wrong_keys_are_slowed_one_after_the_other() {
        let keys = keys();
        let now = Time::from_millis(5_000);
        let wait = |address: [u8; 4]| keys.answer_at(now, address.into()).since(now).as_secs();
        let waits: Vec<u64> = (0..10).map(|_| wait([192, 0, 2, 1])).collect();
        assert_eq!(waits, [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]);
        assert_eq!(wait([192, 0, 2, 2]), 1, "another address");
        for n in 0..ADDRESSES_MAX {
            wait([10, 0, (n >> 8) as u8, n as u8]);
        }
        assert_eq!(wait([192, 0, 2, 3]), 8, "more addresses than are remembered");
        assert_eq!(keys.answer_at(now + WAIT_MAX, [192, 0, 2, 1].into()).since(now), WAIT_MAX + WAIT, "forgotten");
        assert!(keys.slowed.lock().len() <= ADDRESSES_MAX);
    }
}
