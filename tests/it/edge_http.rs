//! The edge over real sockets, with a made-up stream.

mod ends;

use std::time::Duration;

use damson::clock;
use damson_core::model::{NodeId, Peer, StreamName};
use damson_core::swarm::Entry;
use damson_core::testing::synthetic;
use damson_core::testing::synthetic::{AUDIO, FIRST_MSN, PARTS, VIDEO};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::edge_server::{LEN, NOW, PLAYLIST, Response, Server, body};

#[tokio::test]
async fn a_blocking_reload_is_answered_by_the_part_it_asks_for() {
    let (server, record) = Server::live(3).await;
    let mut waiting = server.held(&format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=4")).await;
    server.part(&record, VIDEO, NOW, 3);
    assert_eq!(server.edge.store().waiting(), 1, "part 3 isn't what it asks for");
    server.part(&record, VIDEO, NOW, 4);
    let answer = waiting.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "max-age=12");
    assert!(answer.text().contains(&format!("URI=\"{NOW}.4.m4s\"")), "{}", answer.text());
    assert!(answer.text().contains(&format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{NOW}.5.m4s\"")));
}

#[tokio::test]
async fn a_part_past_the_segments_end_is_the_next_segments_first() {
    let (server, record) = Server::live(9).await;
    let past_end = format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=10");
    let mut waiting = server.held(&past_end).await;
    server.part(&record, VIDEO, NOW, 9);
    assert_eq!(server.edge.store().waiting(), 1);
    let mut second = server.held(&past_end).await;
    server.part(&record, VIDEO, NOW + 1, 0);
    for client in [&mut waiting, &mut second] {
        assert!(client.answer().await.text().contains(&format!("URI=\"{}.0.m4s\"", NOW + 1)));
    }
}

#[tokio::test]
async fn directives_are_answered_as_the_rfc_says() {
    let (server, record) = Server::live(3).await;
    let check = async |query: String, status: u16, lifetime: &str| {
        let response = server.get(&format!("{PLAYLIST}?{query}")).await;
        assert_eq!(response.status, status, "{query}: {}", response.text());
        assert_eq!(response.header("cache-control"), lifetime, "{query}");
    };
    // A malformed request is rejected before its stream is looked up, so it has no TARGETDURATION.
    check("_HLS_part=1".to_owned(), 400, "max-age=1").await;
    check("_HLS_msn=x".to_owned(), 400, "max-age=1").await;
    // The newest whole segment is NOW - 1.
    check(format!("_HLS_msn={}", NOW + 2), 400, "max-age=8").await;
    check(format!("_HLS_msn={NOW}&_HLS_part=18"), 400, "max-age=8").await;
    check(format!("_HLS_msn={}", NOW - 1), 200, "max-age=12").await;
    check(format!("_HLS_msn={NOW}&_HLS_part=2"), 200, "max-age=12").await;
    check("_HLS_msn=1&_HLS_part=3".to_owned(), 200, "max-age=12").await;
    check("_HLS_skip=YES&CMCD=sf%3Dh".to_owned(), 200, "max-age=1").await;
    let mut whole = server.held(&format!("{PLAYLIST}?_HLS_msn={NOW}")).await;
    for part in 3..PARTS {
        server.part(&record, VIDEO, NOW, part);
    }
    assert!(whole.answer().await.text().contains(&format!("\n{NOW}.m4s\n")));
}

#[tokio::test]
async fn each_kind_of_update_is_a_document_of_its_own() {
    let (server, record) = Server::live(PARTS).await;
    for (segment, part) in (NOW + 1..NOW + 8).flat_map(|segment| (0..PARTS).map(move |part| (segment, part))) {
        server.part(&record, VIDEO, segment, part);
    }
    // Twice, since the second answer is rendered already, and in no order.
    for _ in 0..2 {
        for (query, skip) in [
            ("_HLS_skip=v2", Some("#EXT-X-SKIP:SKIPPED-SEGMENTS=4,RECENTLY-REMOVED-DATERANGES=\"\"\n")),
            ("_HLS_skip=YES", Some("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n")),
            ("_HLS_skip=v3", None),
            ("", None),
        ] {
            let answer = server.get(&format!("{PLAYLIST}?{query}")).await;
            let text = answer.text();
            assert_eq!(text.contains("#EXT-X-SKIP"), skip.is_some(), "{query}: {text}");
            assert!(text.contains(",CAN-SKIP-DATERANGES=YES,") && text.contains(skip.unwrap_or("")), "{query}: {text}");
        }
    }
}

