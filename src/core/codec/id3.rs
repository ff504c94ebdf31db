//! ID3v2.4 tags (id3.org, "ID3 tag version 2.4.0"), which carry RTMP's text.

use bytes::{BufMut, Bytes};

/// The beginning of a tag.
pub const MAGIC: &[u8; 3] = b"ID3";

/// Returns a tag with a user defined text (TXXX, 4.2.6) for each name and value, in UTF-8.
pub fn texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut frames = Vec::new();
    for (name, value) in texts {
        // Encoding 3 is UTF-8; a description ends with a zero.
        let name = name.split('\0').next().unwrap_or_default();
        frames.put_slice(b"TXXX");
        frames.put_u32(synchsafe(1 + name.len() + 1 + value.len()));
        frames.put_slice(&[0, 0, 3]);
        frames.put_slice(name.as_bytes());
        frames.put_u8(0);
        frames.put_slice(value.as_bytes());
    }
    let mut tag = Vec::with_capacity(10 + frames.len());
    tag.put_slice(MAGIC);
    tag.put_slice(&[4, 0, 0]);
    tag.put_u32(synchsafe(frames.len()));
    tag.put_slice(&frames);
    tag.into()
}

/// Returns 28 bits in four bytes whose upper bit is 0 (6.2). The caller drops messages longer than
/// [`MESSAGE_LEN_MAX`](crate::model::MESSAGE_LEN_MAX).
fn synchsafe(len: usize) -> u32 {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    (len & 0x7f) | (len & 0x3f80) << 1 | (len & 0x1f_c000) << 2 | (len & 0xfe0_0000) << 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_its_texts() {
        let tag = texts([("text", "plüm"), ("n", "")]);
        let frames = b"TXXX\0\0\0\x0b\0\0\x03text\0pl\xc3\xbcmTXXX\0\0\0\x03\0\0\x03n\0";
        assert_eq!(tag, [&b"ID3\x04\0\0\0\0\0"[..], &[frames.len() as u8], frames].concat());
        assert_eq!(synchsafe(200), 0x0148);
        assert_eq!(synchsafe(0xfff_ffff), 0x7f7f_7f7f);
    }
}
