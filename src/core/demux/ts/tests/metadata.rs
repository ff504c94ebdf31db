//! Timed metadata of a program.

use super::*;
use crate::codec::scte35::tests::{insert, section};
use crate::model::{MESSAGE_LEN_MAX, Scheme};

const I: u16 = 0x103;
const S: u16 = 0x104;
/// metadata_descriptor: "ID3 ", of application format and format alike.
const ID3: &[u8] = &[0x26, 13, 0xff, 0xff, b'I', b'D', b'3', b' ', 0xff, b'I', b'D', b'3', b' ', 0, 0xf];

fn film() -> Film {
    let mut film = Film::default();
    film.mux.pat(&[(1, PMT)]);
    film.mux.pmt_described(PMT, 1, 0, &[(0x1b, V, &[]), (0x0f, A, &[]), (0x15, I, ID3), (0x86, S, &[])]);
    film
}

fn messages(out: Vec<Output>) -> Vec<(Scheme, Option<u64>, Option<u64>, Bytes)> {
    let of = |output| match output {
        Output::Input(Input::Message(TimedMessage { scheme, pts, duration, data, .. })) => {
            Some((scheme, pts, duration.map(|duration| duration.as_secs()), data))
        }
        _ => None,
    };
    out.into_iter().filter_map(of).collect()
}

#[test]
fn tags_and_splices_come_out_with_their_times() {
    let mut film = film();
    let tag = |n: u8| [b"ID3\x04\0\0", &[0, 0, 2, n][..], &[n; 300]].concat();
    film.mux.pes(I, 0xbd, Some(Stamp { pts: 9_000, dts: None, bounded: true }), &tag(1));
    film.mux.pes(I, 0xbd, Some(Stamp { pts: 18_000, dts: None, bounded: false }), &tag(2));
    let out = insert(7, 90_000, Some(30 * 90_000));
    film.mux.section(S, &out);
    // A heartbeat says nothing.
    film.mux.section(S, &section(0, 0, &[]));
    film.mux.pes(I, 0xbd, Some(Stamp { pts: 27_000, dts: None, bounded: true }), &tag(3));
    let (outputs, stats) = demuxed([film.mux.bytes()]);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Diagnostic(_))), "{outputs:?}");
    assert_eq!(
        messages(outputs),
        [
            (Scheme::Id3, Some(9_000), None, tag(1).into()),
            (Scheme::Scte35, Some(90_000), Some(30), out.into()),
            (Scheme::Id3, Some(18_000), None, tag(2).into()),
            (Scheme::Id3, Some(27_000), None, tag(3).into()),
        ]
    );
    assert_eq!(stats.bad_sections, 0);
}

#[test]
fn what_is_damaged_is_dropped_and_what_is_no_tag_is_told_once() {
    let mut film = film();
    let long = [&b"ID3"[..], &[1; 500]].concat();
    film.mux.pes(I, 0xbd, Some(Stamp { pts: 0, dts: None, bounded: true }), &long);
    film.mux.packets.remove(film.mux.packets.len() - 2);
    for _ in 0..2 {
        film.mux.pes(I, 0xbd, Some(Stamp { pts: 0, dts: None, bounded: true }), b"no tag");
    }
    let too_long = [&b"ID3"[..], &vec![1; MESSAGE_LEN_MAX]].concat();
    film.mux.pes(I, 0xbd, Some(Stamp { pts: 0, dts: None, bounded: false }), &too_long);
    film.mux.pes(I, 0xbd, Some(Stamp { pts: 9, dts: None, bounded: true }), &long);
    let mut damaged = insert(7, 90_000, None);
    damaged[20] ^= 1;
    film.mux.section(S, &damaged);
    let mut cut = vec![0xfc, 0x30, 7, 0, 0, 0];
    cut.extend(crate::model::crc32::crc32(&cut).to_be_bytes());
    film.mux.section(S, &cut);
    let (outputs, stats) = demuxed([film.mux.bytes()]);
    let told: Vec<String> = outputs
        .iter()
        .filter_map(|output| if let Output::Diagnostic(event) = output { Some(event.to_string()) } else { None })
        .collect();
    assert_eq!(
        told,
        ["PID 259: a message has no ID3 tag, or a very long one", "PID 260: can't read a splice_info_section"]
    );
    assert_eq!(messages(outputs), [(Scheme::Id3, Some(9), None, long.into())]);
    assert_eq!((stats.bad_sections, stats.continuity_errors), (1, 1));
}

#[test]
fn a_program_of_metadata_alone_cant_be_played() {
    let mut film = Film::default();
    film.mux.pat(&[(1, PMT)]);
    film.mux.pmt_described(PMT, 1, 0, &[(0x15, I, ID3), (0x86, S, &[]), (0x15, 0x105, &[])]);
    let (outputs, _) = demuxed([film.mux.bytes()]);
    let refused = |output: &Output| matches!(output, Output::Diagnostic(TsDiagnostic::Refused { pid: 0x105, .. }));
    assert!(outputs.iter().any(refused) && outputs.contains(&Output::Diagnostic(TsDiagnostic::Nothing { number: 1 })));
}