#[tokio::test]
async fn a_hinted_part_is_held_until_all_of_it_is_there() {
    let (server, record) = Server::live(3).await;
    let mut waiting = server.held(&format!("/cam1/video/{NOW}.3.m4s")).await;
    server.part(&record, VIDEO, NOW, 3);
    let answer = waiting.answer().await;
    assert_eq!((answer.status, &answer.body), (200, &body(&record, VIDEO, NOW, 3)));
    assert_eq!(answer.header("content-type"), "video/mp4");
    assert_eq!(answer.header("cache-control"), "max-age=12");
    assert!(answer.header("cmsd-static").contains("ot=v,st=l"), "{answer:?}");
    assert!(answer.header("server-timing").contains("tail;dur="));
}

/// Clients can measure how late an answer is.
#[tokio::test]
async fn every_answer_that_was_held_tells_when_it_was_published() {
    let (server, record) = Server::live(3).await;
    let mut playlist = server.held(&format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=3")).await;
    let mut part = server.held(&format!("/cam1/video/{NOW}.3.m4s")).await;
    let before = clock::wall().as_micros();
    server.part(&record, VIDEO, NOW, 3);
    let after = clock::wall().as_micros();
    for client in [&mut playlist, &mut part] {
        let published: u64 = client.answer().await.header("x-published-at").parse().expect("microseconds");
        // The two clocks aren't read at the same instant.
        assert!((before - 1_000..=after + 1_000).contains(&published), "{before} {published} {after}");
    }
}

#[tokio::test]
async fn what_is_not_expected_is_404_at_once() {
    let (server, _) = Server::live(3).await;
    let check = async |target: String, fault: &str| {
        let response = server.get(&target).await;
        assert_eq!(response.status, 404, "{target}");
        assert!(response.text().starts_with(fault), "{target}: {}", response.text());
        assert_eq!(response.header("access-control-allow-origin"), "*", "{target}");
    };
    check("/nobody/index.m3u8".to_owned(), "request: no stream").await;
    check("/cam1/smell/playlist.m3u8".to_owned(), "request: the stream has no track").await;
    check(format!("/cam1/video/{NOW}.9.m4s"), "request: it has left").await;
    check(format!("/cam1/video/{}.3.m4s", NOW + 1), "request: it has left").await;
    check(format!("/cam1/video/{}.m4s", NOW + 2), "request: it has left").await;
    check("/cam1/video/1.m4s".to_owned(), "request: it has left").await;
    check("/cam1/video/init.9.mp4".to_owned(), "request: no such init").await;
    check("/../../etc/passwd".to_owned(), "request: no such stream").await;
    assert_eq!(server.edge.store().waiting(), 0);
    assert!(server.edge.store().get("nobody").is_none(), "asking makes nothing");
}

#[tokio::test]
async fn a_stream_that_the_directory_knows_is_waited_for() {
    let server = Server::start().await;
    let record = synthetic::record("cam1");
    server.edge.store().announced(Entry {
        stream: record.stream.clone(),
        life: record.life,
        epoch: record.epoch,
        refresh: 1,
        ingest: Peer { id: NodeId(1), addr: "127.0.0.1:1".parse().expect("an address") },
    });
    let mut index = server.held("/cam1/index.m3u8").await;
    let mut playlist = server.held(PLAYLIST).await;
    let mut init = server.held("/cam1/audio/init.0.mp4").await;
    server.edge.store().record(record.clone());
    assert_eq!(init.answer().await.text(), "init of audio");
    server.part(&record, VIDEO, FIRST_MSN, 0);
    server.part(&record, AUDIO, FIRST_MSN, 0);
    assert!(index.answer().await.text().contains("RESOLUTION=1280x720"));
    // A playlist without a segment is held, too.
    for part in 1..synthetic::PARTS {
        assert_eq!(server.edge.store().waiting(), 1, "before part {part}");
        server.part(&record, VIDEO, FIRST_MSN, part);
    }
    assert!(playlist.answer().await.text().contains("#EXTINF"));
    let name = StreamName::parse("cam1").expect("a name");
    let mut waiting = server.held(&format!("{PLAYLIST}?_HLS_msn={}&_HLS_part=1", FIRST_MSN + 1)).await;
    server.edge.store().expired(&name);
    assert_eq!(waiting.answer().await.status, 404, "the directory has forgotten it");
}

#[tokio::test]
async fn the_segment_under_way_is_sent_part_by_part() {
    let (server, record) = Server::live(2).await;
    let mut client = server.held(&format!("/cam1/video/{NOW}.m4s")).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, "chunked"));
    let mut received = client.chunk().await.expect("a part");
    received.extend(client.chunk().await.expect("a part"));
    for part in 2..PARTS {
        server.part(&record, VIDEO, NOW, part);
        received.extend(client.chunk().await.expect("a part"));
    }
    assert_eq!(client.chunk().await, Some(Vec::new()), "the end");
    let whole: Vec<u8> = (0..PARTS).flat_map(|p| body(&record, VIDEO, NOW, p)).collect();
    assert_eq!(received, whole);
    let again = client.ask("GET", &format!("/cam1/video/{NOW}.m4s"), &[]).await;
    assert_eq!((again.header("content-length"), &again.body), ("100000", &whole));
    let metrics = server.get("/metrics").await;
    let counted = "damson_http_response_bytes_total{kind=\"segment\"} 200000\n";
    assert!(metrics.text().contains(counted), "both are counted: {}", metrics.text());
}

