// The rules, one row a clause: what must hold of each recorded case. A row says what is wrong, and where.
//
// A case is a `Recording` (record.mjs) with `tracks[name]`: `lists` (each state of its media playlist, oldest first), `deltas`,
// `bodies` by URI. rfc8216bis is draft -22.
import assert from "node:assert/strict";
import { parse as parseMpd } from "mpd-parser";
import HLS from "hls-parser";
import { Parser } from "m3u8-parser";
import { chunks, timescale } from "./cmaf.mjs";

/** Playlists have six decimals. */
const ROUNDING_S = 1e-6;

const tracks = (c) => Object.values(c.tracks);
const lists = (c) => tracks(c).flatMap((track) => track.lists.map((list) => [list, `${c.name}/${track.name}`, track]));
const pairs = (c) => tracks(c).flatMap((track) => track.lists.slice(1).map((list, i) => [track.lists[i], list, `${c.name}/${track.name}`]));
const last = (track) => track.lists.at(-1);
const seconds = (list, tag, name) => Number(list.tags[tag][name]);
const shown = (list) => [...list.segments, list.open];
/** Each segment as it was when it was new: its discontinuity leaves the playlist with the one before it. */
const segmentsOf = (track) => [...new Map(track.lists.flatMap((list) => list.segments).reverse().map((s) => [s.msn, s])).values()].reverse();
const live = (c) => lists(c).filter(([list]) => !list.ended);
const numbers = (uri) => /^(\d+)(?:\.(\d+))?\.m4s$/.exec(uri).slice(1).map(Number);
const sum = (list) => list.reduce((a, b) => a + b, 0);
const near = (a, b, tolerance, told) => assert.ok(Math.abs(a - b) <= tolerance, `${told}: ${a} against ${b}`);

/** The chunks of a part. */
const chunkOf = (track, part) => chunks(track.bodies.get(part.URI))[0];

