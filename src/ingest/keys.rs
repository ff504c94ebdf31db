//! Publish keys: who knows a stream's key may push it.
//!
//! A key's entry is `STREAM=SALT:HASH`: 16 bytes of salt, and BLAKE3 of salt and key under a context of its own, both in
//! hexadecimal. `*` stands for every stream without an entry. A stream may have several, so that keys can be changed one
//! encoder after the other. Keys are random and long (`damson key` makes them), so that a fast hash is enough; whoever
//! chooses one that can be guessed has it guessed at a rate of one a second an address, and from a stolen file at any.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use damson_core::model::StreamName;
use damson_core::model::time::Time;
use tokio::time::sleep_until;

use super::publish_request::{Denied, PublishRequest};
use crate::{clock, observe};

/// What makes these hashes none of another purpose (BLAKE3, derive_key mode).
const CONTEXT: &str = "damson 2026 publish key";
/// A salt, in bytes.
const SALT_LEN: usize = 16;
/// A key that is made here, in bytes.
const KEY_LEN: usize = 20;
/// A wrong key costs its address so long, one after the other.
const WAIT: Duration = Duration::from_secs(1);
/// And an answer so long at most: encoders give up after 10 s.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// Addresses that are remembered for a wrong key.
const ADDRESSES_MAX: usize = 4_096;

/// One key of a stream, hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// Whose; `None` for all that have none of their own.
    pub stream: Option<StreamName>,
    salt: [u8; SALT_LEN],
    hash: blake3::Hash,
}

impl KeyEntry {
    /// The entry of `key`.
    pub fn new(stream: Option<StreamName>, key: &str, salt: [u8; SALT_LEN]) -> Self {
        KeyEntry { stream, salt, hash: hash(&salt, key) }
    }

    /// A new key, and its entry; `random` fills bytes with chance.
    pub fn generate(stream: Option<StreamName>, mut random: impl FnMut(&mut [u8])) -> (String, Self) {
        let (mut key, mut salt) = ([0; KEY_LEN], [0; SALT_LEN]);
        random(&mut key);
        random(&mut salt);
        let key = hex(&key);
        let entry = KeyEntry::new(stream, &key, salt);
        (key, entry)
    }

    /// In constant time, as [`blake3::Hash`] compares.
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

/// As little as a log may show.
impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEntry({:?})", self.stream)
    }
}

/// Why a text is no entry. The text isn't shown: it may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a publish key's entry is STREAM=SALT:HASH, as `damson key STREAM` prints it: {0}")]
pub struct KeyEntryError(String);

impl FromStr for KeyEntry {
    type Err = KeyEntryError;

    fn from_str(text: &str) -> Result<Self, KeyEntryError> {
        let fault = |why: &str| KeyEntryError(why.to_owned());
        let (stream, rest) = text.split_once('=').ok_or_else(|| fault("there is no '='"))?;
        let stream = match stream {
            "*" => None,
            name => Some(StreamName::parse(name).map_err(|error| KeyEntryError(error.to_string()))?),
        };
        let (salt, hash) = rest.split_once(':').ok_or_else(|| fault("there is no ':' (a key itself is no entry)"))?;
        let mut bytes = [0; SALT_LEN];
        if salt.len() != SALT_LEN * 2 || !salt.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(fault("the salt has no 32 hexadecimal digits"));
        }
        for (byte, digits) in bytes.iter_mut().zip(salt.as_bytes().as_chunks::<2>().0) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        let hash = blake3::Hash::from_hex(hash).map_err(|_| fault("the hash has no 64 hexadecimal digits"))?;
        Ok(KeyEntry { stream, salt: bytes, hash })
    }
}

/// Lets through who knows the stream's key, and everybody to a stream that has none.
#[derive(Debug, Default)]
pub struct Keys {
    entries: BTreeMap<Option<StreamName>, Vec<KeyEntry>>,
    /// Until when an address's wrong keys are being answered.
    slowed: Mutex<BTreeMap<IpAddr, Time>>,
    refused: observe::Ingest,
}

impl Keys {
    /// These keys, and where refusals are counted.
    pub fn new(entries: impl IntoIterator<Item = KeyEntry>, refused: observe::Ingest) -> Self {
        let mut keys = Keys { refused, ..Keys::default() };
        for entry in entries {
            keys.entries.entry(entry.stream.clone()).or_default().push(entry);
        }
        keys
    }

    fn check(&self, request: &PublishRequest) -> Result<(), Denied> {
        // Our own settings name what these publish.
        if request.remote.is_none() {
            return Ok(());
        }
        let own = self.entries.get(&Some(request.stream.clone()));
        let Some(entries) = own.or_else(|| self.entries.get(&None)) else { return Ok(()) };
        let pairs = request.query.iter().flat_map(|query| query.split('&'));
        let Some(key) = pairs.filter_map(|pair| pair.strip_prefix("key=")).next() else {
            return Err(Denied(format!("stream {} needs its publish key: key=KEY in the URL", request.stream)));
        };
        // All of them are looked at, so that time doesn't tell which was the one.
        let known = entries.iter().fold(false, |known, entry| known | entry.is_of(key));
        if known { Ok(()) } else { Err(Denied(format!("that isn't a publish key of stream {}", request.stream))) }
    }

    /// When a refused address is to be answered.
    fn answer_at(&self, now: Time, address: IpAddr) -> Time {
        let mut slowed = self.slowed.lock().unwrap_or_else(PoisonError::into_inner);
        slowed.retain(|_, until| *until > now);
        if slowed.len() >= ADDRESSES_MAX && !slowed.contains_key(&address) {
            return now + WAIT_MAX;
        }
        let until = slowed.entry(address).or_insert(now);
        *until = (*until + WAIT).min(now + WAIT_MAX);
        *until
    }

    /// Counts a refusal, and holds the answer up: who guesses, guesses slowly.
    pub(super) async fn refused(&self, request: &PublishRequest, denied: &Denied) {
        let Some(remote) = request.remote else { return };
        let (stream, protocol) = (&request.stream, request.protocol);
        tracing::warn!(%stream, %remote, protocol, "refused: {denied}");
        self.refused.keys_refused.inc();
        sleep_until(clock::instant(self.answer_at(clock::now(), remote.ip().to_canonical())).into()).await;
    }

    /// Checks the key of a push; one that is refused waits before it is told.
    ///
    /// # Errors
    /// The push has no key, or not the stream's.
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
        PublishRequest {
            stream: StreamName::parse(stream).expect("a name"),
            rendition: None,
            app: "live".to_owned(),
            query: query.map(str::to_owned),
            remote: Some(([192, 0, 2, 1], 9).into()),
            protocol: "rtmp",
        }
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
        check("cam1", Some("key=rest"), Err("that isn't a publish key of stream cam1"));
        check("cam1", Some("key=one&key=two"), Ok(()));
        check("cam1", Some("key="), Err("that isn't a publish key of stream cam1"));
        check("cam1", None, Err("stream cam1 needs its publish key: key=KEY in the URL"));
        check("cam2", Some("key=rest"), Ok(()));
        check("cam2", Some("key=one"), Err("that isn't a publish key of stream cam2"));
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
        assert!(keys.slowed.lock().expect("no test panics").len() <= ADDRESSES_MAX);
    }
}
