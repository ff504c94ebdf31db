//! What nodes tell on about others: under its owner's checksum, and with its age.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::model::StreamName;
use crate::model::time::Time;
use crate::model::wire::{Fault, Reader, WireError};

/// What can be announced.
pub trait Announceable: Sized {
    /// The shortest one on the wire, in bytes.
    const WIRE_LEN_MIN: usize;

    /// Appends it.
    fn encode(&self, out: &mut BytesMut);

    /// Reads one.
    fn decode(r: &mut Reader) -> Result<Self, WireError>;
}

/// Something on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement<T> {
    /// What its owner said.
    pub what: T,
    /// The owner's checksum over it, passed on as it is and checked by everybody, so that a bit that
    /// flips in one node's memory isn't gossiped to all (Amazon S3, July 2008).
    pub checksum: u64,
    /// How long ago the owner said so, as far as the sender knows, in milliseconds. A dead entry that two
    /// nodes keep telling each other grows older all the same.
    pub age_ms: u32,
}

impl<T: Announceable> Announcement<T> {
    /// The shortest one on the wire, in bytes.
    pub const WIRE_LEN_MIN: usize = T::WIRE_LEN_MIN + 8 + 4;

    /// Makes the owner's announcement, which is new.
    pub fn new(what: T) -> Self {
        Announcement { checksum: checksum(&what), what, age_ms: 0 }
    }

    /// Returns whether the checksum is right.
    pub(super) fn is_intact(&self) -> bool {
        self.checksum == checksum(&self.what)
    }

    /// Returns how long ago its owner said so.
    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(u64::from(self.age_ms))
    }

    /// Appends the announcement.
    pub fn encode(&self, out: &mut BytesMut) {
        self.what.encode(out);
        out.put_u64(self.checksum);
        out.put_u32(self.age_ms);
    }

    /// Reads an announcement. Its checksum is checked by whoever takes it.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(Announcement { what: T::decode(r)?, checksum: r.u64("checksum")?, age_ms: r.u32("age")? })
    }
}

/// The first eight bytes of BLAKE3 over `what` as it is on the wire.
fn checksum(what: &impl Announceable) -> u64 {
    let mut out = BytesMut::new();
    what.encode(&mut out);
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(&out).as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// Reads the name that every announcement begins with.
pub(super) fn decode_stream(r: &mut Reader) -> Result<StreamName, WireError> {
    let stream = r.text(StreamName::LEN_MAX, "stream")?;
    StreamName::parse(&stream).map_err(|_| r.fault("stream", Fault::Invalid))
}

/// What a node has taken of an announcement.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) what: T,
    checksum: u64,
    refreshed: Time,
}

impl<T: Announceable + Clone> Held<T> {
    pub(super) fn new(now: Time, announcement: Announcement<T>) -> Self {
        let refreshed = now - announcement.age();
        Held { what: announcement.what, checksum: announcement.checksum, refreshed }
    }

    /// Returns the announcement as it is passed on at `now`.
    pub(super) fn announce(&self, now: Time) -> Announcement<T> {
        let age_ms = u32::try_from(now.since(self.refreshed).as_millis()).unwrap_or(u32::MAX);
        Announcement { what: self.what.clone(), checksum: self.checksum, age_ms }
    }

    /// Returns when it dies without a refresh.
    pub(super) fn dies_at(&self, dead_after: Duration) -> Time {
        self.refreshed + dead_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Number(u32);

    impl Announceable for Number {
        const WIRE_LEN_MIN: usize = 4;

        fn encode(&self, out: &mut BytesMut) {
            out.put_u32(self.0);
        }

        fn decode(r: &mut Reader) -> Result<Self, WireError> {
            Ok(Number(r.u32("number")?))
        }
    }

    #[test]
    fn an_announcement_survives_the_wire_and_shows_a_flipped_bit() {
        let announcement = Announcement { age_ms: 10, ..Announcement::new(Number(7)) };
        let mut out = BytesMut::new();
        announcement.encode(&mut out);
        assert_eq!(out.len(), Announcement::<Number>::WIRE_LEN_MIN);
        out[3] ^= 1;
        let flipped = Announcement::<Number>::decode(&mut Reader::new(out.clone().freeze())).expect("it is whole");
        assert!(!flipped.is_intact());
        out[3] ^= 1;
        assert_eq!(Announcement::decode(&mut Reader::new(out.freeze())), Ok(announcement.clone()));
        assert!(announcement.is_intact());
    }

    #[test]
    fn what_is_held_grows_older() {
        let t = Time::from_millis(100_000);
        let announcement = Announcement { age_ms: 2_000, ..Announcement::new(Number(7)) };
        let held = Held::new(t, announcement.clone());
        assert_eq!(held.announce(t), announcement);
        assert_eq!(held.announce(t + Duration::from_secs(3)), Announcement { age_ms: 5_000, ..announcement });
        assert_eq!(held.dies_at(Duration::from_secs(15)), t + Duration::from_secs(13));
    }
}
