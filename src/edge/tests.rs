//! Renderers over made-up windows, checked by independent parsers and by properties. `tests/it/golden.rs` compares the
//! golden files.

use std::time::Duration;

use bytes::Bytes;
use damson_core::manifest::dash::Timing;
use damson_core::manifest::directives::Skip;
use damson_core::manifest::hls_history::HlsHistory;
use damson_core::manifest::{dash, hls};
use damson_core::model::time::Time;
use damson_core::model::{Flags, Init, Msn, Period, TrackId, TrackKind};
use damson_core::testing::synthetic::{self, AUDIO, FIRST_MSN, Feed, PARTS, VIDEO, ended, live, lost_part, returned};
use damson_core::window::Input;
use proptest::prelude::*;
use quick_m3u8::config::ParsingOptions;
use quick_m3u8::{HlsLine, Reader};

#[test]
fn several_renditions_and_languages_are_all_listed() {
    let mut record = synthetic::record("cam1");
    let mut small = record.tracks[0].clone();
    small.name = "video1".to_owned();
    let mut german = record.tracks[1].clone();
    german.name = "audio_de".to_owned();
    german.language = Some("de".to_owned());
    record.tracks.extend([small, german]);
    for (id, track) in (0..).zip(&mut record.tracks) {
        track.id = TrackId(id);
    }
    let mut feed = Feed::new(record);
    feed.run(0, 1, 0);
    let text = hls::multivariant(&feed.window).expect("listed");
    let m3u8_rs::Playlist::MasterPlaylist(parsed) = m3u8_rs::parse_playlist_res(text.as_bytes()).expect("a playlist")
    else {
        panic!("a multivariant playlist")
    };
    assert_eq!(parsed.variants.len(), 2);
    assert_eq!(parsed.alternatives.iter().filter(|a| a.default).count(), 1);
    assert_eq!(parsed.alternatives.iter().filter_map(|a| a.language.as_deref()).collect::<Vec<_>>(), ["de"]);
    let mpd = dash::mpd(&feed.window, Timing::Number, false).expect("listed");
    let ids: Vec<_> = mpd.split("<AdaptationSet id=\"").skip(1).filter_map(|s| s.split('"').next()).collect();
    assert_eq!(ids, ["1", "2", "4"]);
}

/// A player that lacks a codec of a variant skips it, and it switches only within a set.
#[test]
fn codecs_are_kept_apart() {
    let mut record = synthetic::record("cam1");
    let named = |track: usize, name: &str, codec: &str| {
        let track = record.tracks[track].clone();
        damson_core::model::Track { name: name.to_owned(), codec: codec.to_owned(), ..track }
    };
    let tracks = vec![
        named(0, "video", "avc1.64001f"),
        named(0, "video1", "hvc1.1.6.L93.B0"),
        named(1, "audio", "ec-3"),
        named(1, "audio1", "mp4a.40.2"),
        named(1, "audio2", "mp4a.40.5"),
    ];
    record.tracks = tracks;
    for (id, track) in (0..).zip(&mut record.tracks) {
        track.id = TrackId(id);
    }
    let mut feed = Feed::new(record);
    feed.run(0, 1, 0);
    let text = hls::multivariant(&feed.window).expect("listed");
    let value = |line: &str, key: &str| {
        line.split(&format!("{key}=\"")).nth(1).and_then(|v| v.split('"').next()).map(str::to_owned)
    };
    let variants = text.lines().filter(|line| line.starts_with("#EXT-X-STREAM-INF"));
    let variants: Vec<_> = variants.map(|line| (value(line, "CODECS"), value(line, ",AUDIO"))).collect();
    let expect = [
        ("avc1.64001f,ec-3", "audio"),
        ("hvc1.1.6.L93.B0,ec-3", "audio"),
        ("avc1.64001f,mp4a.40.2,mp4a.40.5", "audio-mp4a"),
        ("hvc1.1.6.L93.B0,mp4a.40.2,mp4a.40.5", "audio-mp4a"),
    ];
    assert_eq!(variants, expect.map(|(codecs, group)| (Some(codecs.to_owned()), Some(group.to_owned()))));
    let media = text.lines().filter(|line| line.starts_with("#EXT-X-MEDIA"));
    let media: Vec<_> = media.map(|line| (value(line, "GROUP-ID"), line.contains("DEFAULT=YES"))).collect();
    let expect = [("audio", true), ("audio-mp4a", true), ("audio-mp4a", false)];
    assert_eq!(media, expect.map(|(group, default)| (Some(group.to_owned()), default)));
    let mpd = dash::mpd(&feed.window, Timing::Number, false).expect("listed");
    let ids: Vec<_> = mpd.split("<AdaptationSet id=\"").skip(1).filter_map(|s| s.split('"').next()).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5"]);
    assert!(mpd.contains("tag:dolby.com,2014:dash:audio_channel_configuration:2011\" value=\"A000\""), "{mpd}");
}

