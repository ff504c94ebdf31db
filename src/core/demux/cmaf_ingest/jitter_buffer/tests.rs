use bytes::Bytes;

use super::*;
use crate::model::{InputTrack, Scheme};

fn unit(ms: i64) -> Item {
    let data = Bytes::from_static(&[0; 100]);
    Item::Unit(ms * 90, AccessUnit { track: InputTrack(0), dts: 0, composition_offset: 0, keyframe: true, data })
}

fn at(ms: u64) -> Time {
    Time::from_millis(10_000 + ms)
}

struct Player {
    buffer: JitterBuffer,
    /// Track, decode time and when it was handed on, in milliseconds.
    played: Vec<(usize, i64, u64)>,
    now: Time,
}

impl Player {
    fn new(queues: usize) -> Self {
        let mut buffer = JitterBuffer::default();
        (0..queues).for_each(|_| _ = buffer.open());
        Player { buffer, played: Vec::new(), now: at(0) }
    }

    /// Plays what is due up to then.
    fn until(&mut self, ms: u64) -> &mut Self {
        let mut now = self.now;
        while let Some(due) = self.buffer.due(now).filter(|&due| due <= at(ms)) {
            now = now.max(due);
            let (id, item) = self.buffer.pop(now).expect("it is due");
            if let Item::Unit(dts, _) = item {
                self.played.push((id.0, dts / 90, now.since(at(0)).as_millis() as u64));
            }
        }
        self.now = now.max(at(ms));
        self
    }

    /// A segment of 100 ms steps comes at once.
    fn segment(&mut self, ms: u64, queue: usize, times: std::ops::Range<i64>) -> Vec<Pushed> {
        self.until(ms);
        times.step_by(100).map(|time| self.buffer.push(QueueId(queue), at(ms), unit(time))).collect()
    }
}

#[test]
fn bursts_are_spread_and_lateness_is_remembered() {
    let mut player = Player::new(1);
    player.segment(0, 0, 5_000..7_000);
    // The next ones are late by 50 and by 80 ms.
    player.segment(2_050, 0, 7_000..9_000);
    player.segment(4_080, 0, 9_000..11_000);
    player.segment(6_050, 0, 11_000..13_000);
    player.until(20_000);
    let late = |n: usize| player.played[n].2 as i64 - (player.played[n].1 - 5_000);
    assert_eq!((late(0), late(19), late(20), late(39), late(40), late(79)), (0, 0, 50, 50, 80, 80));
}

#[test]
fn tracks_are_put_in_order_whoever_comes_first() {
    let mut player = Player::new(2);
    player.segment(0, 0, 0..2_000);
    assert!(player.until(900).played.is_empty(), "the other one is waited for");
    player.segment(1_000, 1, 0..2_000);
    player.segment(2_000, 0, 2_000..4_000);
    player.segment(3_000, 1, 2_000..4_000);
    player.until(9_000);
    let times: Vec<i64> = player.played.iter().map(|(_, time, _)| *time).collect();
    assert!(times.is_sorted() && times.len() == 80, "{times:?}");
    assert_eq!(player.played[79].2, 4_900);
    // Playout doesn't wait for ever for a track that never comes.
    let mut player = Player::new(2);
    player.segment(0, 0, 0..200);
    assert_eq!(player.until(9_000).played, [(0, 0, 3_000), (0, 100, 3_100)]);
}

#[test]
fn headers_go_first_and_hold_nothing_up() {
    let mut player = Player::new(2);
    for queue in 0..2 {
        player.buffer.push(QueueId(queue), at(0), Item::Config(CodecConfig::Aac(Bytes::new())));
        player.segment(0, queue, 0..200);
    }
    let first = [player.buffer.pop(at(0)), player.buffer.pop(at(0))];
    assert!(first.iter().all(|popped| matches!(popped, Some((_, Item::Config(_))))), "{first:?}");
    assert_eq!(player.until(9_000).played, [(0, 0, 0), (1, 0, 0), (0, 100, 100), (1, 100, 100)]);
}

