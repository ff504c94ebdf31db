//! Reading and writing the mesh's frames: big-endian fixed-width integers and length-prefixed bytes.
//!
//! A [`Reader`] never panics and never allocates more than its input holds; its errors say at which
//! byte of the frame the trouble is.

use bytes::{BufMut, Bytes, BytesMut};

/// Why a frame can't be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the frame: {what}: {fault}")]
pub struct WireError {
    /// Offset in the frame, in bytes.
    pub at: usize,
    /// The field that was being read.
    pub what: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The frame ends inside the field.
    #[error("the frame ends here")]
    Truncated,
    /// A count or length above its limit.
    #[error("above the limit")]
    TooLarge,
    /// A value that the field can't have.
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

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.at
    }

    /// An error about `what` at the present position.
    pub fn fault(&self, what: &'static str, fault: Fault) -> WireError {
        WireError { at: self.at, what, fault }
    }

    /// The next `n` bytes, shared with the frame rather than copied.
    pub fn bytes(&mut self, n: usize, what: &'static str) -> Result<Bytes, WireError> {
        if self.remaining() < n {
            return Err(self.fault(what, Fault::Truncated));
        }
        let out = self.buf.slice(self.at..self.at + n);
        self.at += n;
        Ok(out)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let end = self.at + N;
        let Some(slice) = self.buf.get(self.at..end) else {
            return Err(self.fault(what, Fault::Truncated));
        };
        let mut out = [0; N];
        out.copy_from_slice(slice);
        self.at = end;
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// Eight bytes, big-endian, two's complement.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array(what)?))
    }

    /// A byte string behind a `u32` length of at most `max` bytes.
    pub fn blob(&mut self, max: usize, what: &'static str) -> Result<Bytes, WireError> {
        let len = self.u32(what)? as usize;
        if len > max {
            return Err(self.fault(what, Fault::TooLarge));
        }
        self.bytes(len, what)
    }

    /// A UTF-8 string behind a `u16` length of at most `max` bytes.
    pub fn text(&mut self, max: usize, what: &'static str) -> Result<String, WireError> {
        let len = usize::from(self.u16(what)?);
        if len > max {
            return Err(self.fault(what, Fault::TooLarge));
        }
        let bytes = self.bytes(len, what)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.fault(what, Fault::Invalid)),
        }
    }

    /// A `u16` count of items of at least `item_len_min` bytes each: at most `max`, and no more than
    /// the rest of the frame can hold, so that it may be used to reserve memory.
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

    /// Checks that nothing is left. A newer peer's longer frame is accepted by not calling this.
    pub fn finish(&self, what: &'static str) -> Result<(), WireError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.fault(what, Fault::Invalid)) }
    }
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