const HLS_RULES = {
  "4.1 UTF-8 without a byte order mark, a tag or a URI on each line": (c) => {
    for (const text of [c.index, ...lists(c).map(([list]) => list.text)]) {
      assert.ok(text.endsWith("\n") && !text.includes("\r") && !/^\s|^#(?!EXT)|^$/m.test(text.trimEnd()), text);
    }
  },
  "4.4.1.1 EXTM3U is the first line": (c) => lists(c).forEach(([list, at]) => assert.equal(list.lines[0], "#EXTM3U", at)),
  "4.4.1.2 EXT-X-VERSION once, and high enough for EXT-X-SKIP": (c) => {
    for (const [list, at] of lists(c)) {
      assert.equal(list.lines.filter((l) => l.startsWith("#EXT-X-VERSION")).length, 1, at);
      assert.ok(Number(list.tags["EXT-X-VERSION"]) >= 9, at);
    }
  },
  "4.4.3.1 EXTINF, rounded, is at most EXT-X-TARGETDURATION, which never changes": (c) => {
    assert.equal(new Set(lists(c).map(([list]) => list.tags["EXT-X-TARGETDURATION"])).size, 1, c.name);
    for (const [list, at] of lists(c)) {
      for (const s of list.segments) assert.ok(Math.round(s.duration) <= Number(list.tags["EXT-X-TARGETDURATION"]), `${at} ${s.uri}: ${s.duration}`);
    }
  },
  "4.4.3.2 a segment keeps its media sequence number": (c) => lists(c).forEach(([list, at]) =>
    list.segments.forEach((s) => assert.equal(numbers(s.uri)[0], s.msn, at))),
  "4.4.3.3 EXT-X-DISCONTINUITY-SEQUENCE counts the discontinuities that have left": (c) => {
    for (const [before, now, at] of pairs(c)) {
      const gone = before.segments.filter((s) => s.msn < now.first);
      const inside = now.segments[0]?.discontinuities ? 0 : before.segments.find((s) => s.msn === now.first)?.discontinuities ?? 0;
      const expected = Number(before.tags["EXT-X-DISCONTINUITY-SEQUENCE"]) + sum(gone.slice(1).map((s) => s.discontinuities)) + (gone.length ? inside : 0);
      assert.equal(Number(now.tags["EXT-X-DISCONTINUITY-SEQUENCE"]), expected, at);
    }
  },
  "4.4.3.4 EXT-X-ENDLIST at the end, without a hint or a report": (c) => tracks(c).forEach((track) => {
    assert.equal(last(track).lines.at(-2), "#EXT-X-ENDLIST", `${c.name}/${track.name}`);
    assert.deepEqual([last(track).hints, last(track).reports], [[], []]);
  }),
  "4.4.3.5 no EXT-X-PLAYLIST-TYPE where segments are removed": (c) => lists(c).forEach(([list, at]) => assert.ok(!list.text.includes("PLAYLIST-TYPE"), at)),
  "4.4.3.7 no part is longer than PART-TARGET, and none shorter than 85 % of it": (c) => {
    for (const [list, at] of lists(c)) {
      const target = seconds(list, "EXT-X-PART-INF", "PART-TARGET");
      for (const s of shown(list)) {
        s.parts.forEach((part, i) => {
          const [length, next] = [Number(part.DURATION), s.parts[i + 1]];
          assert.ok(length <= target, `${at} ${part.URI}: ${length} over ${target}`);
          const exempt = part.INDEPENDENT || part.GAP || !next || next.GAP;
          assert.ok(exempt || length >= target * 0.85, `${at} ${part.URI}: ${length} of ${target}`);
        });
      }
    }
  },
  "4.4.3.8 EXT-X-SERVER-CONTROL is the same everywhere and always": (c) => {
    const said = new Set(lists(c).map(([list]) => JSON.stringify([list.tags["EXT-X-SERVER-CONTROL"], list.tags["EXT-X-PART-INF"], list.tags["EXT-X-TARGETDURATION"]])));
    assert.equal(said.size, 1, `${c.name}: ${[...said].join(" | ")}`);
  },
  "4.4.3.8 CAN-SKIP-UNTIL is 6 target durations, HOLD-BACK 3, PART-HOLD-BACK 3 part targets, at least": (c) => {
    const [list] = lists(c)[0];
    const target = Number(list.tags["EXT-X-TARGETDURATION"]);
    const control = (name) => seconds(list, "EXT-X-SERVER-CONTROL", name);
    assert.ok(control("CAN-SKIP-UNTIL") >= 6 * target && control("HOLD-BACK") >= 3 * target, list.text);
    assert.ok(control("PART-HOLD-BACK") >= 3 * seconds(list, "EXT-X-PART-INF", "PART-TARGET") - ROUNDING_S, list.text);
    assert.equal(list.tags["EXT-X-SERVER-CONTROL"]["CAN-BLOCK-RELOAD"], "YES");
    assert.equal(list.tags["EXT-X-SERVER-CONTROL"]["CAN-SKIP-DATERANGES"], "YES");
  },
  "4.4.4.1 EXTINF is the sum of its parts, as its body's samples are": (c) => {
    for (const track of tracks(c)) {
      for (const list of track.lists) {
        for (const s of list.segments.filter((s) => s.parts.length > 0 && !list.ended)) {
          near(sum(s.parts.map((p) => Number(p.DURATION))), s.duration, s.parts.length * ROUNDING_S, `${c.name}/${track.name} ${s.uri}`);
        }
      }
    }
  },
  "4.4.4.3 a discontinuity where headers or timestamps change, and only there": (c) => tracks(c).forEach((track) => {
    segmentsOf(track).forEach((s, i, all) => {
      if (i > 0 && s.map !== all[i - 1].map) assert.ok(s.discontinuities > 0, `${c.name}/${track.name} ${s.uri}: ${all[i - 1].map} to ${s.map}`);
    });
    assert.equal(sum(segmentsOf(track).slice(1).map((s) => s.discontinuities)), c.discontinuities ?? 0, `${c.name}/${track.name}`);
  }),
  "4.4.4.5 EXT-X-MAP applies to every segment": (c) => lists(c).forEach(([list, at]) => list.segments.forEach((s) => assert.ok(s.map, `${at} ${s.uri}`))),
  "4.4.4.6 EXT-X-PROGRAM-DATE-TIME goes with the segments' lengths, and stays": (c) => tracks(c).forEach((track) => {
    const at = `${c.name}/${track.name}`;
    segmentsOf(track).forEach((s, i, all) => {
      assert.ok(!Number.isNaN(s.pdt) && s.pdt !== null, `${at} ${s.uri}`);
      const before = all[i - 1];
      if (!before || s.discontinuities || s.gap || before.gap) return;
      // It is of the first picture shown, which the encoder may put off by some frames; and follows the encoder's clock by 50 ms.
      near((s.pdt - before.pdt) / 1000, before.duration, 0.12, `${at} ${s.uri}`);
    });
    for (const [before, now] of track.lists.slice(1).map((list, i) => [track.lists[i], list])) {
      for (const s of now.segments) assert.equal(s.pdt, before.segments.find((b) => b.msn === s.msn)?.pdt ?? s.pdt, `${at} ${s.uri}`);
    }
  }),
  "4.4.4.7 a gap's parts are gaps, and a segment with one is a gap": (c) => lists(c).forEach(([list, at]) => list.segments.forEach((s) => {
    if (!s.gap) assert.ok(s.parts.every((p) => p.GAP !== "YES"), `${at} ${s.uri}`);
  })),
  "4.4.4.9 DISCONTINUITY, MAP and PROGRAM-DATE-TIME stand before a segment's parts": (c) => lists(c).forEach(([list, at]) => {
    let parts = 0;
    for (const line of list.lines) {
      if (line.startsWith("#EXT-X-PART:")) parts += 1;
      else if (!line.startsWith("#")) parts = 0;
      else assert.ok(parts === 0 || !/^#EXT-X-(DISCONTINUITY|MAP|PROGRAM-DATE-TIME)/.test(line), `${at} ${line}`);
    }
  }),
  "4.4.4.9 INDEPENDENT=YES where a part starts with a key frame, and only there": (c) => lists(c).forEach(([list, at, track]) => {
    for (const part of shown(list).flatMap((s) => s.parts).filter((p) => p.GAP !== "YES")) {
      assert.equal(part.INDEPENDENT === "YES", chunkOf(track, part).samples[0].sync, `${at} ${part.URI}`);
    }
  }),
  "4.4.4.9 parts are numbered in a row": (c) => lists(c).filter(([list]) => !list.ended).forEach(([list, at]) => {
    for (const s of [...list.segments, { ...list.open, msn: list.next() }]) {
      s.parts.forEach((part, i) => assert.deepEqual(numbers(part.URI), [s.msn, i], at));
    }
  }),
  "4.4.5.2 a delta update is the playlist without its old segments": (c) => {
    for (const track of tracks(c)) {
      for (const { list } of track.deltas) {
        const at = `${c.name}/${track.name}\n${list.text}`;
        if (list.skipped === 0) continue;
        assert.ok(list.text.indexOf("#EXT-X-SKIP") > list.text.indexOf("#EXT-X-DISCONTINUITY-SEQUENCE"), at);
        assert.ok(sum(list.segments.map((s) => s.duration)) >= seconds(list, "EXT-X-SERVER-CONTROL", "CAN-SKIP-UNTIL"), at);
        const full = track.lists.find((l) => l.first === list.first && JSON.stringify([l.hints, l.reports]) === JSON.stringify([list.hints, list.reports]));
        if (!full) continue; // a state between two that were recorded
        assert.deepEqual(list.segments.map((s) => [s.uri, s.pdt, s.duration, s.map]), full.segments.slice(list.skipped).map((s) => [s.uri, s.pdt, s.duration, s.map]), at);
      }
    }
  },
  "4.4.5.2 RECENTLY-REMOVED-DATERANGES where date ranges may be skipped, and there alone, by version 10": (c) => {
    for (const track of tracks(c)) {
      for (const { list, skip } of track.deltas.filter(({ list }) => list.skipped > 0)) {
        const at = `${c.name}/${track.name}\n${list.text}`;
        assert.equal(list.removed !== undefined, skip === "v2", at);
        assert.ok(Number(list.tags["EXT-X-VERSION"]) >= (skip === "v2" ? 10 : 9), at);
      }
    }
  },
  "4.4.5.3 a hint of the next part, and that part comes": (c) => live(c).forEach(([list, at]) => {
    const hints = list.hints.filter((h) => h.TYPE === "PART");
    assert.equal(hints.length, 1, at);
    assert.deepEqual(numbers(hints[0].URI), [list.next(), list.open.parts.length], at);
    assert.ok(list.hints.filter((h) => h.TYPE === "MAP").length <= 1, at);
  }),
  "4.4.5.4 a report of each other rendition": (c) => live(c).forEach(([list, at, track]) => {
    const others = tracks(c).filter((t) => t !== track).map((t) => `../${t.name}/playlist.m3u8`);
    // One that begins a moment later isn't there yet.
    if (list !== track.lists[0]) assert.deepEqual(list.reports.map((r) => r.URI).sort(), others.sort(), at);
    for (const report of list.reports) near(Number(report["LAST-MSN"]), list.next(), 2, at);
  }),
  "4.4.6.1 one default rendition in a group, each name once": (c) => {
    const media = c.index.split("\n").filter((l) => l.startsWith("#EXT-X-MEDIA:"));
    assert.ok(media.length === 0 || media.filter((l) => l.includes("DEFAULT=YES")).length === 1, c.index);
    assert.equal(new Set(media.map((l) => /NAME="([^"]*)"/.exec(l)[1])).size, media.length, c.index);
  },
  "4.4.6.2 EXT-X-STREAM-INF names codecs, rates and the picture's size": (c) => {
    for (const line of c.index.split("\n").filter((l) => l.startsWith("#EXT-X-STREAM-INF:"))) {
      const [, peak, average] = /BANDWIDTH=(\d+),AVERAGE-BANDWIDTH=(\d+)/.exec(line).map(Number);
      assert.ok(peak >= average && average > 0, line);
      assert.match(line, /CODECS="[^"]+"/);
      if (/avc1/.test(line)) assert.match(line, /RESOLUTION=\d+x\d+,FRAME-RATE=\d+\.\d{3}/);
    }
  },
  "6.2.1 no line is changed, added before the end, or removed but from the front": (c) => pairs(c).forEach(([before, now, at]) => {
    for (const s of before.segments.filter((s) => s.msn >= now.first)) {
      const still = now.segments.find((n) => n.msn === s.msn);
      assert.deepEqual(still && [still.uri, still.duration, still.gap, still.pdt, still.map], [s.uri, s.duration, s.gap, s.pdt, s.map], `${at} ${s.uri}`);
    }
    assert.ok(now.first >= before.first && now.next() >= before.next(), at);
  }),
  "6.2.2 a live playlist isn't shorter than 3 target durations once it removes": (c) => live(c).forEach(([list, at, track]) => {
    if (list.first === track.lists[0].first) return;
    assert.ok(sum(list.segments.map((s) => s.duration)) >= 3 * Number(list.tags["EXT-X-TARGETDURATION"]), at);
  }),
  "6.2.2 parts are shown for 3 target durations from the end, no longer": (c) => live(c).forEach(([list, at]) => {
    const tail = 3 * Number(list.tags["EXT-X-TARGETDURATION"]) + ROUNDING_S;
    shown(list).forEach((s, i, all) => {
      const after = sum(all.slice(i + 1).map((n) => n.duration ?? sum(n.parts.map((p) => Number(p.DURATION)))));
      assert.ok(s.parts.length === 0 || after <= tail, `${at} ${s.uri}`);
    });
  }),
  "6.2.2 parts of an ended playlist are the last media's, for players that ask whether the last part is buffered": (c) => tracks(c).forEach((track) => {
    const parts = last(track).segments.flatMap((s) => s.parts);
    assert.ok(parts.length > 0 && parts.every((p) => p.GAP !== "YES"), last(track).text);
    assert.equal(new Set(parts.map((p) => numbers(p.URI)[0])).size, 1, last(track).text);
  }),
  "6.2.2 what has left the playlist may still be fetched": (c) => assert.deepEqual(c.delisted.filter(([, status]) => status !== 200), [], c.name),
  "6.2.4 renditions have the same segments": (c) => {
    const [first, ...others] = tracks(c).map((t) => segmentsOf(t));
    for (const other of others) {
      for (const s of other) {
        const same = first.find((f) => f.msn === s.msn);
        assert.equal(s.discontinuities, same?.discontinuities ?? s.discontinuities, `${c.name} ${s.uri}`);
        if (same && !s.gap && !same.gap) near(s.pdt, same.pdt, 200, `${c.name} ${s.uri}`);
      }
    }
  },
  "6.2.5.2 a blocking reload is answered by the part it asks for, or a later one": (c) => tracks(c).forEach((track) => track.lists.slice(1).forEach((list, i) => {
    const asked = track.lists[i];
    const [msn, part] = [asked.next(), asked.open.parts.length];
    assert.ok(list.ended || list.next() > msn || list.open.parts.length > part, `${c.name}/${track.name}: asked for ${msn}.${part}\n${list.text}`);
  })),
  "App. B.1 lifetimes in caches": (c) => {
    const target = Number(lists(c)[0][0].tags["EXT-X-TARGETDURATION"]);
    for (const { path, headers } of c.answers) {
      const [, file, query] = /([^/?]*)(?:\?(.*))?$/.exec(path);
      const expected = /m4s|mp4$/.test(file) || /_HLS_msn/.test(query) ? 6 * target : Math.max(1, Math.floor(target / 2));
      assert.equal(headers.get("cache-control"), `max-age=${expected}`, `${c.name} ${path}`);
    }
  },
  "RFC 9110 types, tags and lengths of answers": (c) => {
    for (const { path, headers, length } of c.answers) {
      const type = /m3u8/.test(path) ? "application/vnd.apple.mpegurl" : /mpd/.test(path) ? "application/dash+xml" : /^audio/.test(path) ? "audio/mp4" : "video/mp4";
      assert.equal(headers.get("content-type"), type, path);
      assert.equal(headers.get("access-control-allow-origin"), "*", path);
      assert.ok(headers.get("etag"), path);
      if (!headers.get("content-encoding")) assert.equal(Number(headers.get("content-length")), length, path);
    }
  },
};

const APPLE_RULES = {
  "live: at least six segments in a playlist that removes": (c) => live(c).forEach(([list, at, track]) =>
    assert.ok(list.first === track.lists[0].first || list.segments.length >= 6, at)),
  "live: PART-HOLD-BACK is 3 part targets": (c) => lists(c).forEach(([list, at]) =>
    near(seconds(list, "EXT-X-SERVER-CONTROL", "PART-HOLD-BACK"), 3 * seconds(list, "EXT-X-PART-INF", "PART-TARGET"), ROUNDING_S, at)),
  "live: a segment is at most half a second longer than the target duration": (c) => lists(c).forEach(([list, at]) =>
    list.segments.forEach((s) => assert.ok(s.duration <= Number(list.tags["EXT-X-TARGETDURATION"]) + 0.5, `${at} ${s.uri}`))),
  "playlists are compressed": (c) => c.answers.filter(({ path }) => /m3u8/.test(path)).forEach(({ path, headers }) => assert.equal(headers.get("content-encoding"), "gzip", path)),
  "no redirects": (c) => c.answers.forEach(({ path, status }) => assert.equal(status, 200, path)),
  "AVERAGE-BANDWIDTH and FRAME-RATE are told, and the rates are right": (c) => {
    for (const [, line, name] of c.lateIndex.matchAll(/^(#EXT-X-STREAM-INF:.*)\n([\w-]+)\//gm)) {
      assert.match(line, /AVERAGE-BANDWIDTH=/);
      const peak = Number(/BANDWIDTH=(\d+)/.exec(line)[1]);
      // Measured: the largest sum of the tracks' largest segments, as bodies on the wire. A tenth is its tolerance.
      const peakOf = (track) => Math.max(...segmentsOf(track).filter((s) => !s.gap && s.duration > 1)
        .map((s) => (track.bodies.get(s.uri)?.length ?? 0) * 8 / s.duration));
      // Of several languages one is played.
      const sound = tracks(c).filter((track) => track.name.startsWith("audio") && track.name !== name).map(peakOf);
      const found = peakOf(c.tracks[name]) + Math.max(0, ...sound);
      assert.ok(found <= peak * 1.1, `${c.name}: ${found} b/s in\n${line}`);
    }
  },
};

const CMAF_RULES = {
  "7.3.2 a part is one chunk: prft, moof, mdat": (c) => tracks(c).forEach((track) => {
    for (const [uri, body] of track.bodies) {
      if (!/\d\.\d+\.m4s$/.test(uri)) continue;
      const top = chunks(body).map((chunk) => chunk.types.filter((t) => !["mfhd", "traf", "tfhd", "tfdt", "trun"].includes(t)));
      assert.deepEqual(top, [["prft", "moof", "mdat"]], `${c.name}/${track.name} ${uri}`);
    }
  }),
  "7.3.2 a segment is its parts, one after the other": (c) => tracks(c).forEach((track) => {
    let compared = 0;
    for (const s of segmentsOf(track).filter((s) => !s.gap)) {
      const parts = [...track.bodies.keys()].filter((uri) => uri.startsWith(`${s.msn}.`) && /\.\d+\.m4s$/.test(uri)).sort((a, b) => numbers(a)[1] - numbers(b)[1]);
      if (parts.length === 0 || numbers(parts[0])[1] !== 0) continue;
      assert.ok(Buffer.concat(parts.map((p) => track.bodies.get(p))).equals(track.bodies.get(s.uri)), `${c.name}/${track.name} ${s.uri}`);
      compared += 1;
    }
    assert.ok(compared >= 3, `${c.name}/${track.name}: ${compared} segments with all their parts`);
  }),
  "7.5.15 tfdt goes on where the chunk before ended": (c) => tracks(c).forEach((track) => {
    let end = null;
    for (const s of segmentsOf(track)) {
      if (s.gap || s.discontinuities) end = null;
      if (s.gap) continue;
      for (const chunk of chunks(track.bodies.get(s.uri))) {
        assert.equal(chunk.tfdt, end ?? chunk.tfdt, `${c.name}/${track.name} ${s.uri}`);
        end = chunk.tfdt + sum(chunk.samples.map((x) => x.duration));
      }
    }
  }),
  "7.5.17 trun's durations are the playlist's": (c) => tracks(c).forEach((track) => {
    for (const list of track.lists) {
      for (const s of list.segments.filter((s) => !s.gap && track.bodies.has(s.uri))) {
        const scale = timescale(track.bodies.get(s.map));
        const length = sum(chunks(track.bodies.get(s.uri)).flatMap((chunk) => chunk.samples.map((x) => x.duration))) / scale;
        // A part under way of a track that stopped ends with its content; a frame of rounding is allowed at such an end.
        near(length, s.duration, s === segmentsOf(track).filter((x) => !x.gap).at(-1) || s.msn + 1 === c.jumpsAt ? 0.05 : ROUNDING_S, `${c.name}/${track.name} ${s.uri}`);
      }
      for (const part of shown(list).flatMap((s) => s.parts).filter((p) => p.GAP !== "YES")) {
        const scale = timescale(track.bodies.get(list.segments[0]?.map ?? list.open.map));
        near(sum(chunkOf(track, part).samples.map((x) => x.duration)) / scale, Number(part.DURATION), 0.05, `${c.name}/${track.name} ${part.URI}`);
      }
    }
  }),
  "14496-12 8.8.8 mdat is what trun says": (c) => tracks(c).forEach((track) => {
    for (const [uri, body] of track.bodies) {
      if (/m4s$/.test(uri)) chunks(body).forEach((chunk) => assert.equal(sum(chunk.samples.map((x) => x.size)), chunk.bytes, `${c.name}/${track.name} ${uri}`));
    }
  }),
  "14496-12 8.16.5 prft goes with EXT-X-PROGRAM-DATE-TIME": (c) => tracks(c).forEach((track) => {
    for (const s of segmentsOf(track).filter((s) => !s.gap)) {
      const { prft } = chunks(track.bodies.get(s.uri))[0];
      near(prft.ntp - 2_208_988_800, s.pdt / 1000, 0.0015, `${c.name}/${track.name} ${s.uri}`);
    }
  }),
  "6.6.8 video segments start with a key frame, unless one was forced": (c) => {
    for (const track of tracks(c)) {
      if (!c.index.includes("EXT-X-INDEPENDENT-SEGMENTS")) continue;
      for (const s of segmentsOf(track).filter((s) => !s.gap)) assert.ok(chunks(track.bodies.get(s.uri))[0].samples[0].sync, `${c.name}/${track.name} ${s.uri}`);
    }
  },
};

const attribute = (mpd, element, name) => new RegExp(`<${element}[^>]* ${name}="([^"]*)"`).exec(mpd)?.[1];
const xsSeconds = (text) => Number(/^PT([\d.]+)S$/.exec(text)[1]);
const periods = (mpd) => [...mpd.matchAll(/<Period id="([\w-]+)" start="PT([\d.]+)S"[^]*?<\/Period>/g)].map(([text, id, start]) => ({ text, id, start: Number(start) }));

const DASH_RULES = {
  "DASH-IF live 4.3 availabilityStartTime and Period@start never change": (c) => {
    assert.equal(new Set(c.mpds.map((mpd) => attribute(mpd, "MPD", "availabilityStartTime"))).size, 1, c.name);
    const starts = new Map();
    for (const { id, start } of c.mpds.flatMap(periods)) assert.equal(start, starts.get(id) ?? (starts.set(id, start), start), `${c.name} ${id}`);
    // One that goes on without a discontinuity is named by its first segment, too.
    assert.equal([...starts.keys()].filter((id) => !id.includes("-")).length, 1 + (c.discontinuities ?? 0), c.name);
  },
  "DASH-IF live 4.3 sets and their order are fixed": (c) => {
    const sets = (period) => [...period.text.matchAll(/<AdaptationSet id="(\d+)" contentType="(\w+)"/g)].map((m) => m.slice(1).join());
    const all = c.mpds.filter((mpd) => mpd.includes('type="dynamic"')).flatMap(periods).map((p) => sets(p).join(" "));
    assert.equal(new Set(all).size, 1, `${c.name}: ${all.join(" | ")}`);
  },
  "5.3.1.2 publishTime goes on with each change": (c) => {
    const times = c.mpds.map((mpd) => attribute(mpd, "MPD", "publishTime"));
    assert.deepEqual([...times].sort(), times, c.name);
  },
  "5.3.1.2 a live MPD says when to ask again, an ended one doesn't": (c) => c.mpds.forEach((mpd) => {
    assert.equal(attribute(mpd, "MPD", "minimumUpdatePeriod") !== undefined, mpd.includes('type="dynamic"'), mpd);
    assert.equal(attribute(mpd, "MPD", "mediaPresentationDuration") !== undefined, mpd.includes('type="static"'), mpd);
  }),
  "5.3.9.5.3 $Number$ and @duration lead to the segment of that time": (c) => {
    let checked = 0;
    for (const mpd of c.mpds) {
      const all = periods(mpd);
      for (const [i, period] of all.entries()) {
        const next = Number(/startNumber="(\d+)"/.exec(all[i + 1]?.text)?.[1] ?? Infinity);
        for (const [, id, text] of period.text.matchAll(/<Representation id="(\w+)"([^]*?)<\/Representation>/g)) {
          const value = (name) => Number(attribute(text, "SegmentTemplate", name));
          const [scale, offset, first, length] = ["timescale", "presentationTimeOffset", "startNumber", "duration"].map(value);
          assert.equal(offset, Math.round(period.start * scale), `${c.name} ${id}: media time runs on`);
          // An older MPD knows nothing of the period that followed its last one.
          const known = i + 1 < all.length || mpd === c.mpds.at(-1);
          for (const s of segmentsOf(c.tracks[id]).filter((s) => known && !s.gap && s.msn >= first && s.msn < next)) {
            const { tfdt } = chunks(c.tracks[id].bodies.get(s.uri))[0];
            near((tfdt - offset) / scale, ((s.msn - first) * length) / scale, length / scale / 2, `${c.name}/${id} ${s.uri}`);
            checked += 1;
          }
        }
      }
    }
    assert.ok(checked > 10, c.name);
  },
  "5.3.9.5.3 the segment under way is offered a segment less a part early, and not whole": (c) => c.mpds.forEach((mpd) => {
    const [list] = lists(c)[0];
    for (const [, offset, complete] of mpd.matchAll(/availabilityTimeOffset="([\d.]+)" availabilityTimeComplete="(\w+)"/g)) {
      assert.equal(complete, "false");
      assert.ok(Number(offset) > 0 && Number(offset) < Number(list.tags["EXT-X-TARGETDURATION"]) + 0.5, mpd);
    }
  }),
  "5.8.4.11 UTCTiming http-xsdate and http-iso, from the edge itself": (c) => c.mpds.forEach((mpd) => {
    const found = [...mpd.matchAll(/^<UTCTiming schemeIdUri="urn:mpeg:dash:utc:([^"]*)" value="([^"]*)"/gm)].map((m) => m.slice(1));
    assert.deepEqual(found, [["http-xsdate:2014", "../time"], ["http-iso:2014", "../time?iso"]]);
  }),
  "DASH-IF low latency: Latency@target, ProducerReferenceTime in band, Resync": (c) => c.mpds.forEach((mpd) => {
    const reference = attribute(mpd, "Latency", "referenceId");
    assert.ok(Number(attribute(mpd, "Latency", "target")) > 0 && mpd.includes(`<ProducerReferenceTime id="${reference}" inband="true"`), mpd);
    const ids = [...mpd.matchAll(/<ProducerReferenceTime id="(\d+)"/g)].map((m) => m[1]);
    assert.equal(new Set(ids).size, ids.length, mpd);
    assert.ok(mpd.includes("<Resync "), mpd);
  }),
  "5.3.2 a new period begins where its first segment does": (c) => {
    for (const period of c.mpds.flatMap(periods)) {
      for (const [, id, text] of period.text.matchAll(/<Representation id="(\w+)"([^]*?)<\/Representation>/g)) {
        const first = segmentsOf(c.tracks[id]).find((s) => s.msn === Number(attribute(text, "SegmentTemplate", "startNumber")) && !s.gap);
        const scale = Number(attribute(text, "SegmentTemplate", "timescale"));
        if (first) near(chunks(c.tracks[id].bodies.get(first.uri))[0].tfdt / scale, period.start, 0.12, `${c.name}/${id}`);
      }
    }
  },
  "DASH-IF live 4.6 the end: the last period has a duration, up to the last medium": (c) => {
    for (const mpd of [c.mpds.at(-1), c.late]) {
      assert.ok(mpd.includes('type="static"'), mpd);
      const length = xsSeconds(attribute(mpd, "MPD", "mediaPresentationDuration"));
      const ends = tracks(c).map((track) => {
        const s = segmentsOf(track).filter((x) => !x.gap).at(-1);
        const scale = timescale(track.bodies.get(s.map));
        return chunks(track.bodies.get(s.uri)).map(({ tfdt, samples }) => {
          let time = tfdt;
          const shown = samples.map(({ duration, offset }) => (time += duration) + offset);
          return { decoded: time / scale, shown: Math.max(...shown) / scale };
        });
      }).flat();
      const latest = (key) => Math.max(...ends.map((end) => end[key]));
      // A picture may be shown behind its segment's number's time, but there is no segment more.
      const [whole, scale] = ["duration", "timescale"].map((name) => Number(attribute(mpd, "SegmentTemplate", name)));
      const parts = (length - periods(mpd).at(-1).start) * scale / whole;
      const full = Math.abs(parts - Math.round(parts)) < 0.001;
      assert.ok(length <= latest("decoded") + 0.3 && (full || length > latest("shown") - 0.001), `${c.name}: ${length} of ${JSON.stringify(ends.at(-1))}`);
    }
  },
};

const PARSERS = {
  "hls-parser, strict": (c) => {
    HLS.setOptions({ strictMode: true });
    for (const text of [c.index, ...lists(c).map(([list]) => list.text), ...tracks(c).flatMap((t) => t.deltas.map(({ list }) => list.text))]) {
      // "SHOULD be removed": an ended playlist keeps the parts of the last media for hls.js, however long the gap after them.
      const read = text.includes("#EXT-X-ENDLIST") ? text.replace(/^#EXT-X-PART:.*\n/gm, "") : text;
      try {
        HLS.parse(read);
      } catch (error) {
        assert.fail(`${c.name}: ${error.message}\n${text}`);
      }
    }
  },
  "m3u8-parser": (c) => {
    for (const text of [c.index, ...lists(c).map(([list]) => list.text)]) {
      const parser = new Parser();
      parser.on("warn", ({ message }) => assert.fail(`${c.name}: ${message}\n${text}`));
      parser.push(text);
      parser.end();
    }
  },
  "mpd-parser": (c) => {
    for (const mpd of [...c.mpds, c.late]) {
      const manifest = parseMpd(mpd, { manifestUri: `${c.base}/manifest.mpd`, eventHandler: ({ type, message }) => assert.fail(`${c.name} ${type}: ${message}\n${mpd}`) });
      const audio = Object.values(manifest.mediaGroups.AUDIO.audio ?? {});
      assert.ok(manifest.playlists.length + audio.length > 0, mpd);
    }
  },
};

/** By its source, the rows by their clauses. */
export const RULES = { "rfc8216bis": HLS_RULES, "Apple's authoring rules": APPLE_RULES, "CMAF (23000-19)": CMAF_RULES, "DASH (23009-1)": DASH_RULES, "independent parsers": PARSERS };