#[test]
fn of_headers_alone_the_newest_are_kept() {
    let mut player = Player::new(1);
    let config = |n: u8| Item::Config(CodecConfig::Aac(vec![n; 1_000].into()));
    player.segment(0, 0, 0..200);
    player.until(1_000);
    assert_eq!((player.played.len(), player.buffer.held), (2, 0));
    for n in 0..100 {
        assert!(player.buffer.has_room(QueueId(0)));
        player.buffer.push(QueueId(0), at(1_000), config(n));
        // A track that pauses in between makes no difference.
        player.buffer.message(Some(QueueId(0)), at(1_000), 9_000, i64::from(n), message("12345"));
    }
    let there = player.buffer.queues[0].items.iter().filter(|queued| matches!(queued.item, Item::Config(_)));
    assert!(there.map(|queued| &queued.item).eq([&config(99)]));
    player.segment(1_000, 0, 200..300);
    player.buffer.push(QueueId(0), at(1_000), config(100));
    let handed = handed_on(&mut player.buffer, 9_000);
    let headers: Vec<usize> = (0..handed.len()).filter(|&n| handed[n].1 == "config").collect();
    assert_eq!((headers, handed.last()), (vec![0], Some(&(0, "200".to_owned(), 1_000))));
    player.segment(1_000, 0, 300..400);
    player.until(9_000);
    assert_eq!(player.buffer.held, 0);
}

#[test]
fn a_file_is_held_up() {
    let mut player = Player::new(1);
    let mut time = 0;
    while player.buffer.has_room(QueueId(0)) {
        player.buffer.push(QueueId(0), at(0), unit(time));
        time += 100;
    }
    assert_eq!(time, 15_100);
    player.until(1_000);
    assert!(player.buffer.has_room(QueueId(0)));
    // It is no reason to go faster.
    player.segment(14_000, 0, 15_100..16_000);
    player.until(60_000);
    assert!(player.played.iter().all(|(_, time, played)| *time == *played as i64));
}

#[test]
fn what_has_come_is_dropped_and_a_new_beginning_is_not() {
    let mut player = Player::new(2);
    let repeated = |pushed: Vec<Pushed>| pushed.iter().filter(|pushed| **pushed == Pushed::Repeated).count();
    player.segment(0, 0, 0..2_000);
    assert_eq!(repeated(player.segment(100, 0, 0..2_000)), 20);
    player.segment(100, 1, 0..2_000);
    assert_eq!(repeated(player.segment(2_000, 0, 1_000..3_000)), 10);
    player.segment(2_000, 1, 2_000..3_000);
    player.segment(3_000, 0, 3_000..6_000);
    player.segment(3_000, 1, 3_000..6_000);
    // Killed, and begun anew from 0.
    player.until(8_000);
    let pushed = player.segment(8_000, 0, 0..1_000);
    assert_eq!((pushed[0], pushed[1]), (Pushed::Jumped, Pushed::Taken));
    let pushed = player.segment(8_300, 1, 0..1_000);
    assert_eq!((pushed[0], pushed[1]), (Pushed::Jumped, Pushed::Taken));
    player.until(20_000);
    assert_eq!(player.played.len(), 2 * 70);
    assert_eq!(player.played.iter().map(|(.., played)| *played).max(), Some(9_200));
}

#[test]
fn two_segments_may_come_in_either_order() {
    let mut player = Player::new(1);
    player.segment(0, 0, 0..1_000);
    player.segment(500, 0, 2_000..3_000);
    assert!(player.segment(500, 0, 1_000..2_000).iter().all(|pushed| *pushed == Pushed::Taken));
    // Units with times between those that came count as repeated.
    assert!(player.segment(500, 0, 1_020..2_000).iter().all(|pushed| *pushed == Pushed::Repeated));
    player.until(9_000);
    assert!(player.played.iter().map(|(_, time, _)| *time).eq((0..3_000).step_by(100)), "{:?}", player.played);
}

#[test]
fn after_an_outage_what_comes_is_played_from_then_on() {
    let mut player = Player::new(2);
    for queue in 0..2 {
        player.segment(0, queue, 0..1_000);
    }
    // Nothing comes for 20 s; then everything that was held up comes at once.
    for queue in 0..2 {
        player.segment(21_000, queue, 1_000..9_000);
    }
    player.until(60_000);
    let after: Vec<_> = player.played.iter().filter(|(_, time, _)| *time >= 1_000).collect();
    assert!(after.iter().all(|(_, time, played)| *played as i64 == time + 20_000), "{after:?}");
    // In real time again, 8 s early: playout catches up.
    for second in 9..400 {
        for queue in 0..2 {
            player.segment(13_000 + second * 1_000, queue, second as i64 * 1_000..second as i64 * 1_000 + 1_000);
        }
    }
    player.until(900_000);
    let (_, time, played) = player.played.last().expect("many");
    assert!((*played as i64 - time - 13_000).abs() < 1_300, "{time} was played at {played}");
    assert!(player.played.windows(2).all(|pair| pair[0].2 <= pair[1].2));
}

