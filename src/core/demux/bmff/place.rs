//! Where a sample lies, and when.

/// A sample's place and times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SamplePlace {
    /// Where in the file it begins.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
    /// In ticks of the track, an edit list included.
    pub dts: i64,
    /// In ticks of the track.
    pub duration: u32,
    /// In ticks of the track.
    pub composition_offset: i32,
    /// A random access point.
    pub keyframe: bool,
}