/// A parser that types every tag understands the whole playlist, and writes the same one.
#[test]
fn nothing_in_a_playlist_is_unknown() {
    let check = |text: Option<String>| {
        let text = text.expect("listed");
        let mut reader = Reader::from_str(&text, ParsingOptions::default());
        while let Some(line) = reader.read_line().expect("a line") {
            assert!(!matches!(line, HlsLine::UnknownTag(_) | HlsLine::Comment(_) | HlsLine::Blank), "{line:?}");
        }
        assert!(m3u8_rs::parse_playlist_res(text.as_bytes()).is_ok(), "{text}");
    };
    check(hls::multivariant(&live().window));
    for feed in [live(), lost_part(), returned(), ended()] {
        check(synthetic::playlist(&feed.window, VIDEO));
    }
}

#[test]
fn what_is_not_there_yet_is_not_rendered() {
    let mut feed = Feed::new(synthetic::record("cam1"));
    assert_eq!(synthetic::playlist(&feed.window, VIDEO), None);
    feed.part(VIDEO, FIRST_MSN, 0);
    assert!(synthetic::playlist(&feed.window, VIDEO).is_some());
    assert_eq!(dash::mpd(&feed.window, Timing::Number, false), None);
    assert_eq!(synthetic::playlist(&feed.window, TrackId(9)), None);
}

/// A player close to the live edge knows of a new period before its buffer is empty.
#[test]
fn an_mpd_is_read_again_in_time_for_a_new_period() {
    for (timing, period) in [(Timing::Number, "PT1S"), (Timing::Timeline, "PT2S")] {
        let mpd = dash::mpd(&live().window, timing, false).expect("listed");
        assert!(mpd.contains(&format!(" minimumUpdatePeriod=\"{period}\"")), "{mpd}");
    }
}

/// The publisher disconnects without a word after segment 20. Gaps follow until the life ends.
fn abandoned() -> Feed {
    abandoned_after(PARTS)
}

/// The same, after `parts` of segment 20.
fn abandoned_after(parts: u16) -> Feed {
    let mut feed = Feed::new(synthetic::record("cam1"));
    feed.run(0, 20, 0);
    let of_last = (0..parts).map(|part| (FIRST_MSN + 20, part, part + 1 == parts, false));
    let of_gap = (0..PARTS).map(|part| (FIRST_MSN + 21, part, part + 1 == PARTS, true));
    for (msn, part, last, gap) in of_last.chain(of_gap) {
        for id in [VIDEO, AUDIO] {
            let (mut header, body, trace) = synthetic::part(&feed.record, id, msn, part, if gap { 0 } else { 1_000 });
            header.flags = Flags { last, gap, ..header.flags };
            let now = Time::ZERO;
            feed.window.handle(now, Input::Part { header, body, trace, received: now });
        }
    }
    feed.update(|r| r.ended = Some(FIRST_MSN + 21));
    feed
}

/// Nothing that players know of a period changes; it only ends, before the gaps.
#[test]
fn an_ended_mpd_ends_before_the_gaps_and_begins_where_it_did() {
    // The last pictures are shown later than they are decoded, but one number more would be one segment more.
    let ends =
        [(Timing::Number, PARTS, "PT42S"), (Timing::Number, PARTS - 1, "PT42S"), (Timing::Number, 3, "PT40.850S")];
    let ends = ends.into_iter().chain([(Timing::Timeline, PARTS, "PT42.250S"), (Timing::Timeline, 3, "PT40.850S")]);
    for (timing, parts, end) in ends {
        let mpd = dash::mpd(&abandoned_after(parts).window, timing, true).expect("listed");
        assert!(mpd.contains(&format!("<Period id=\"p0\" start=\"PT0S\" duration=\"{end}\">")), "{mpd}");
        assert!(mpd.contains(" type=\"static\""), "{mpd}");
        assert!(mpd.contains(&format!(" mediaPresentationDuration=\"{end}\"")), "{mpd}");
        assert!(!mpd.contains("minimumUpdatePeriod") && !mpd.contains("<Location>"), "{mpd}");
        assert_eq!(mpd.contains(&format!("startNumber=\"{FIRST_MSN}\"")), timing == Timing::Number, "{mpd}");
    }
    let live = live();
    assert_eq!(dash::mpd(&live.window, Timing::Number, true), dash::mpd(&live.window, Timing::Number, false));
}