/// Returns the longest lag of the second track behind the first, by play time; the second track's times begin at `first`.
fn lag(player: &Player, first: i64) -> i64 {
    let of = |queue: usize| player.played.iter().filter(move |played| played.0 == queue);
    let (a, b): (Vec<_>, Vec<_>) = (of(0).collect(), of(1).collect());
    assert!(a.len() == b.len() && a.windows(2).chain(b.windows(2)).all(|pair| pair[0].1 < pair[1].1), "{a:?} {b:?}");
    let apart =
        a.iter().zip(&b).map(|((_, a, at), (_, b, beside))| (b - a).abs().max((*beside as i64 - *at as i64).abs()));
    assert!(b.first().is_some_and(|(_, time, _)| (time - first).abs() < 1_000), "{b:?}");
    apart.max().expect("some")
}

#[test]
fn queues_hours_apart_are_played_side_by_side() {
    for (hours, late) in [(5, 0), (-5, 0), (5, 3_300), (-5, 3_300)] {
        // By one request, a unit of each at a time; one of them may begin when the other is played already.
        let mut player = Player::new(2);
        let off = hours * 3_600_000;
        for ms in (0..60_000).step_by(100) {
            for (queue, times) in [(0, ms..ms + 1), (1, off + ms..off + ms + 1)] {
                if queue == 0 || ms >= late {
                    player.until(ms as u64);
                    assert!(player.buffer.has_room(QueueId(queue)), "{hours} h: {queue} at {ms} ms");
                    let pushed = player.segment(ms as u64, queue, times);
                    assert_eq!(pushed[0] == Pushed::Apart, queue == 1 && ms == late, "{hours} h, {ms} ms");
                }
            }
        }
        assert_eq!(player.buffer.shift(QueueId(1)), Duration::from_secs(5 * 3_600));
        player.until(70_000);
        player.played.retain(|(_, time, _)| *time >= late);
        assert!(lag(&player, late) <= 100, "{hours} h: {:?}", player.played);
        assert_eq!(player.buffer.last(QueueId(1)), Some((off + 59_900) * 90), "by its own clock");
    }
    // In segments.
    let mut player = Player::new(2);
    for ms in (0..60_000).step_by(2_000) {
        player.segment(ms as u64, 0, ms..ms + 2_000);
        player.segment(ms as u64 + 300, 1, 7_200_000 + ms..7_202_000 + ms);
    }
    // Messages go by their track's clock.
    player.buffer.message(Some(QueueId(1)), at(58_300), 7_259_000 * 90, 7_259_500 * 90, message("own"));
    let handed = handed_on(&mut player.buffer, 90_000);
    assert!(handed.iter().any(|(queue, what, _)| *queue == 1 && what == "own@59800"), "{handed:?}");
    player.until(90_000);
    assert!(player.played.iter().all(|(queue, time, _)| *time < 60_000 + 300 * *queue as i64));
}

#[test]
fn queues_hours_apart_begin_anew_together() {
    for first in [0, 1] {
        let mut player = Player::new(2);
        player.segment(0, 0, 100_000..104_000);
        player.segment(0, 1, 7_300_000..7_304_000);
        // They have one clock now, whichever came first, or still two.
        for (from, off) in [(10_000, 0), (20_000, 3_600_000)] {
            for queue in [first, 1 - first] {
                let time = if from == 20_000 { 500_000 } else { 0 } + off * queue as i64;
                player.segment(from + 100 * queue as u64, queue, time..time + 4_000);
            }
        }
        player.until(60_000);
        for from in [0, 10_000, 20_000] {
            let of = |of: usize| {
                player
                    .played
                    .iter()
                    .filter(move |(queue, _, played)| *queue == of && (from..from + 9_000).contains(played))
            };
            assert_eq!((of(0).count(), of(1).count()), (40, 40), "{first} first, from {from}");
            let off = of(0)
                .zip(of(1))
                .map(|((_, a, at), (_, b, beside))| (b - a).abs().max((*beside as i64 - *at as i64).abs()));
            assert!(off.clone().max() <= Some(300), "{first} first, from {from}: {:?}", off.max());
        }
    }
}

