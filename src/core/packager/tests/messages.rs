//! Timed metadata goes into parts, once, with its time.

use super::*;
use crate::cmaf::{self, EventMessage};
use crate::codec::scte35::tests::insert;
use crate::model::{Scheme, TimedMessage};

const TS: InputClock = InputClock { scale: Timescale::MPEG, wrap_bits: 33 };

fn message(scheme: Scheme, pts: Option<u64>, data: impl Into<Bytes>) -> Input {
    Input::Message(TimedMessage { track: VIDEO, scheme, pts, duration: None, data: data.into() })
}

/// Returns the events of a track's parts: the part's start and the event, times in ms.
fn carried(bench: &Bench, track: u8) -> Vec<(u64, EventMessage, UnixTime)> {
    let scale = bench.record().tracks[usize::from(track)].timescale;
    let ms = |ticks: u64| scale.duration(ticks).as_millis() as u64;
    let of = |(header, body): (&PartHeader, &Bytes)| {
        let start = ms(header.decode_time);
        cmaf::events(body, scale)
            .into_iter()
            .map(move |(event, wall)| (start, EventMessage { time: ms(event.time), ..event }, wall))
            .collect::<Vec<_>>()
    };
    bench.parts(track).into_iter().flat_map(of).collect()
}

#[test]
fn a_message_goes_into_the_next_part_with_its_own_time() {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    let units = programme(10);
    let (before, after) = units.split_at(units.partition_point(|unit| unit.dts < 5_300));
    let base = (1 << 32) - 4_000; // across RTMP's wrap
    bench.play(before, base);
    bench.send(message(Scheme::Id3, Some((base + 5_400) % (1 << 32)), "ID3 one"));
    // Seconds ahead, and again, as splices are announced.
    for _ in 0..3 {
        bench.send(message(Scheme::Scte35, Some((base + 9_000) % (1 << 32)), "splice"));
    }
    bench.send(message(Scheme::Id3, None, "ID3 now"));
    let start = bench.now_ms;
    for unit in after {
        bench.wait_until(start + unit.dts - 5_300);
        bench.send(Input::Unit(AccessUnit { dts: (base + unit.dts) % (1 << 32), ..unit.clone() }));
    }
    let got = carried(&bench, 0);
    let times: Vec<(u64, Scheme, u64, &[u8])> =
        got.iter().map(|(part, event, _)| (*part, event.scheme, event.time, &event.data[..])).collect();
    let now = before.iter().map(|unit| unit.dts).max().expect("some");
    assert_eq!(
        times,
        [
            (5_200, Scheme::Id3, 5_400, &b"ID3 one"[..]),
            (5_200, Scheme::Scte35, 9_000, b"splice"),
            (5_200, Scheme::Id3, now, b"ID3 now")
        ]
    );
    // Each at the wallclock of its time, as PROGRAM-DATE-TIME has it.
    let begun = bench.parts(0)[0].0.program_date_time;
    let first_shown = 66; // what B-frames are late by
    for (_, event, wall) in &got {
        let off = wall.as_micros().abs_diff((begun + Duration::from_millis(event.time - first_shown)).as_micros());
        assert!(off < 5_000, "{event:?} at {wall}: {off} us off");
    }
    assert!(carried(&bench, 1).is_empty(), "sound has none where there are pictures");
    assert!(Scheme::ALL.into_iter().all(|scheme| bench.record().messages.contains(scheme)));
    check_invariants(&bench.outputs);
}

#[test]
fn what_comes_before_the_life_is_in_its_first_part() {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    let units = programme(8);
    bench.play(&units[..3], 0);
    bench.send(message(Scheme::Id3, Some(0), "ID3"));
    for unit in &units[3..] {
        bench.wait_until(10_000 + unit.dts);
        bench.send(Input::Unit(unit.clone()));
    }
    assert_eq!(carried(&bench, 0).first().map(|(part, event, _)| (*part, event.time)), Some((0, 0)));
}

