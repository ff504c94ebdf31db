// Runs the tests, side by side where they don't measure time: each lane is one `node --test`, whose files run one after the other.
//
//   npm test      all of them; a file that no lane names runs in the last of the first lanes
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

/** Two players at a time; whoever waits for a minute; and the others, of one player at a time. */
const BESIDE = [["players", "across", "standing", "end"], ["seek"]];
/** What holds a time against the machine, or has more nodes and players than leave room for others. */
const ALONE = ["demo", "estimate", "failure", "glass", "hops", "ladder"];

const FOLDER = dirname(fileURLToPath(import.meta.url));
const all = readdirSync(FOLDER).filter((file) => file.endsWith(".test.mjs")).map((file) => file.slice(0, -".test.mjs".length)).sort();
const others = all.filter((name) => ![...BESIDE, ALONE].flat().includes(name));

/** Runs the files of a lane, and gives how they ended. The first lane is seen as it goes, the others at their end. */
function lane(names, n = 0) {
  const files = names.map((name) => `${name}.test.mjs`);
  const stdio = ["ignore", n ? "pipe" : "inherit", "inherit"];
  const child = spawn(process.execPath, ["--test", "--test-concurrency=1", ...files], { cwd: FOLDER, stdio });
  const said = [];
  child.stdout?.on("data", (chunk) => said.push(chunk));
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, said: Buffer.concat(said) })));
}

const began = performance.now();
const beside = await Promise.all([...BESIDE, others].map(lane));
for (const { said } of beside) process.stdout.write(said);
const alone = await lane(ALONE);
console.log(`${((performance.now() - began) / 1000).toFixed(0)} s in all`);
process.exitCode = [...beside, alone].some(({ code }) => code !== 0) ? 1 : 0;
