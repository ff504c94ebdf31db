//! The reader and the writers of the frames between nodes: big-endian fixed-width integers and length-prefixed bytes.
//!
//! A [`Reader`] never panics and never allocates more than its input holds. Its errors name the byte of the frame.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::time::micros;

/// Says why a frame can't be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the frame: {what}: {fault}")]
pub struct WireError {
    /// Offset in the frame, in bytes.
    pub at: usize,
    /// The field that was being read.
    pub what: &'static str,
    /// The fault of the field.
    pub fault: Fault,
}

/// Says what is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The frame ends inside the field.
    #[error("the frame ends here")]
    Truncated,
    /// A count or length is above its limit.
    #[error("above the limit")]
    TooLarge,
    /// The field can't have this value.
    #[error("not a valid value")]
    Invalid,
}

/// A cursor over one frame.
#[derive(Debug, Clone)]
pub struct Reader {
    buf: Bytes,
    at: usize,
}

impl Reader {
    /// Reads `frame` from its first byte.
    pub fn new(frame: Bytes) -> Self {
        Reader { buf: frame, at: 0 }
    }

    /// Returns how many bytes are left.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.at
    }

    /// Returns an error about `what` at the present position.
    pub fn fault(&self, what: &'static str, fault: Fault) -> WireError {
        WireError { at: self.at, what, fault }
    }

    /// Reads `n` bytes, which share the frame's memory.
    pub fn bytes(&mut self, n: usize, what: &'static str) -> Result<Bytes, WireError> {
        if self.remaining() < n {
            return Err(self.fault(what, Fault::Truncated));
        }
        let out = self.buf.slice(self.at..self.at + n);
        self.at += n;
        Ok(out)
    }

    /// Reads `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let array = self.buf.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).copied();
        let array = array.ok_or_else(|| self.fault(what, Fault::Truncated))?;
        self.at += N;
        Ok(array)
    }

    /// Reads one byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    /// Reads two bytes, big-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Reads four bytes, big-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Reads eight bytes, big-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// Reads eight bytes of microseconds.
    pub fn micros(&mut self, what: &'static str) -> Result<Duration, WireError> {
        Ok(Duration::from_micros(self.u64(what)?))
    }

    /// Reads a flag: a byte that is 0 or not.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        Ok(self.u8(what)? != 0)
    }

    /// Reads eight bytes, big-endian, two's complement.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// Reads a byte string behind a `u32` length of at most `max` bytes.
    pub fn blob(&mut self, max: usize, what: &'static str) -> Result<Bytes, WireError> {
        let len = self.u32(what)? as usize;
        if len > max {
            return Err(self.fault(what, Fault::TooLarge));
        }
        self.bytes(len, what)
    }

    /// Reads a UTF-8 string behind a `u16` length of at most `max` bytes.
    pub fn text(&mut self, max: usize, what: &'static str) -> Result<String, WireError> {
        let len = usize::from(self.u16(what)?);
        if len > max {
            return Err(self.fault(what, Fault::TooLarge));
        }
        let bytes = self.bytes(len, what)?;
        String::from_utf8(bytes.into()).map_err(|_| self.fault(what, Fault::Invalid))
    }

    /// Reads the `u16` count of a list: at most `max`, and no more items than the rest of the frame holds if each has
    /// `item_len_min` bytes, so that the count may be used to reserve memory.
    pub fn count(&mut self, max: usize, item_len_min: usize, what: &'static str) -> Result<usize, WireError> {
        let n = usize::from(self.u16(what)?);
        if n > max {
            return Err(self.fault(what, Fault::TooLarge));
        }
        if n.saturating_mul(item_len_min) > self.remaining() {
            return Err(self.fault(what, Fault::Truncated));
        }
        Ok(n)
    }

    /// Reads a list: its [`count`](Reader::count), then each item with `item`, which gets the item's index.
    pub fn list<T>(
        &mut self,
        max: usize,
        item_len_min: usize,
        what: &'static str,
        mut item: impl FnMut(&mut Reader, usize) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let n = self.count(max, item_len_min, what)?;
        let mut items = Vec::with_capacity(n);
        for i in 0..n {
            items.push(item(self, i)?);
        }
        Ok(items)
    }

    /// Checks that nothing is left. Readers that accept a newer node's longer frame don't call this.
    pub fn finish(&self, what: &'static str) -> Result<(), WireError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.fault(what, Fault::Invalid)) }
    }
}

/// Appends a duration, as [`Reader::micros`] reads it.
pub fn put_micros(out: &mut BytesMut, duration: Duration) {
    out.put_u64(micros(duration));
}

/// Appends a byte string behind its `u32` length, as [`Reader::blob`] reads it.
pub fn put_blob(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("our own blobs are bounded far below 4 GiB"));
    out.put_slice(bytes);
}

/// Appends a string behind its `u16` length, as [`Reader::text`] reads it.
pub fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u16(u16::try_from(text.len()).expect("our own strings are bounded far below 64 KiB"));
    out.put_slice(text.as_bytes());
}

/// Appends a `u16` count, as [`Reader::count`] reads it.
pub fn put_count(out: &mut BytesMut, n: usize) {
    out.put_u16(u16::try_from(n).expect("our own lists are bounded far below 65,536"));
}