#[test]
fn a_queue_that_knows_of_the_jump_first_is_put_there_with_the_others() {
    let mut player = Player::new(2);
    player.buffer.close(QueueId(1));
    player.segment(0, 0, 3_600_000..3_602_000);
    // The encoder begins anew, with sound this time.
    assert_eq!(player.segment(5_000, 1, 0..1_000)[0], Pushed::Apart);
    assert_eq!(player.segment(5_100, 0, 0..1_000)[0], Pushed::Jumped);
    let pushed = player.segment(6_000, 1, 1_000..2_000);
    assert_eq!((pushed[0], pushed[1]), (Pushed::Jumped, Pushed::Taken));
    player.segment(6_100, 0, 1_000..2_000);
    player.until(20_000);
    assert_eq!((player.played.len(), player.buffer.shift(QueueId(1))), (60, Duration::ZERO));
    let ends: Vec<i64> = player.played[58..].iter().map(|(_, time, _)| *time).collect();
    assert_eq!(ends, [1_900, 1_900]);
}

#[test]
fn one_queue_that_was_held_up_holds_up_no_other() {
    let mut player = Player::new(2);
    for ms in (0..60_000).step_by(100) {
        player.segment(ms as u64, 0, ms..ms + 1);
        // Nothing for twenty seconds, and then all of it.
        match ms {
            ..10_000 | 30_100.. => _ = player.segment(ms as u64, 1, ms..ms + 1),
            30_000 => _ = player.segment(30_000, 1, 10_000..30_001),
            _ => {}
        }
    }
    player.until(70_000);
    let late = player.played.iter().filter(|(queue, ..)| *queue == 0).map(|(_, time, played)| *played as i64 - time);
    // As a track is waited for.
    assert_eq!((late.max(), player.played.len()), (Some(3_000), 1_200));
}

#[test]
fn what_is_late_by_more_than_was_silent_is_waited_for_all_the_same() {
    let mut player = Player::new(2);
    // The second track breaks off later than the first one, and both go on later by the same.
    let late = |queue: usize, ms: i64| if ms > [8_200, 10_000][queue] { 4_200 } else { 0 };
    for now in (0..40_000).step_by(100) {
        for queue in 0..2 {
            for ms in [now, now - 4_200].into_iter().filter(|&ms| ms >= 0 && ms + late(queue, ms) == now) {
                player.segment(now as u64, queue, ms..ms + 1);
            }
        }
    }
    assert!(player.buffer.queues.iter().all(|queue| queue.late.is_zero()), "{:?}", player.buffer.queues);
}

fn message(text: &'static str) -> TimedMessage {
    let data = Bytes::from_static(text.as_bytes());
    TimedMessage { track: InputTrack(0), scheme: Scheme::Id3, pts: None, duration: None, data }
}

/// Messages and units as they are handed on: track, text or time, and when, in milliseconds.
fn handed_on(buffer: &mut JitterBuffer, until: u64) -> Vec<(usize, String, u64)> {
    let (mut out, mut now) = (Vec::new(), at(0));
    while let Some(due) = buffer.due(now).filter(|&due| due <= at(until)) {
        now = now.max(due);
        let (id, item) = buffer.pop(now).expect("it is due");
        let what = match item {
            Item::Config(_) => "config".to_owned(),
            Item::Unit(dts, _) => (dts / 90).to_string(),
            Item::Message(pts, message) => format!("{}@{}", String::from_utf8_lossy(&message.data), pts / 90),
        };
        out.push((id.0, what, now.since(at(0)).as_millis() as u64));
    }
    out
}

/// Returns the messages that were handed on between two units, and these units.
fn between(handed: &[(usize, String, u64)], text: &str) -> (String, String) {
    let of = |n: usize| handed.get(n).map_or(String::new(), |(_, what, _)| what.clone());
    let n =
        handed.iter().position(|(_, what, _)| what.starts_with(text)).unwrap_or_else(|| panic!("{text}: {handed:?}"));
    (of(n.wrapping_sub(1)), of(n + 1))
}