/// A new player is told what is still there, without the segments that have left the playlist and the gaps at the end.
#[test]
fn a_late_comers_mpd_begins_with_what_is_there() {
    let feed = abandoned();
    let mpd = dash::mpd(&feed.window, Timing::Number, false).expect("listed");
    let first = feed.window.tracks()[0].listed().next().expect("listed").msn;
    let starts =
        format!("start=\"PT{0}S\" duration=\"PT{1}.250S\"", (first - FIRST_MSN) * 2, 42 - (first - FIRST_MSN) * 2);
    assert!(first > FIRST_MSN && mpd.contains("type=\"static\""), "{mpd}");
    assert!(mpd.contains(&starts) && mpd.contains("mediaPresentationDuration=\"PT42.250S\""), "{mpd}");
    let run = format!("<S t=\"{}\" d=\"180000\" r=\"{}\"/>", (first - FIRST_MSN) * 180_000, FIRST_MSN + 20 - first);
    assert!(mpd.contains(&run) && mpd.contains(&format!("startNumber=\"{first}\"")), "{mpd}");
    // Everything of a short life is still there.
    let mut feed = Feed::new(synthetic::record("cam1"));
    feed.run(0, 3, 0);
    feed.update(|r| r.ended = Some(FIRST_MSN + 2));
    assert_eq!(dash::mpd(&feed.window, Timing::Number, true), dash::mpd(&feed.window, Timing::Number, false));
}

#[test]
fn players_are_told_of_a_high_dynamic_range() {
    for (transfer, range) in [(1, Some("SDR")), (16, Some("PQ")), (18, Some("HLG")), (2, None)] {
        let mut record = synthetic::record("cam1");
        if let TrackKind::Video(video) = &mut record.tracks[0].kind {
            video.transfer = transfer;
        }
        let mut feed = Feed::new(record);
        feed.run(0, 3, 2);
        let text = hls::multivariant(&feed.window).expect("listed");
        let said = text.split(",VIDEO-RANGE=").nth(1).and_then(|rest| rest.split([',', '\n']).next());
        assert_eq!(said, range, "{text}");
        let mpd = dash::mpd(&feed.window, Timing::Number, false).expect("listed");
        let property = format!("cicp:TransferCharacteristics\" value=\"{transfer}\"");
        assert_eq!(mpd.contains(&property), transfer > 15, "{mpd}");
    }
}

/// For hls.js a stream ends when the last part that the playlist shows is buffered.
#[test]
fn an_ended_playlist_shows_parts_of_media_alone() {
    let text = synthetic::playlist(&abandoned().window, VIDEO).expect("listed");
    let parts: Vec<_> = text.lines().filter(|l| l.starts_with("#EXT-X-PART:")).collect();
    let last = format!("URI=\"{}.{}.m4s\"", FIRST_MSN + 20, PARTS - 3);
    assert!(parts.last().is_some_and(|l| l.ends_with(&last)) && !text.contains("GAP=YES"), "{text}");
    assert!(
        text.ends_with(&format!("#EXT-X-GAP\n#EXTINF:2.000000,\n{}.m4s\n#EXT-X-ENDLIST\n", FIRST_MSN + 21)),
        "{text}"
    );
}

/// Returns the lines of a playlist's head, and of each segment.
fn pieces(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut lines = text.lines().peekable();
    let mut head = Vec::new();
    while let Some(line) = lines.next_if(|l| !l.starts_with("#EXT-X-MAP") && !l.starts_with("#EXT-X-PROGRAM")) {
        head.push(line);
    }
    let mut segments = vec![Vec::new()];
    for line in lines {
        segments.last_mut().expect("never empty").push(line);
        if !line.starts_with('#') {
            segments.push(Vec::new());
        }
    }
    (head, segments)
}

fn delta(feed: &Feed) -> Option<String> {
    hls::media(&feed.window, &mut HlsHistory::default(), VIDEO, Skip::Segments)
}

