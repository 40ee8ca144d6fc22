// node rank.mjs BUNDLE [AT]: reads sessions from stdin, a JSON array a line, or { session, types }, and prints the lists and the time of each
// call in milliseconds, and to stderr how long the bundle took to open. The tests compare the lists with Python's.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Recommender, filesOf } from "./index.mjs";

const [folder, at] = process.argv.slice(2);
const read = (name) => new Uint8Array(readFileSync(`${folder}/${name}`));
const names = filesOf(JSON.parse(readFileSync(`${folder}/manifest.json`, "utf8")));
const started = performance.now();
const recommender = await Recommender.open(Object.fromEntries(names.map((name) => [name, read(name)]))).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
console.error(`opened in ${Math.round(performance.now() - started)} ms`);
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const { session, types = [] } = Array.isArray(asked) ? { session: asked } : asked;
  const begin = performance.now();
  const { items, scores } = recommender.recommend(session, { types, at: at === undefined ? undefined : Number(at) });
  console.log(JSON.stringify({ items, scores: [...scores], ms: performance.now() - begin }));
}
