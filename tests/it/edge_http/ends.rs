//! Requests for what doesn't come: silence, the end, and what a delta update leaves out.

use damson_core::model::Trace;

use super::*;

#[tokio::test]
async fn a_publishers_silence_is_a_gap_to_hls_and_empty_to_dash() {
    let (server, record) = Server::live(PARTS).await;
    let mut held = server.held(&format!("/cam1/video/{}.m4s", NOW + 1)).await;
    for part in 0..PARTS {
        let (mut header, ..) = synthetic::part(&record, VIDEO, NOW + 1, part, 0);
        header.flags.gap = true;
        server.edge.store().part(&record.stream, header, Vec::new().into(), Trace::default(), clock::now());
    }
    let followed = held.answer().await;
    let playlist = server.get(PLAYLIST).await;
    assert!(
        playlist.text().contains(&format!("#EXT-X-GAP\n#EXTINF:2.000000,\n{}.m4s", NOW + 1)),
        "{}",
        playlist.text()
    );
    let whole = server.get(&format!("/cam1/video/{}.m4s", NOW + 1)).await;
    let mut parts = Vec::new();
    for number in 0..PARTS {
        let part = server.get(&format!("/cam1/video/{}.{number}.m4s", NOW + 1)).await;
        assert_eq!((part.status, part.header("content-type")), (200, "video/mp4"));
        assert!(part.body.ends_with(b"\0\0\0\x08mdat") && !part.body.windows(4).any(|w| w == b"trun"), "{part:?}");
        parts.push(part.body);
    }
    assert_eq!(parts.iter().collect::<std::collections::BTreeSet<_>>().len(), usize::from(PARTS), "each has its time");
    assert!(followed.whole && followed.body == parts.concat() && whole.body == followed.body);
}

/// Shaka requests the hinted part, although the segment then ends before it.
#[tokio::test]
async fn a_hinted_part_that_never_comes_is_empty() {
    let (server, _) = Server::live(PARTS).await;
    let never = server.get(&format!("/cam1/video/{NOW}.{PARTS}.m4s")).await;
    assert_eq!((never.status, never.header("cache-control")), (200, "no-store"));
    assert_eq!(server.get(&format!("/cam1/video/{NOW}.{}.m4s", PARTS + 1)).await.status, 404);
}

/// rfc8216bis 6.2.5.1, over HTTP: a delta update is held, compressed and tagged like any playlist, and is another
/// document.
#[tokio::test]
async fn a_delta_update_is_a_document_of_its_own() {
    let (server, record) = Server::live(PARTS).await;
    for msn in NOW + 1..NOW + 20 {
        (0..PARTS).for_each(|part| server.part(&record, VIDEO, msn, part));
    }
    let now = NOW + 20;
    let target = format!("{PLAYLIST}?_HLS_msn={now}&_HLS_part=0&_HLS_skip=YES");
    let mut held = server.held(&target).await;
    server.part(&record, VIDEO, now, 0);
    let delta = held.answer().await;
    let full = server.get(PLAYLIST).await;
    assert!(delta.text().contains("\n#EXT-X-SKIP:SKIPPED-SEGMENTS=9\n"), "{}", delta.text());
    assert!(full.body.len() > delta.body.len() && !full.text().contains("EXT-X-SKIP:"));
    assert_eq!(delta.header("cache-control"), "max-age=12");
    assert_ne!(delta.header("etag"), full.header("etag"));
    let v2 = server.get(&target.replace("YES", "v2")).await;
    let removed = ",RECENTLY-REMOVED-DATERANGES=\"\"";
    assert_eq!(v2.text().replace(removed, "").replace("-VERSION:10\n", "-VERSION:9\n"), delta.text());
    assert_ne!(v2.header("etag"), delta.header("etag"));
    let mut client = server.connect().await;
    let packed = client.ask("GET", &target, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!((packed.header("content-encoding"), packed.header("etag")), ("gzip", delta.header("etag")));
    assert!(packed.body.len() < delta.body.len());
    let again = client.ask("GET", &target, &[("If-None-Match", delta.header("etag"))]).await;
    assert_eq!(again.status, 304);
    let head = client.ask("HEAD", &target, &[]).await;
    assert_eq!(head.header("content-length"), delta.body.len().to_string());
}

#[tokio::test]
async fn after_the_end_nobody_waits() {
    let (server, mut record) = Server::live(PARTS).await;
    let mut waiting = server.held(&format!("{PLAYLIST}?_HLS_msn={}&_HLS_part=0", NOW + 1)).await;
    let mut hinted = server.held(&format!("/cam1/video/{}.0.m4s", NOW + 1)).await;
    record.ended = Some(NOW);
    record.revision += 1;
    server.edge.store().record(record);
    let answer = waiting.answer().await;
    assert!(answer.text().ends_with("#EXT-X-ENDLIST\n"), "{}", answer.text());
    assert!(!answer.text().contains("PRELOAD-HINT"));
    // The part doesn't come, and the client isn't at fault.
    let nothing = hinted.answer().await;
    assert_eq!((nothing.status, nothing.header("cache-control")), (200, "no-store"));
    assert!(nothing.body.ends_with(b"\0\0\0\x08mdat"), "{nothing:?}");
    assert_eq!(server.get(&format!("/cam1/audio/{}.m4s", NOW + 1)).await.status, 200);
    for target in [format!("/cam1/video/{}.m4s", NOW + 9), format!("/cam1/video/{}.5.m4s", NOW + 9)] {
        assert_eq!(server.get(&target).await.status, 404, "{target}");
    }
    for target in ["/cam1/manifest.mpd", "/cam1/manifest.mpd?follow"] {
        let mpd = server.get(target).await;
        assert!(mpd.text().contains("type=\"static\"") && !mpd.text().contains("minimumUpdatePeriod"));
    }
    // A stream that has ended has no delta updates.
    let delta = server.get(&format!("{PLAYLIST}?_HLS_skip=YES")).await;
    assert_eq!(delta.body, answer.body);
}
