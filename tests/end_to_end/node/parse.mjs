// Parses one playlist a line (JSON strings on standard input) with hls-parser; says how many, and what it objected to.
import readline from "node:readline";
import HLS from "hls-parser";

HLS.setOptions({ strictMode: true });
const faults = [];
let parsed = 0;
for await (const line of readline.createInterface({ input: process.stdin })) {
  try {
    const playlist = HLS.parse(JSON.parse(line));
    if (playlist.isMasterPlaylist || !playlist.lowLatencyCompatibility) throw new Error("not a low-latency media playlist");
    parsed += 1;
  } catch (e) {
    if (faults.length < 5) faults.push(String(e));
  }
}
console.log(JSON.stringify({ parsed, faults }));