#[test]
fn sound_alone_carries_them_and_so_does_each_rendition() {
    let mut bench = Bench::new(settings());
    bench.attach(1);
    bench.send(Input::Config { track: AUDIO, config: asc() });
    let units = sounds(400);
    bench.play(&units[..300], 0);
    bench.send(Input::Message(TimedMessage {
        track: AUDIO,
        scheme: Scheme::Id3,
        pts: Some(6_500),
        duration: Some(Duration::from_secs(2)),
        data: Bytes::from_static(b"ID3"),
    }));
    for unit in &units[300..] {
        bench.send(Input::Unit(unit.clone()));
    }
    let got = carried(&bench, 0);
    assert_eq!(
        got.iter().map(|(_, event, _)| (event.time, event.duration)).collect::<Vec<_>>(),
        [(6_500, Some(96_000))]
    );

    let mut bench = Bench::new(settings());
    for (push, name) in [(PushId(0), "high"), (PushId(1), "low")] {
        bench.attach_as(push, Some(name), 1);
        bench.send(Input::Config { track: InputTrack::of(push, VIDEO), config: avcc() });
    }
    for unit in frames(300, 30.0, 60, false) {
        bench.wait_until(10_000 + unit.dts);
        if unit.dts == 6_000 {
            bench.send(message(Scheme::Id3, Some(6_000), "ID3"));
        }
        for push in [PushId(0), PushId(1)] {
            bench.send(Input::Unit(AccessUnit { track: InputTrack::of(push, VIDEO), ..unit.clone() }));
        }
    }
    let ids: Vec<Vec<u32>> =
        [0, 1].map(|track| carried(&bench, track).iter().map(|(_, event, _)| event.id).collect()).to_vec();
    assert!(ids[0].len() == 1 && ids[0] == ids[1], "{ids:?}");
}

#[test]
fn the_way_back_brings_its_break_along() {
    let mut bench = Bench::new(settings());
    let announced = Announced::default();
    bench.send(Input::Attached { push: FEED, rendition: None, epoch: epoch(1), clock: TS, announced });
    bench.send(Input::Config { track: VIDEO, config: avcc() });
    let (out, back) = (insert(7, 8 * 90_000, Some(20 * 90_000)), insert(7, 20 * 90_000, None));
    for unit in frames(700, 30.0, 60, false) {
        bench.wait_until(10_000 + unit.dts);
        for (at, pts, section) in [(6_000, 8, &out), (19_000, 20, &back)] {
            if unit.dts == at {
                bench.send(message(Scheme::Scte35, Some(pts * 90_000), section.clone()));
            }
        }
        bench.send(Input::Unit(AccessUnit { dts: unit.dts * 90, ..unit }));
    }
    let got = carried(&bench, 0);
    let data: Vec<(u64, u64, bool)> =
        got.iter().map(|(part, event, _)| (part.div_ceil(1_000), event.time, event.data == out)).collect();
    assert_eq!(data, [(6, 8_000, true), (19, 8_000, true), (19, 20_000, false)]);
    assert_eq!(got[0].1.id, got[1].1.id, "players know it by its id");
}

#[test]
fn a_flood_is_bounded_and_rubbish_refused() {
    let mut bench = Bench::new(settings());
    bench.attach_av(1);
    bench.play(&programme(6), 0);
    bench.send(message(Scheme::Id3, Some(6_000), Bytes::new()));
    bench.send(message(Scheme::Id3, Some(6_000), vec![1; MESSAGE_LEN_MAX + 1]));
    assert_eq!(bench.notices("unusable_unit"), 2);
    for n in 0..1_000_u32 {
        bench.send(message(Scheme::Id3, Some(6_000), [&n.to_be_bytes()[..], &[7; 30_000]].concat()));
    }
    let units: Vec<AccessUnit> = programme(9).into_iter().filter(|unit| unit.dts >= 6_000).collect();
    for unit in units {
        bench.send(Input::Unit(unit));
    }
    let got = carried(&bench, 0);
    assert!((32..=64).contains(&got.len()), "{}", got.len());
    let first = got.first().map(|(_, event, _)| event.data[..4].to_vec());
    assert_eq!(first, Some((1_000 - 64_u32).to_be_bytes().to_vec()), "the newest are kept");
    assert!(bench.parts(0).iter().all(|(_, body)| body.len() < 200_000));
    check_invariants(&bench.outputs);
}