/// rfc8216bis 6.2.5.1: an update leaves out exactly what the client has.
#[test]
fn a_delta_update_is_the_playlist_without_its_old_segments() {
    let feed = live();
    let (full, delta) = (synthetic::playlist(&feed.window, VIDEO).expect("listed"), delta(&feed).expect("listed"));
    let ((head, segments), (delta_head, delta_segments)) = (pieces(&full), pieces(&delta));
    assert!(
        head.iter().any(|l| l.starts_with("#EXT-X-SERVER-CONTROL:") && l.contains(",CAN-SKIP-UNTIL=12.000,")),
        "{full}"
    );
    let skipped = segments.len() - delta_segments.len();
    // There are 15 whole segments of 2 s. The newest 12 s stay.
    assert_eq!(skipped, 9);
    assert_eq!(delta_head, [&head[..], &[&format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")]].concat());
    // The first one repeats the EXT-X-MAP that applies to it.
    assert_eq!(delta_segments[0], [&segments[0][..1], &segments[skipped][..]].concat());
    assert_eq!(delta_segments[1..], segments[skipped + 1..]);
}

#[test]
fn a_delta_update_is_whole_where_nothing_may_be_skipped() {
    let check = |feed: &Feed| assert_eq!(delta(feed), synthetic::playlist(&feed.window, VIDEO));
    check(&ended());
    check(&synthetic::only(VIDEO));
    // A discontinuity isn't skipped: players know the one before only by it.
    let mut feed = returned();
    for segments in 22..30 {
        feed.run(segments, segments + 1, 0);
        let delta = delta(&feed).expect("listed");
        let numbers = |tag: &str| delta.lines().find_map(|l| l.strip_prefix(tag)?.parse::<u32>().ok()).unwrap_or(0);
        let first = numbers("#EXT-X-MEDIA-SEQUENCE:") + numbers("#EXT-X-SKIP:SKIPPED-SEGMENTS=");
        assert!(first <= FIRST_MSN + 21 || numbers("#EXT-X-DISCONTINUITY-SEQUENCE:") == 1, "{delta}");
        assert!(delta.contains("#EXT-X-DISCONTINUITY\n") || numbers("#EXT-X-DISCONTINUITY-SEQUENCE:") == 1, "{delta}");
    }
}

/// rfc8216bis 4.4.5.3: an init segment that is known before its first segment is hinted.
#[test]
fn a_changed_map_is_hinted_before_its_first_part() {
    let mut feed = live();
    feed.run(20, 21, 0);
    feed.update(|r| {
        r.periods.push(Period::new(FIRST_MSN + 21, 1, Duration::from_secs(42)));
        r.tracks[0].inits.push(Init { number: 1, bytes: Bytes::from_static(b"other") });
    });
    let hints = |feed: &Feed, track| {
        let text = synthetic::playlist(&feed.window, track).expect("listed");
        text.lines().filter_map(|l| l.strip_prefix("#EXT-X-PRELOAD-HINT:")).map(str::to_owned).collect::<Vec<_>>()
    };
    let part = format!("TYPE=PART,URI=\"{}.0.m4s\"", FIRST_MSN + 21);
    assert_eq!(hints(&feed, VIDEO), ["TYPE=MAP,URI=\"init.1.mp4\"".to_owned(), part.clone()]);
    assert_eq!(hints(&feed, AUDIO), [part]);
}

/// Players read the multivariant playlist once, so what it says of segments must always hold.
#[test]
fn independent_segments_once_taken_back_stay_so() {
    const TAG: &str = "#EXT-X-INDEPENDENT-SEGMENTS";
    let mut feed = live();
    let declared = |feed: &Feed| hls::multivariant(&feed.window).expect("listed").contains(TAG);
    assert!(declared(&feed));
    let mut parts = Vec::new();
    for msn in FIRST_MSN + 20..FIRST_MSN + 60 {
        parts.extend((0..PARTS).map(|part| (msn, part)).filter(|&(msn, part)| (msn, part) > (FIRST_MSN + 20, 2)));
    }
    for (msn, part) in parts {
        let (mut header, body, trace) = synthetic::part(&feed.record, VIDEO, msn, part, 10);
        header.flags.irregular = true;
        let now = Time::ZERO;
        feed.window.handle(now, Input::Part { header, body, trace, received: now });
        assert!(!declared(&feed), "{msn}.{part}");
    }
}

/// The numbers of a playlist that must never decrease, and its lines.
struct Seen {
    sequence: u64,
    discontinuity: u64,
    segments: Vec<String>,
}

fn read(text: &str) -> Seen {
    let value = |tag: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(tag)).expect(tag);
        line.parse().expect(tag)
    };
    for line in text.lines().filter_map(|l| l.strip_prefix("#EXT-X-PART:DURATION=")) {
        let seconds: f64 = line.split(',').next().expect("a duration").parse().expect("a number");
        assert!(seconds <= 0.202, "a part longer than PART-TARGET: {seconds}");
    }
    for line in text.lines().filter_map(|l| l.strip_prefix("#EXTINF:")) {
        let seconds: f64 = line.trim_end_matches(',').parse().expect("a number");
        assert!(seconds.round() <= 2.0, "a segment longer than TARGETDURATION: {seconds}");
    }
    // The line of a segment, with its duration.
    let lines: Vec<&str> = text.lines().collect();
    let segments = lines.windows(2).filter(|w| w[0].starts_with("#EXTINF:")).map(|w| w.concat()).collect();
    Seen { sequence: value("#EXT-X-MEDIA-SEQUENCE:"), discontinuity: value("#EXT-X-DISCONTINUITY-SEQUENCE:"), segments }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// In whatever order parts come, and whatever is lost: the playlist only grows at its end and shrinks at its start,
    /// and a written line stays.
    #[test]
    fn a_playlist_never_takes_anything_back(seed in any::<u64>(), lost in 0_u32..8) {
        let mut feed = Feed::new(synthetic::record("cam1"));
        let mut random = seed | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut before: Option<Seen> = None;
        let mut late: Vec<(Msn, u16)> = Vec::new();
        for segment in 0..26 {
            for part in 0..PARTS {
                feed.part(AUDIO, FIRST_MSN + segment, part);
                match next(16) {
                    // The very first part is there: how a life begins is the window's concern.
                    _ if (segment, part) == (0, 0) => feed.part(VIDEO, FIRST_MSN, 0),
                    n if n < u64::from(lost) => drop(next(2)),
                    n if n < 12 => feed.part(VIDEO, FIRST_MSN + segment, part),
                    _ => late.push((FIRST_MSN + segment, part)),
                }
                if next(4) == 0 && let Some((msn, part)) = late.pop() {
                    feed.part(VIDEO, msn, part);
                }
                feed.pass(Duration::from_millis(200));
                let Some(text) = synthetic::playlist(&feed.window, VIDEO) else { continue };
                let seen = read(&text);
                if let Some(before) = before {
                    prop_assert!(seen.sequence >= before.sequence);
                    prop_assert!(seen.discontinuity >= before.discontinuity);
                    let gone = usize::try_from(seen.sequence - before.sequence).expect("small");
                    let kept = before.segments.get(gone..).unwrap_or_default();
                    prop_assert!(seen.segments.starts_with(kept), "{:?} became {:?}", kept, seen.segments);
                }
                before = Some(seen);
            }
        }
    }

    /// Invariant 1: two edges that ran from the start, and list the same part, send the same bytes, in whatever order
    /// the parts came.
    #[test]
    fn two_edges_say_the_same(swaps in proptest::collection::vec((0_usize..40, 0_usize..40), 0..30)) {
        let mut order: Vec<(TrackId, u32, u16)> = (0..2)
            .flat_map(|s| (0..PARTS).flat_map(move |p| [(VIDEO, s, p), (AUDIO, s, p)]))
            .collect();
        let mut a = Feed::new(synthetic::record("cam1"));
        for (track, segment, part) in &order {
            a.part(*track, FIRST_MSN + segment, *part);
        }
        for (i, j) in swaps {
            order.swap(i, j);
        }
        let mut b = Feed::new(synthetic::record("cam1"));
        for (track, segment, part) in &order {
            b.part(*track, FIRST_MSN + segment, *part);
        }
        for track in [VIDEO, AUDIO] {
            prop_assert_eq!(synthetic::playlist(&a.window, track), synthetic::playlist(&b.window, track));
        }
        prop_assert_eq!(hls::multivariant(&a.window), hls::multivariant(&b.window));
        prop_assert_eq!(dash::mpd(&a.window, Timing::Timeline, false), dash::mpd(&b.window, Timing::Timeline, false));
    }
}
