//! The handshake (5.2): C0 C1 C2 from the client, S0 S1 S2 from us, in its simple form.
//!
//! Clients that know the digest handshake (they put their version where the specification has four
//! zeros) fall back to the simple one when S1 has zeros there; C2 is read and not compared, as other servers do.

use bytes::{BufMut, Bytes, BytesMut};

/// C1, C2, S1 and S2 each.
pub const BLOCK_LEN: usize = 1_536;
const VERSION: u8 = 3;

/// Why the handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// C0 isn't 3.
    #[error("byte 0: protocol version {0} instead of 3: this isn't RTMP{hint}", hint = hint(*.0))]
    Version(u8),
}

fn hint(version: u8) -> &'static str {
    match version {
        6 | 8 => " but RTMPE, which isn't supported: use rtmp://",
        b'G' | b'P' | b'H' | b'O' => " but perhaps HTTP: this is the RTMP port",
        0x16 => " but perhaps TLS: use rtmp://, not rtmps://",
        _ => "",
    }
}

/// Collects C0, C1 and C2.
#[derive(Debug, Default)]
pub struct Handshake {
    block: BytesMut,
    stage: Stage,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    C0,
    C1,
    C2,
    Done,
}

impl Handshake {
    /// Takes what belongs to the handshake off the front of `input`; the bytes to answer with, if any.
    pub fn handle(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, HandshakeError> {
        let mut reply = None;
        while let Some(&first) = input.first() {
            match self.stage {
                Stage::C0 => {
                    if first != VERSION {
                        return Err(HandshakeError::Version(first));
                    }
                    *input = &input[1..];
                    self.stage = Stage::C1;
                }
                Stage::C1 | Stage::C2 => {
                    let n = input.len().min(BLOCK_LEN - self.block.len());
                    self.block.extend_from_slice(&input[..n]);
                    *input = &input[n..];
                    if self.block.len() == BLOCK_LEN {
                        let block = self.block.split();
                        if self.stage == Stage::C1 {
                            reply = Some(answer(&block));
                            self.stage = Stage::C2;
                        } else {
                            self.stage = Stage::Done;
                        }
                    }
                }
                Stage::Done => break,
            }
        }
        Ok(reply)
    }

    /// Whether nothing has come yet.
    pub fn is_untouched(&self) -> bool {
        self.stage == Stage::C0
    }

    /// Whether chunks follow.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }
}

/// S0, S1 and S2. S1 is our time (0), four zeros, and filler that 5.2.3 wants random so that a peer can
/// tell its own handshake from this one; nothing relies on its being unpredictable.
fn answer(c1: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 2 * BLOCK_LEN);
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
