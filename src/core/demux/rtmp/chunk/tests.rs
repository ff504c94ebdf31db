use proptest::prelude::*;

use super::*;

const LEN_MAX: usize = 1 << 20;

fn video(timestamp: u32, payload: impl Into<Bytes>) -> Message {
    Message { kind: 9, stream: 1, timestamp, payload: payload.into() }
}

/// A chunk header: `fields` are timestamp, length and type, as far as `fmt` has them.
fn header(fmt: u8, csid: u8, timestamp: u32, len: u32) -> Vec<u8> {
    let mut out = vec![fmt << 6 | csid];
    if fmt < 3 {
        out.extend(&timestamp.min(0xff_ffff).to_be_bytes()[1..]);
    }
    if fmt < 2 {
        out.extend(&len.to_be_bytes()[1..]);
        out.push(9);
    }
    if fmt == 0 {
        out.extend([1, 0, 0, 0]);
    }
    if fmt < 3 && timestamp >= 0xff_ffff {
        out.extend(timestamp.to_be_bytes());
    }
    out
}

fn read(dechunker: &mut Dechunker, bytes: &[u8], piece: usize) -> Result<Vec<Message>, ChunkError> {
    let mut out = Vec::new();
    for mut piece in bytes.chunks(piece.max(1)) {
        while let Some(message) = dechunker.next(&mut piece)? {
            out.push(message);
        }
    }
    Ok(out)
}

/// The same, however the bytes are cut.
fn check(bytes: &[u8], expect: &[Message]) {
    for piece in [1, 2, 3, 5, 130, usize::MAX] {
        let got = read(&mut Dechunker::new(LEN_MAX, 0), bytes, piece);
        assert_eq!(got.as_deref(), Ok(expect), "in pieces of {piece}");
    }
}

fn check_error(bytes: &[u8], expect: &str) {
    for piece in [1, 7, usize::MAX] {
        let got = read(&mut Dechunker::new(LEN_MAX, 0), bytes, piece).expect_err("a fault");
        assert_eq!(got.to_string(), expect, "in pieces of {piece}");
    }
}

#[test]
fn the_four_header_types() {
    let bytes =
        [header(0, 6, 100, 1), vec![1], header(1, 6, 20, 2), vec![2, 2], header(2, 6, 30, 0), vec![3, 3]].concat();
    // A type 3 chunk that begins a message repeats the delta.
    let bytes = [bytes, header(3, 6, 0, 0), vec![4, 4]].concat();
    check(
        &bytes,
        &[
            video(100, [1].to_vec()),
            video(120, [2; 2].to_vec()),
            video(150, [3; 2].to_vec()),
            video(180, [4; 2].to_vec()),
        ],
    );
}

#[test]
fn chunk_stream_ids_of_two_and_three_bytes() {
    let rest = &header(0, 2, 5, 1)[1..];
    let bytes =
        [&[0, 0][..], rest, &[1], &[1, 1, 0], rest, &[2], &[1, 255, 255], rest, &[3], &[0xc0, 0, 4], &[0xc0, 1, 5]];
    // Ids 64 (two bytes), 65 (three bytes, and later two) and 65,599.
    let got = [(5, 1), (5, 2), (5, 3), (10, 4), (10, 5)];
    check(&bytes.concat(), &got.map(|(timestamp, byte)| video(timestamp, vec![byte])));
}

#[test]
fn messages_of_two_chunk_streams_interleave() {
    let audio = [header(0, 4, 8, 10), vec![7; 10]].concat();
    let bytes = [header(0, 6, 9, 300), vec![1; 128], audio, vec![0xc6], vec![1; 128], vec![0xc6], vec![1; 44]].concat();
    check(&bytes, &[video(8, vec![7; 10]), video(9, vec![1; 300])]);
}

#[test]
fn extended_timestamps_repeat_on_type_3_chunks() {
    for timestamp in [0xff_ffff, 0x100_0000, u32::MAX] {
        let ext = timestamp.to_be_bytes().to_vec();
        let bytes = [
            header(0, 6, timestamp, 300),
            vec![1; 128],
            vec![0xc6],
            ext.clone(),
            vec![1; 128],
            vec![0xc6],
            ext,
            vec![1; 44],
        ];
        check(&bytes.concat(), &[video(timestamp, vec![1; 300])]);
        // Encoders that leave it out, and continue with the payload.
        let bytes = [header(0, 6, timestamp, 300), vec![1; 128], vec![0xc6], vec![1; 128], vec![0xc6], vec![1; 44]];
        check(&bytes.concat(), &[video(timestamp, vec![1; 300])]);
    }
}

#[test]
fn a_left_out_extended_timestamp_and_a_message_shorter_than_one() {
    // The two bytes that are left and the next chunk's header look like a timestamp for a moment.
    let first = [header(0, 6, 0x100_0000, 130), vec![1; 128], vec![0xc6], vec![1; 2]].concat();
    check(&[first, header(0, 4, 7, 1), vec![9]].concat(), &[video(0x100_0000, vec![1; 130]), video(7, vec![9])]);
}

#[test]
fn extended_deltas_are_deltas() {
    let ext = 0x100_0000_u32.to_be_bytes().to_vec();
    let bytes =
        [header(0, 6, 5, 1), vec![1], header(1, 6, 0x100_0000, 1), vec![2], header(2, 6, 0x100_0000, 0), vec![3]];
    let bytes = [bytes.concat(), vec![0xc6], ext, vec![4]].concat();
    let at = |n: u32| 5 + n * 0x100_0000;
    check(&bytes, &[video(5, vec![1]), video(at(1), vec![2]), video(at(2), vec![3]), video(at(3), vec![4])]);
}

