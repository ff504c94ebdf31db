// Prometheus itself takes /metrics: its linter has nothing to say of it, and its server scrapes it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { ask, startDemo, TARGET } from "./lib/damson.mjs";
import { unlessStarved } from "./lib/machine.mjs";
import { Child, scope } from "./lib/process.mjs";

test("Prometheus takes the metrics of a node that plays", { timeout: 300_000 }, (t) => unlessStarved(t, () => scope(async (use) => {
  const { page: edge } = await startDemo(use, ["--edges", "2"]);
  // Something of each kind, so that each family has members; one of them has to wait.
  const playlist = await ask(`${edge}/demo/video/playlist.m3u8`, (r, text) => r.ok && /#EXTINF/.test(text) && /PRELOAD-HINT/.test(text) && text);
  const [, hint] = /PRELOAD-HINT:TYPE=PART,URI="([^"]+)"/.exec(playlist);
  const [, segment] = /\n(\d+\.m4s)\n/.exec(playlist);
  for (const path of ["index.m3u8", "manifest.mpd", "video/init.0.mp4", `video/${segment}`, `video/${hint}`, "nothing/here"]) {
    await (await fetch(new URL(path, `${edge}/demo/`))).arrayBuffer();
  }

  const metrics = await ask(`${edge}/metrics`);
  for (const name of ["hop_transit_seconds_bucket", "part_age_seconds_bucket", "request_send_seconds_bucket", "http_requests_total"]) {
    assert.match(metrics, new RegExp(`^damson_${name}\\{`, "m"));
  }
  const linted = spawnSync(program("promtool"), ["check", "metrics"], { input: metrics, encoding: "utf8" });
  assert.equal(`${linted.stdout}${linted.stderr}`, "", "promtool finds nothing");
  assert.equal(linted.status, 0);
  const broken = spawnSync(program("promtool"), ["check", "metrics"], { input: metrics.replace("# HELP damson_parts_total", "# OTHER"), encoding: "utf8" });
  assert.notEqual(broken.status, 0, "it would find something");

  const dir = await mkdtemp(join(tmpdir(), "damson-prometheus-"));
  use({ close: () => rm(dir, { recursive: true, force: true }) });
  await writeFile(join(dir, "prometheus.yml"), `
global: { scrape_interval: 1s }
scrape_configs: [{ job_name: damson, static_configs: [{ targets: ["${new URL(edge).host}"] }] }]
`);
  const at = `127.0.0.1:${await freePort()}`;
  use(new Child("prometheus", program("prometheus"), [
    `--config.file=${join(dir, "prometheus.yml")}`, `--storage.tsdb.path=${join(dir, "data")}`, `--web.listen-address=${at}`,
  ]));
  const api = async (path, accept) => ask(`http://${at}/api/v1/${path}`, (r, text) => r.ok && accept(JSON.parse(text).data), 30_000);
  const target = await api("targets", ({ activeTargets: [t] }) => t && t.health !== "unknown" && t);
  assert.deepEqual([target.health, target.lastError], ["up", ""]);
  const value = (query) => api(`query?query=${encodeURIComponent(query)}`, ({ result: [first] }) => first && Number(first.value[1]));
  assert.ok(await value("damson_parts_total") > 0);
  assert.ok(await value("histogram_quantile(0.5, sum by (le) (damson_hop_transit_seconds_bucket))") > 0);
  // A unit is known of what was read as OpenMetrics alone.
  const known = await api("metadata?metric=damson_part_age_seconds", (found) => found.damson_part_age_seconds?.[0]);
  assert.deepEqual([known.type, known.unit], ["histogram", "seconds"]);
})));

/** Prometheus' programs, where `tests/run.sh setup` lays them, or as they are installed. */
function program(name) {
  const places = [join(TARGET, "prometheus/usr/bin"), ...(process.env.PATH ?? "").split(delimiter)];
  const found = places.map((place) => join(place, name)).find((path) => existsSync(path));
  if (!found) throw new Error(`${name} isn't here: tests/run.sh setup fetches it (or install Prometheus)`);
  return found;
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