#[test]
fn messages_go_with_their_units_at_their_pace() {
    let mut player = Player::new(1);
    let queue = Some(QueueId(0));
    player.segment(0, 0, 0..1_000);
    // Where they stand counts, and not when they are meant.
    player.buffer.message(queue, at(0), 500 * 90, 30_000 * 90, message("b"));
    player.buffer.message(queue, at(0), 250 * 90, 250 * 90, message("a"));
    player.buffer.message(queue, at(0), 500 * 90, 400 * 90, message("c"));
    player.buffer.message(queue, at(0), -90, -90, message("first"));
    let handed = handed_on(&mut player.buffer, 9_000);
    let near = |text: &str| between(&handed, text);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(near("a@250"), pair("200", "300"));
    assert_eq!((near("b@30000"), near("c@400")), (pair("500", "c@400"), pair("b@30000", "600")));
    assert_eq!(near("first"), pair("0", "100"));
    let when: Vec<u64> = handed.iter().filter(|(_, what, _)| what.contains('@')).map(|(.., when)| *when).collect();
    assert_eq!(when, [0, 200, 500, 500]);
    // All have been played: it goes on at once.
    player.buffer.message(queue, at(2_000), 900 * 90, 900 * 90, message("late"));
    assert_eq!(handed_on(&mut player.buffer, 2_000).len(), 1);
}

#[test]
fn messages_of_their_own_requests_wait_for_units_of_their_time() {
    let mut player = Player::new(2);
    // Before anything else has come: with the first unit near it, since it may be meant for later; and of a time that is far off.
    player.buffer.message(None, at(0), 100 * 90, 100 * 90, message("early"));
    player.buffer.message(None, at(0), 12_100 * 90, 12_100 * 90, message("far"));
    assert_eq!(player.buffer.due(at(0)), None, "they don't begin a stream");
    for queue in 0..2 {
        player.segment(0, queue, 0..1_000);
    }
    player.buffer.message(None, at(0), 700 * 90, 700 * 90, message("beside"));
    let handed = handed_on(&mut player.buffer, 1_000);
    assert!(handed.iter().all(|(queue, what, _)| *queue == 0 || !what.contains('@')), "the first queue's: {handed:?}");
    assert_eq!((between(&handed, "early").0, between(&handed, "beside").0), ("0".to_owned(), "700".to_owned()));
    assert!(!handed.iter().any(|(_, what, _)| what.starts_with("far")));
    // After a jump, that is where they are.
    for (queue, time) in [1, 0].into_iter().flat_map(|queue| [12_000, 12_100, 12_200].map(|time| (queue, time))) {
        player.buffer.push(QueueId(queue), at(1_000), unit(time));
    }
    let handed = handed_on(&mut player.buffer, 9_000);
    assert_eq!(between(&handed, "far@12100").0, "12000", "{handed:?}");
}

#[test]
fn messages_without_a_queue_go_with_the_leader_while_it_comes() {
    let queues_of = |player: &mut Player| -> Vec<usize> {
        let handed = handed_on(&mut player.buffer, 60_000).into_iter();
        handed.filter(|(_, what, _)| what.contains('@')).map(|(queue, ..)| queue).collect()
    };
    let say = |player: &mut Player, ms: i64| player.buffer.message(None, player.now, ms * 90, ms * 90, message("x"));
    let mut player = Player::new(2);
    player.buffer.lead(QueueId(1));
    say(&mut player, 100);
    player.segment(0, 0, 0..1_000);
    say(&mut player, 200);
    player.segment(500, 1, 0..1_000);
    say(&mut player, 300);
    assert_eq!(queues_of(&mut player), [1, 1, 1]);
    // It doesn't come, or no more.
    let mut player = Player::new(2);
    player.buffer.lead(QueueId(1));
    say(&mut player, 100);
    player.segment(0, 0, 0..1_000);
    player.segment(3_000, 0, 1_000..2_000);
    assert_eq!(queues_of(&mut player), [0]);
    player.buffer.close(QueueId(1));
    say(&mut player, 900);
    assert_eq!(queues_of(&mut player), [0]);
}

