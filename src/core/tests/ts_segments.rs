//! Segments of MPEG-TS, track by track as Shaka Packager pushes them.

use crate::demux::bmff;
use crate::demux::cmaf_ingest::body::Body;
use crate::demux::cmaf_ingest::path::{self, TargetKind};
use crate::demux::cmaf_ingest::tracks::{BodyOutput, Tracks};
use crate::model::Announced;
use crate::packager::tests::AVCC_720P30;
use crate::testing::ts_mux::{Mux, Stamp, adts};

/// Pushes a segment, and returns what comes of it.
fn push(tracks: &mut Tracks, name: &str, bytes: &[u8]) -> Vec<BodyOutput> {
    let target = path::parse("/ingest", &format!("/ingest/cam1/{name}")).expect("a path");
    let TargetKind::Object(object) = target.kind else { panic!("{name} is no segment") };
    let mut body = Body::new(Some(object), bytes, None, bmff::Limits::default(), tracks);
    body.push(bytes).expect("MPEG-TS");
    body.finish(true).expect("it is whole");
    std::iter::from_fn(|| body.poll(tracks).expect("it has a track")).collect()
}

/// A segment of one elementary stream, with its tables.
fn segment(stream_type: u8, stream_id: u8, units: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    let mut mux = Mux::default();
    mux.pat(&[(1, 0x100)]);
    mux.pmt(0x100, 1, 0, &[(stream_type, 0x101)]);
    for (pts, unit) in units {
        mux.pes(0x101, stream_id, Some(Stamp { pts, dts: None, bounded: true }), &unit);
    }
    mux.bytes()
}

fn picture(key: bool) -> Vec<u8> {
    let (sps, pps): (&[u8], &[u8]) = (&AVCC_720P30[8..34], &AVCC_720P30[37..41]);
    let slice: &[u8] = if key { &[0x65, 0x88, 1, 2] } else { &[0x41, 0x88, 1, 2] };
    let nals: &[&[u8]] = if key { &[&[9, 0xf0], sps, pps, slice] } else { &[&[9, 0xf0], slice] };
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal].concat()).collect()
}

#[test]
fn segments_joined_within_a_gop_announce_their_pictures() {
    let mut tracks = Tracks::new(None, 16);
    let sound = |from: u64| segment(0x0f, 0xc0, (0..94).map(move |n| (from + n * 1_920, adts(&[n as u8 + 1; 9]))));
    let units = |outputs: &[BodyOutput]| outputs.iter().filter(|o| matches!(o, BodyOutput::Unit(..))).count();
    // The keyframe is in the second segment.
    let pictures =
        |from: u64, key: u64| segment(0x1b, 0xe0, (0..60).map(move |n| (from + n * 3_000, picture(n == key))));
    assert_eq!(units(&push(&mut tracks, "audio-1.ts", &sound(0))), 94);
    assert_eq!(units(&push(&mut tracks, "video-1.ts", &pictures(0, 99))), 0);
    let (announced, _) = tracks.beginning(0, false);
    assert_eq!(announced, Announced { video: Some(true), audio: Some(true) }, "the packager waits for both");
    let outputs = push(&mut tracks, "video-2.ts", &pictures(180_000, 20));
    assert_eq!(units(&outputs), 40, "from the keyframe on");
    let begins =
        |output: &BodyOutput| matches!(output, BodyOutput::Unit(_, _, unit) if unit.keyframe && unit.dts == 240_000);
    assert!(outputs.iter().any(begins), "{outputs:?}");
}
