//! damson's player page, carried in the binary.
//!
//! [`asset`] gives the page at `/` and its files under `/player/`. Where the build had npm
//! ([`EMBEDDED`]), hls.js, Shaka and dash.js are among them; else the page loads them from a public CDN,
//! at the same versions and under a hash, and says so. `build.rs` tells which, and how to choose.

/// One file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its content.
    pub bytes: &'static [u8],
    /// The same, compressed (RFC 1952), for a client that accepts it.
    pub gzip: &'static [u8],
    /// For `Content-Type`.
    pub content_type: &'static str,
    /// For `ETag`, quotes included (RFC 9110 8.8.3). It belongs to `bytes`; the compressed form has the same
    /// meaning, and may go out under the weak form of it.
    pub etag: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Whether the players are in this binary.
pub const EMBEDDED: bool = EMBEDDED_HERE;

/// The file at the path of a URL (no query): `/` or `/player/...`.
#[must_use]
pub fn asset(path: &str) -> Option<Asset> {
    let at = ASSETS.binary_search_by(|(name, _)| (*name).cmp(path)).ok()?;
    Some(ASSETS[at].1)
}

/// The paths that [`asset`] knows, in order.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests;