#[test]
fn what_is_said_again_goes_on_once_and_never_before_a_jump() {
    let mut player = Player::new(1);
    let queue = Some(QueueId(0));
    player.segment(0, 0, 0..1_000);
    let say =
        |player: &mut Player, time: i64, text| player.buffer.message(queue, at(0), time * 90, time * 90, message(text));
    assert_eq!(say(&mut player, 500, "a"), Pushed::Taken);
    assert_eq!(say(&mut player, 500, "a"), Pushed::Repeated);
    assert_eq!(say(&mut player, 500, "b"), Pushed::Taken);
    // The encoder begins anew while the old units are still to be played.
    player.segment(0, 0, 100_000..100_500);
    assert_eq!(say(&mut player, 100_000, "new"), Pushed::Taken);
    assert_eq!(say(&mut player, 100_600, "ahead"), Pushed::Taken);
    let handed = handed_on(&mut player.buffer, 9_000);
    assert_eq!((between(&handed, "b").1.as_str(), between(&handed, "new").0.as_str()), ("600", "100000"));
    assert_eq!(between(&handed, "ahead").0, "100400");
}

#[test]
fn messages_are_bounded_in_bytes_and_what_is_lost_is_counted() {
    // A tag a frame, of a long segment.
    let mut player = Player::new(1);
    let queue = Some(QueueId(0));
    player.segment(0, 0, 0..6_000);
    let long = Bytes::from(vec![0; 1_000]);
    for time in 0..360 {
        let message = TimedMessage { data: long.clone(), ..message("") };
        assert_eq!(player.buffer.message(queue, at(0), time * 1_500, time, message), Pushed::Taken);
    }
    assert_eq!(player.buffer.lost(), 0);
    let messages = handed_on(&mut player.buffer, 9_000).iter().filter(|(_, what, _)| what.contains('@')).count();
    assert_eq!((messages, player.buffer.queues[0].messages_len), (360, 0));
    // Messages among the units count, and so do waiting messages.
    let mut player = Player::new(1);
    player.segment(0, 0, 0..1_000);
    let (held, each) = (player.buffer.held, size_of::<Queued>() + 1_000);
    for time in 0..2_000 {
        let message = TimedMessage { data: long.clone(), ..message("") };
        player.buffer.message(queue, at(0), time, time, message.clone());
        player.buffer.message(None, at(0), i64::MAX - time, time, message);
    }
    let (among, waiting) = (QUEUE_MESSAGES_LEN_MAX / each, WAITING_LEN_MAX / each);
    assert_eq!((player.buffer.held, player.buffer.queues[0].messages_len), (held + each * among, each * among));
    assert_eq!((player.buffer.waiting.len(), player.buffer.waiting_len()), (waiting, each * waiting));
    assert_eq!((player.buffer.lost(), player.buffer.lost()), (4_000 - (among + waiting) as u64, 0));
    assert_eq!(player.buffer.known.len(), KNOWN_MAX);
    handed_on(&mut player.buffer, 9_000);
    assert_eq!((player.buffer.held, player.buffer.queues[0].messages_len), (0, 0));
}

#[test]
fn messages_dont_wait_for_ever() {
    let mut player = Player::new(1);
    let ahead = |player: &mut Player, now: u64, ms: i64| {
        player.buffer.message(None, at(now), ms * 90, ms * 90, message("ahead"));
        player.buffer.waiting.len()
    };
    player.segment(0, 0, 3_600_000..3_601_000);
    assert_eq!((ahead(&mut player, 0, 3_620_000), ahead(&mut player, 0, 12_000)), (1, 2));
    // The encoder begins anew, and an hour later is where the message was meant for.
    player.segment(1_000, 0, 0..1_000);
    assert_eq!((player.buffer.waiting.len(), player.buffer.lost()), (1, 1), "the one of its new time waits on");
    // A message that no unit comes near to is dropped, too.
    player.segment(20_000, 0, 1_000..1_900);
    assert_eq!((player.buffer.waiting.len(), player.buffer.lost()), (1, 0));
    player.segment(26_000, 0, 1_900..2_000);
    assert_eq!((player.buffer.waiting.len(), player.buffer.waiting_len(), player.buffer.lost()), (0, 0, 1));
}
