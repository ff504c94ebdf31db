// Glass to glass, read by machine from the picture: from a frame's making to its being shown, three hops away.
//
//   node tests/browser/glass.mjs [SECONDS] [PLAYER,PLAYER…]      (a release build; `damson-bench glass` starts it)
//
// Each player in its turn is given SETTLE_S to find its place. Beside what the eye sees: what the account of the parts and the
// player's wait make, what the player has in its buffer, and what the relay has added to the part on screen, from its last frame's
// arrival at the ingest to the edge.
import { launch, openPage, SMALL, stats, untilPlaying } from "./lib/browser.mjs";
import { binary, startLine, pushTimecode, untilLive } from "./lib/damson.mjs";
import { watchMachine } from "./lib/machine.mjs";
import { scope } from "./lib/process.mjs";

const seconds = Number(process.argv[2] ?? 60);
const players = (process.argv[3] ?? "hls,shaka-hls,shaka-dash,dash").split(",");
const SETTLE_S = 15;
const STREAM = "timecode";

const middle = (values) => values.filter(Number.isFinite).sort((a, b) => a - b)[values.length >> 1] ?? NaN;

const row = (cells) => console.log(`| ${cells.join(" | ")} |`);

await scope(async (use) => {
  console.log(`${binary()}: ${seconds} s of each player, parts of 0.2 s, GOPs of 1 s, three hops\n`);
  const nodes = await startLine(use, ["a", "b", "c", "d"]);
  pushTimecode(use, `${nodes[0].rtmp}/${STREAM}`);
  await untilLive(nodes[3].http, STREAM);
  const browser = use(await launch());
  const columns = ["player", "glass to glass p50 s", "p99", "account and wait s", "frames read", "unread", "buffer s", "relay ms", "stalls", "machine"];
  row(columns);
  row(columns.map(() => "---"));
  for (const player of players) {
    const page = await openPage(browser, nodes[3].http, { stream: STREAM, player, timecode: "1" }, SMALL);
    await untilPlaying(page, { timeout: 30_000, steady: SETTLE_S });
    await page.evaluate(() => window.damson.mark());
    const machine = watchMachine();
    const [buffers, relays, accounts] = [[], [], []];
    for (let i = 1; i <= seconds; i += 1) {
      await page.waitForFunction((s) => window.damson.stats().seconds >= s, i, { polling: 100 });
      const s = await stats(page);
      buffers.push(s.buffer);
      relays.push(s.trace?.age_us / 1000);
      accounts.push(s.stagesSum ?? NaN);
    }
    const glass = await page.evaluate((seconds) => window.damson.timecode.stats(seconds), seconds);
    const { stalls } = await stats(page);
    const { idle, stolen } = machine.seen();
    row([
      player, glass?.p50.toFixed(2), glass?.p99.toFixed(2), middle(accounts).toFixed(2), glass?.frames, glass?.unread,
      middle(buffers).toFixed(2), middle(relays).toFixed(1), stalls, `idle ${idle}, stolen ${stolen}`,
    ]);
    await page.context().close();
  }
});
process.exit(0); // keep-alive sockets to servers that are gone