#[tokio::test]
async fn a_lost_part_breaks_off_what_follows_it_and_is_404_ever_after() {
    let (server, record) = Server::live(2).await;
    let mut client = server.held(&format!("/cam1/video/{NOW}.m4s")).await;
    // Part 2 never comes. It is a gap after PART-HOLD-BACK: 0.6 s after part 3.
    server.part(&record, VIDEO, NOW, 3);
    let answer = client.answer().await;
    assert!(!answer.whole, "no end: the player knows that it isn't whole");
    assert_eq!(answer.body.len(), 2 * LEN);
    let playlist = server.get(&format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=3")).await;
    assert!(playlist.text().contains(&format!("URI=\"{NOW}.2.m4s\",GAP=YES")), "{}", playlist.text());
    server.part(&record, VIDEO, NOW, 2);
    let part = server.get(&format!("/cam1/video/{NOW}.2.m4s")).await;
    assert_eq!((part.status, part.header("cache-control")), (404, "max-age=2"));
    assert!(part.text().starts_with("stream: "), "{}", part.text());
    assert!(server.get("/metrics").await.text().contains("damson_gaps_total 1\n"));
}

#[tokio::test]
async fn what_was_delisted_is_fetchable_for_another_playlist() {
    let (server, record) = Server::live(PARTS).await;
    for msn in FIRST_MSN + 3..FIRST_MSN + 40 {
        (0..PARTS).for_each(|part| server.part(&record, VIDEO, msn, part));
    }
    let playlist = server.get("/cam1/video/playlist.m3u8").await;
    assert!(!playlist.text().contains(&format!("{}.m4s", FIRST_MSN + 10)), "delisted");
    let segment = server.get(&format!("/cam1/video/{}.m4s", FIRST_MSN + 10)).await;
    assert_eq!((segment.status, segment.body.len()), (200, LEN * usize::from(PARTS)));
    let part = server.get(&format!("/cam1/video/{}.1.m4s", FIRST_MSN + 10)).await;
    assert_eq!((part.status, part.body), (200, body(&record, VIDEO, FIRST_MSN + 10, 1)));
    let never = server.get(&format!("/cam1/video/{}.m4s", FIRST_MSN - 10)).await;
    assert_eq!(never.status, 404);
}

#[tokio::test]
async fn ranges_heads_and_tags() {
    let (server, record) = Server::live(0).await;
    let segment = format!("/cam1/video/{FIRST_MSN}.m4s");
    let whole: Vec<u8> = (0..PARTS).flat_map(|p| body(&record, VIDEO, FIRST_MSN, p)).collect();
    let mut client = server.connect().await;
    let full = client.ask("GET", &segment, &[]).await;
    assert_eq!((full.status, &full.body), (200, &whole));

    let head = client.ask("HEAD", &segment, &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, "100000"));
    let range = client.ask("GET", &segment, &[("Range", "bytes=9990-10009")]).await;
    assert_eq!((range.status, range.header("content-range")), (206, "bytes 9990-10009/100000"));
    assert_eq!(range.body, &whole[9_990..10_010]);
    let past = client.ask("GET", &segment, &[("Range", "bytes=100000-")]).await;
    assert_eq!((past.status, past.header("content-range")), (416, "bytes */100000"));
    let known = client.ask("GET", &segment, &[("If-None-Match", full.header("etag"))]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));

    let playlist = client.ask("GET", PLAYLIST, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!((playlist.header("content-encoding"), &playlist.body[..2]), ("gzip", &[0x1f, 0x8b][..]));
    let known = client.ask("GET", PLAYLIST, &[("If-None-Match", playlist.header("etag"))]).await;
    assert_eq!(known.status, 304);
}

