// Prints the age of a part's last frame when a client has it, at the ingest's own edge and three hops away.
//
//   node tests/browser/latency.mjs [PARTS]      (a release build, on a machine that does nothing else)
//
// The floor is one frame (33 ms at 30 fps): RTMP tells that a frame was a part's last only when the next one comes.
import { partAges, pushAndListen, quantiles } from "./lib/age.mjs";
import { binary, startLine, untilLive } from "./lib/damson.mjs";
import { scope } from "./lib/process.mjs";

const parts = Number(process.argv[2] ?? 100);

await scope(async (use) => {
  console.log(`${binary()}, ${parts} parts each`);
  const nodes = await startLine(use, ["a", "b", "c", "d"]);
  const frames = pushAndListen(use, `${nodes[0].rtmp}/cam1`);
  await untilLive(nodes[3].http, "cam1");
  for (const [hops, node] of [[0, nodes[0]], [3, nodes[3]], [0, nodes[0]], [3, nodes[3]]]) {
    const { p50, p99, n } = quantiles(await partAges(`${node.http}/cam1/video/playlist.m3u8`, frames, parts));
    console.log(`${hops} hops: p50 ${p50} ms, p99 ${p99} ms (${n} parts)`);
  }
});
process.exit(0); // keep-alive sockets to servers that are gone