#[test]
fn timestamps_wrap_at_32_bits() {
    let bytes = [
        header(0, 6, 0xffff_fff0, 1),
        vec![1],
        header(1, 6, 0x20, 1),
        vec![2],
        header(2, 6, 0x20, 0),
        vec![3],
        vec![0xc6, 4],
    ];
    check(
        &bytes.concat(),
        &[video(0xffff_fff0, vec![1]), video(0x10, vec![2]), video(0x30, vec![3]), video(0x50, vec![4])],
    );
}

#[test]
fn the_chunk_size_may_change_within_a_message() {
    let mut dechunker = Dechunker::new(LEN_MAX, 0);
    let first = [header(0, 6, 0, 400), vec![1; 128], header(0, 2, 0, 1), vec![9]].concat();
    assert_eq!(read(&mut dechunker, &first, 1).map(|messages| messages.len()), Ok(1));
    dechunker.set_chunk_size(0x7fff_ffff).expect("allowed");
    let rest = [vec![0xc6], vec![1; 272]].concat();
    assert_eq!(read(&mut dechunker, &rest, usize::MAX), Ok(vec![video(0, vec![1; 400])]));
}

#[test]
fn an_aborted_message_is_forgotten() {
    let mut dechunker = Dechunker::new(LEN_MAX, 0);
    assert_eq!(read(&mut dechunker, &[header(0, 6, 0, 400), vec![1; 128]].concat(), 50), Ok(vec![]));
    dechunker.abort(6);
    dechunker.abort(7);
    assert_eq!(read(&mut dechunker, &[header(0, 6, 3, 1), vec![2]].concat(), 50), Ok(vec![video(3, vec![2])]));
}

#[test]
fn faults_say_where() {
    let whole = [header(0, 6, 0, 1), vec![1]].concat();
    check_error(
        &[&whole[..], &[0xc7]].concat(),
        "byte 13: chunk stream 7 begins with a type 3 header, which needs an earlier header",
    );
    check_error(&[0x87], "byte 0: chunk stream 7 begins with a type 2 header, which needs an earlier header");
    let unfinished = [header(0, 6, 0, 200), vec![1; 128], header(1, 6, 0, 1)].concat();
    check_error(&unfinished, "byte 140: chunk stream 6 begins a message, but the last one lacks 72 bytes");
    check_error(&header(0, 6, 0, LEN_MAX as u32 + 1), "byte 0: the message has 1048577 bytes; the limit is 1048576");
    let streams: Vec<u8> = (2..64).flat_map(|csid| [header(0, csid, 0, 1), vec![1]].concat()).collect();
    let more: Vec<u8> = (0..3).flat_map(|n| [&[0, n], &header(0, 2, 0, 1)[1..], &[1]].concat()).collect();
    check_error(&[streams, more].concat(), "byte 834: more than 64 chunk streams");
}

#[test]
fn a_chunk_size_out_of_range_is_a_fault() {
    for size in [0, 0x8000_0000] {
        assert!(Dechunker::new(LEN_MAX, 0).set_chunk_size(size).is_err(), "{size}");
    }
}

#[test]
fn unfinished_messages_are_bounded_together() {
    let mut dechunker = Dechunker::new(1_000, 0);
    dechunker.set_chunk_size(900).expect("allowed");
    let begun = |csid| [header(0, csid, 0, 1_000), vec![1; 900]].concat();
    let got = read(&mut dechunker, &[begun(4), begun(5), begun(6)].concat(), 100).expect_err("too much");
    assert_eq!(got.what, "unfinished messages exceed 2000 bytes");
}

fn any_message() -> impl Strategy<Value = (u8, Message)> {
    let timestamp = prop_oneof![any::<u32>(), 0xff_fff0..0x100_000f_u32, 0xffff_fff0..=u32::MAX];
    (2_u8..64, any::<u8>(), any::<u32>(), timestamp, prop::collection::vec(any::<u8>(), 0..400)).prop_map(
        |(csid, kind, stream, timestamp, payload)| (csid, Message { kind, stream, timestamp, payload: payload.into() }),
    )
}

proptest! {
    #[test]
    fn messages_survive_any_cut(messages in prop::collection::vec(any_message(), 0..8), piece in 1_usize..200) {
        let mut bytes = BytesMut::new();
        for (csid, message) in &messages {
            put_message(&mut bytes, *csid, message, CHUNK_SIZE_INITIAL);
        }
        let got = read(&mut Dechunker::new(LEN_MAX, 0), &bytes, piece);
        prop_assert_eq!(got, Ok(messages.into_iter().map(|(_, message)| message).collect::<Vec<_>>()));
    }

    #[test]
    fn rubbish_gives_the_same_however_it_is_cut(
        messages in prop::collection::vec(any_message(), 0..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9),
        piece in 1_usize..50,
    ) {
        let mut bytes = BytesMut::from(&b"\x03"[..]);
        for (csid, message) in &messages {
            put_message(&mut bytes, *csid, message, CHUNK_SIZE_INITIAL);
        }
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = read(&mut Dechunker::new(600, 0), &bytes, usize::MAX);
        prop_assert_eq!(read(&mut Dechunker::new(600, 0), &bytes, piece), whole);
    }
}