/// The second request for a segment is sent from a file, and the client sees no difference.
#[tokio::test]
async fn a_sealed_segment_is_the_same_bytes() {
    const LARGE: usize = 300_000;
    let server = Server::start().await;
    let record = synthetic::record("cam1");
    server.edge.store().record(record.clone());
    let mut whole = Vec::new();
    for part in 0..PARTS {
        let (header, body, trace) = synthetic::part(&record, VIDEO, FIRST_MSN, part, LARGE);
        whole.extend_from_slice(&body);
        server.edge.store().part(&record.stream, header, body, trace, clock::now());
    }
    let path = format!("/cam1/video/{FIRST_MSN}.m4s");
    let mut client = server.connect().await;
    let first = client.ask("GET", &path, &[]).await;
    assert!(server.edge.store().memory_file_bytes() < LARGE as u64, "one viewer isn't worth a copy");
    for turn in 0..3 {
        let again = client.ask("GET", &path, &[]).await;
        assert_eq!((again.status, again.header("etag")), (200, first.header("etag")));
        assert!(again.body == whole, "turn {turn}");
        if cfg!(target_os = "linux") {
            assert!(server.edge.store().memory_file_bytes() >= whole.len() as u64, "it lies in a file");
        }
    }
    assert!(first.body == whole);
    let range = client.ask("GET", &path, &[("Range", "bytes=299999-899999")]).await;
    assert!(range.status == 206 && range.body == whole[299_999..900_000]);
    // A client that closes in the middle of a body doesn't disturb the others.
    let mut gone = server.connect().await;
    gone.send("GET", &path, &[]).await;
    gone.head().await;
    drop(gone);
    let playlist = client.ask("GET", PLAYLIST, &[]).await;
    assert!(playlist.text().starts_with("#EXTM3U"), "what isn't in the file goes out as ever");
    assert!(server.get(&path).await.body == whole);
}

#[tokio::test]
async fn every_response_may_be_read_across_origins() {
    let (server, _) = Server::live(1).await;
    let check = async |method: &str, target: &str, status: u16| {
        let response = server.connect().await.ask(method, target, &[("Origin", "https://player.example")]).await;
        assert_eq!(response.status, status, "{method} {target}");
        assert_eq!(response.header("access-control-allow-origin"), "*", "{method} {target}");
        assert!(response.header("access-control-expose-headers").contains("Server-Timing"), "{method} {target}");
        assert_eq!(response.header("timing-allow-origin"), "*", "{method} {target}");
        response
    };
    check("GET", PLAYLIST, 200).await;
    check("GET", "/cam1/index.m3u8", 200).await;
    check("GET", "/cam1/manifest.mpd", 200).await;
    check("GET", "/time", 200).await;
    check("GET", "/", 200).await;
    check("GET", "/nobody/index.m3u8", 404).await;
    check("GET", "/cam1/video/%zz", 400).await;
    check("DELETE", "/cam1/index.m3u8", 405).await;
    let preflight = check("OPTIONS", PLAYLIST, 204).await;
    assert!(preflight.header("access-control-allow-headers").contains("CMCD-Request"));
}

#[tokio::test]
async fn the_api_tells_what_is_held() {
    let (server, _) = Server::live(3).await;
    let json = |r: Response| serde_json::from_slice::<serde_json::Value>(&r.body).expect("JSON");
    let streams = json(server.get("/api/v1/streams").await);
    assert_eq!(streams["streams"][0]["hls"], "/cam1/index.m3u8");
    assert_eq!(streams["streams"][0]["tracks"][0]["width"], 1280);
    assert_eq!(streams["streams"][0]["live"], true);
    let trace = json(server.get("/api/v1/streams/cam1/trace").await);
    assert_eq!((&trace["msn"], &trace["part"]), (&NOW.into(), &2.into()));
    assert_eq!(trace["edge"]["name"], "edge7");
    let trace = json(server.get(&format!("/api/v1/streams/cam1/trace?track=audio&msn={FIRST_MSN}&part=9")).await);
    assert_eq!((&trace["track"], &trace["part"]), (&"audio".into(), &9.into()));
    assert_eq!(server.get("/healthz").await.text(), "ok\n");
    assert_eq!(server.get("/readyz").await.status, 200);
    assert!(server.get("/time").await.text().ends_with('Z'));
    assert!(server.get("/metrics").await.text().contains("damson_http_requests_total"));
}

#[tokio::test]
async fn a_node_that_goes_down_answers_who_it_holds() {
    let (server, _) = Server::live(3).await;
    let mut waiting = server.held(&format!("{PLAYLIST}?_HLS_msn={NOW}&_HLS_part=3")).await;
    server.shutdown.cancel();
    let answer = waiting.answer().await;
    assert_eq!((answer.status, answer.header("cache-control")), (503, "no-store"));
    assert_eq!(answer.header("connection"), "close");
    assert!(answer.text().starts_with("edge: shutting down"));
    let ended = tokio::time::timeout(Duration::from_secs(5), server.task).await.expect("it drains");
    ended.expect("no panic");
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let (server, _) = Server::live(3).await;
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET /cam1 HTTP/9.9\r\n\r\n", &"x".repeat(100_000)] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("the edge listens");
        let _ = stream.write_all(garbage.as_bytes()).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(server.get(PLAYLIST).await.status, 200);
}
