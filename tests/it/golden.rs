//! Playlists and MPDs against the files in `fixtures/playlist`, on which hls-parser (strict) and MPEG's schema
//! find no fault.
//!
//! `DAMSON_BLESS=1 cargo nextest run golden` writes them anew.

use damson_core::manifest::dash::Timing;
use damson_core::manifest::{dash, hls};
use damson_core::model::TrackId;
use damson_core::testing::synthetic::{
    AUDIO, Feed, VIDEO, ended, ladder, late_rendition, live, lost_part, only, returned,
};

use crate::tidy::root;

#[test]
fn golden_documents() {
    let check = |name: &str, rendered: Option<String>| {
        let rendered = rendered.expect(name);
        let path = root().join("fixtures/playlist").join(name);
        if std::env::var_os("DAMSON_BLESS").is_some() {
            std::fs::write(&path, &rendered).expect(name);
        }
        let golden = std::fs::read_to_string(&path).expect(name);
        assert_eq!(rendered, golden, "{name} has changed; DAMSON_BLESS=1 takes it over");
    };
    let media = |feed: &Feed, track: TrackId| damson_core::testing::synthetic::playlist(&feed.window, track);
    let manifest = |feed: &Feed, timing| dash::mpd(&feed.window, timing, false);
    check("live.index.m3u8", hls::multivariant(&live().window));
    check("live.video.m3u8", media(&live(), VIDEO));
    check("live.audio.m3u8", media(&live(), AUDIO));
    check("live.mpd", manifest(&live(), Timing::Number));
    check("live.timeline.mpd", manifest(&live(), Timing::Timeline));
    check("lost_part.video.m3u8", media(&lost_part(), VIDEO));
    check("returned.video.m3u8", media(&returned(), VIDEO));
    check("returned.mpd", manifest(&returned(), Timing::Number));
    check("returned.timeline.mpd", manifest(&returned(), Timing::Timeline));
    check("ended.video.m3u8", media(&ended(), VIDEO));
    check("ended.mpd", manifest(&ended(), Timing::Number));
    check("ladder.index.m3u8", hls::multivariant(&ladder().window));
    check("ladder.360p.m3u8", media(&ladder(), TrackId(1)));
    check("ladder.mpd", manifest(&ladder(), Timing::Number));
    check("late_rendition.index.m3u8", hls::multivariant(&late_rendition().window));
    check("late_rendition.180p.m3u8", media(&late_rendition(), TrackId(4)));
    check("late_rendition.mpd", manifest(&late_rendition(), Timing::Number));
    check("late_rendition.timeline.mpd", manifest(&late_rendition(), Timing::Timeline));
    check("video_only.index.m3u8", hls::multivariant(&only(VIDEO).window));
    check("audio_only.index.m3u8", hls::multivariant(&only(AUDIO).window));
    check("audio_only.mpd", manifest(&only(AUDIO), Timing::Number));
}
