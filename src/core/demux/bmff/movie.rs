//! `moov` (ISO 14496-12, 8.2.1): a file's tracks.

use bytes::Bytes;
use mp4_atom::Trex;

use super::boxes::Cursor;
use super::error::BmffError;
use super::four_cc::FourCc;
use super::limits::TRACKS_MAX;
use super::track::MovieTrack;

/// The tracks of an init segment, or of a plain file's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Movie {
    /// The tracks, in the file's order.
    pub tracks: Vec<MovieTrack>,
    /// Whether fragments may follow (`mvex`).
    pub fragmented: bool,
}

impl Movie {
    /// Reads a `moov`'s content, which begins at `at` in its file.
    ///
    /// # Errors
    /// The first fault in it.
    pub fn read(content: &Bytes, at: u64) -> Result<Movie, BmffError> {
        let moov = Cursor::new(FourCc(*b"moov"), at, content);
        let mut header = moov.need(b"mvhd")?;
        header.dated()?;
        let scale = u64::from(header.u32()?).max(1);
        let (mut boxes, mut fragmented) = (moov, false);
        let (mut tracks, mut defaults): (Vec<MovieTrack>, _) = (Vec::new(), Vec::new());
        while let Some(child) = boxes.child()? {
            match &child.kind.0 {
                b"trak" if tracks.len() == TRACKS_MAX => return Err(BmffError::Tracks),
                b"trak" => tracks.push(MovieTrack::read(child, content, scale)?),
                b"mvex" => {
                    fragmented = true;
                    let mut boxes = child;
                    while let Some(child) = boxes.child()? {
                        if child.kind.0 == *b"trex" && defaults.len() < TRACKS_MAX {
                            defaults.push(child.decode::<Trex>()?);
                        }
                    }
                }
                _ => {}
            }
        }
        for trex in defaults {
            if let Some(track) = tracks.iter_mut().find(|track| track.id == trex.track_id) {
                track.defaults = trex;
            }
        }
        Ok(Movie { tracks, fragmented })
    }

    /// Returns the track with this ID.
    pub fn track(&self, id: u32) -> Option<&MovieTrack> {
        self.tracks.iter().find(|track| track.id == id)
    }

    /// Returns whether its own tables have samples, as in a plain file.
    pub fn has_samples(&self) -> bool {
        self.tracks.iter().any(|track| !track.table.is_empty())
    }
}
