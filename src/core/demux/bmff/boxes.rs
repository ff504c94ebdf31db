//! Boxes (ISO 14496-12, 4.2): names, headers, and a cursor over a box that is in memory.

use mp4_atom::Atom;

use super::error::BmffError;
use super::four_cc::FourCc;

/// The header of a box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The box's type.
    pub kind: FourCc,
    /// The header's length, in bytes: 8 or 16.
    pub len: u64,
    /// The content's length, in bytes; `None` if it extends to the end of the file.
    pub content: Option<u64>,
}

impl Header {
    /// The length of the longest header, in bytes.
    pub const LEN_MAX: usize = 16;

    /// Reads a header from a box's first bytes. Returns `Ok(None)` if these are too few.
    ///
    /// # Errors
    /// The size of the box, which begins at `at`, is less than its header.
    pub fn read(bytes: &[u8], at: u64) -> Result<Option<Header>, BmffError> {
        let Some(&[a, b, c, d, kind @ ..]) = bytes.first_chunk::<8>() else { return Ok(None) };
        let kind = FourCc(kind);
        let (size, len) = match u32::from_be_bytes([a, b, c, d]) {
            // "if size is 1 then the actual size is in the field largesize; if size is 0, then this box [...]
            // extends to the end of the file" (4.2).
            0 => return Ok(Some(Header { kind, len: 8, content: None })),
            1 => match bytes.get(8..).and_then(|rest| rest.first_chunk::<8>()) {
                Some(size) => (u64::from_be_bytes(*size), 16),
                None => return Ok(None),
            },
            size => (u64::from(size), 8),
        };
        let content =
            size.checked_sub(len).ok_or(BmffError::Invalid { at, kind, what: "a size smaller than its header" })?;
        Ok(Some(Header { kind, len, content: Some(content) }))
    }
}

/// The fault of a box that ends inside a field.
const CUT: &str = "a truncated field";

/// Reads a box's content. Its errors tell the position in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub kind: FourCc,
    /// The position of `rest` in the file.
    at: u64,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(kind: FourCc, at: u64, content: &'a [u8]) -> Self {
        Cursor { kind, at, rest: content }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn invalid(&self, what: &'static str) -> BmffError {
        BmffError::Invalid { at: self.at, kind: self.kind, what }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], BmffError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.invalid(CUT))?;
        (self.rest, self.at) = (rest, self.at + len as u64);
        Ok(taken)
    }

    /// Returns a cursor over the next `len` bytes.
    pub(super) fn part(&mut self, len: usize) -> Result<Cursor<'a>, BmffError> {
        let at = self.at;
        Ok(Cursor::new(self.kind, at, self.take(len)?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BmffError> {
        let taken = self.take(N)?;
        Ok(*taken.first_chunk::<N>().expect("N bytes were taken"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, BmffError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, BmffError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BmffError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BmffError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads version and flags, and passes the times of creation and modification. Returns the version.
    pub(super) fn dated(&mut self) -> Result<u8, BmffError> {
        let (version, _) = self.full()?;
        self.take(if version == 0 { 8 } else { 16 })?;
        Ok(version)
    }

    /// Reads 32 bits, or 64 in a box of version 1.
    pub(super) fn wide(&mut self, version: u8) -> Result<u64, BmffError> {
        if version == 0 { self.u32().map(u64::from) } else { self.u64() }
    }

    pub(super) fn fourcc(&mut self) -> Result<FourCc, BmffError> {
        self.array().map(FourCc)
    }

    /// Reads the content of a box without boxes in it. Boxes that hold others are never given to `mp4_atom`, which recurses
    /// as deep as they are nested.
    pub(super) fn decode<A: Atom>(mut self) -> Result<A, BmffError> {
        A::decode_body(&mut self.rest).map_err(|error| match error {
            mp4_atom::Error::OutOfBounds => self.invalid(CUT),
            _ => self.invalid("an unknown version"),
        })
    }

    /// Reads a FullBox's version and flags.
    pub(super) fn full(&mut self) -> Result<(u8, u32), BmffError> {
        let [version, flags @ ..] = self.array::<4>()?;
        let [a, b, c] = flags;
        Ok((version, u32::from_be_bytes([0, a, b, c])))
    }

    /// Returns the next box in this one. A few zeros at the end are no box: QuickTime ends lists so.
    pub(super) fn child(&mut self) -> Result<Option<Cursor<'a>>, BmffError> {
        if self.rest.len() < 8 && self.rest.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Header::read(self.rest, self.at)?.ok_or(self.invalid(CUT))?;
        self.take(usize::try_from(header.len).unwrap_or(Header::LEN_MAX))?;
        let len = header.content.map_or(self.rest.len(), |len| usize::try_from(len).unwrap_or(usize::MAX));
        Ok(Some(Cursor { kind: header.kind, ..self.part(len)? }))
    }

    /// Returns the first box of this type in this one.
    pub(super) fn find(mut self, kind: &[u8; 4]) -> Result<Option<Cursor<'a>>, BmffError> {
        while let Some(child) = self.child()? {
            if child.kind.0 == *kind {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// Returns the first box of this type in this one; it is an error if there is none.
    pub(super) fn need(self, kind: &[u8; 4]) -> Result<Cursor<'a>, BmffError> {
        self.find(kind)?.ok_or(BmffError::Missing { at: self.at, kind: FourCc(*kind), parent: self.kind })
    }
}
