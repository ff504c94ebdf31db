//! The handshake (5.2): C0 C1 C2 from the client, S0 S1 S2 from us, in its simple form.
//!
//! Clients that know the digest handshake put their version where the specification has four zeros. They fall back to the
//! simple handshake when S1 has zeros there. C2 is read and not compared, as in other servers.

use bytes::{BufMut, Bytes, BytesMut};

/// The length of C1, C2, S1 and S2 each.
const BLOCK_LEN: usize = 1_536;
/// The length of C0 and C1 together.
const C0_C1_LEN: usize = 1 + BLOCK_LEN;
/// The length of a whole handshake, in either direction.
pub const LEN: usize = C0_C1_LEN + BLOCK_LEN;
const VERSION: u8 = 3;

/// The handshake failed, since C0 (the protocol's version) isn't 3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte 0: the protocol version is {0} instead of 3: this isn't RTMP{hint}", hint = hint(*.0))]
pub struct HandshakeError(pub u8);

fn hint(version: u8) -> &'static str {
    match version {
        6 | 8 => " but RTMPE, which is not supported; use rtmp://",
        b'G' | b'P' | b'H' | b'O' => " but perhaps HTTP; this is the RTMP port",
        0x16 => " but perhaps TLS; use rtmp://, not rtmps://",
        _ => "",
    }
}

/// Collects C0, C1 and C2.
#[derive(Debug, Default)]
pub struct Handshake(BytesMut);

impl Handshake {
    /// Takes what belongs to the handshake off the front of `input`. Returns the reply, once C1 is whole.
    pub fn handle(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, HandshakeError> {
        if self.is_untouched()
            && let Some(&version) = input.first()
            && version != VERSION
        {
            return Err(HandshakeError(version));
        }
        let before = self.0.len();
        let (taken, rest) = input.split_at(input.len().min(LEN - before));
        *input = rest;
        self.0.extend_from_slice(taken);
        let replies = before < C0_C1_LEN && self.0.len() >= C0_C1_LEN;
        Ok(replies.then(|| reply(&self.0[1..C0_C1_LEN])))
    }

    /// Returns whether nothing has come yet.
    pub fn is_untouched(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether chunks follow.
    pub fn is_done(&self) -> bool {
        self.0.len() == LEN
    }
}

/// Returns S0, S1 and S2. S1 is our time (0), four zeros, and filler. 5.2.3 wants random filler so that a peer can tell its own
/// handshake from this one; nothing needs it to be unpredictable.
fn reply(c1: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(LEN);
    out.put_u8(VERSION);
    out.put_bytes(0, 8);
    let mut filler = 0x9e37_79b9_u32;
    for _ in 0..(BLOCK_LEN - 8) / 4 {
        // xorshift32 (Marsaglia, 2003)
        filler ^= filler << 13;
        filler ^= filler >> 17;
        filler ^= filler << 5;
        out.put_u32(filler);
    }
    // S2 is C1's time, the time at which it was read (0), and C1's filler.
    out.put_slice(&c1[..4]);
    out.put_u32(0);
    out.put_slice(&c1[8..]);
    out.freeze()
}
