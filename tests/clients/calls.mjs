// The WebAssembly client with wrong arguments, and ids with zero bytes: node calls.mjs CLIENT BUNDLE. Prints a ranking.
import assert from "node:assert";
import { readdirSync, readFileSync } from "node:fs";

const [client, bundle] = process.argv.slice(2);
const { Recommender } = await import(`${client}/index.mjs`);
const files = readdirSync(bundle).map((name) => [name, new Uint8Array(readFileSync(`${bundle}/${name}`))]);
const recommender = await Recommender.open(Object.fromEntries(files));
for (const k of [-1, 0, NaN, 1.5, "7", 1e300]) {
  assert.throws(() => recommender.recommend(["é-1"], { k }), /^Error: k must be/);
}
for (const at of [-1, NaN, 1e300, 0.5, new Date(NaN)]) {
  assert.throws(() => recommender.recommend(["é-1"], { at }), /^Error: at must be/);
}
assert.throws(() => recommender.recommend(["é-1\0x"]), /zero byte/);
assert.throws(() => recommender.recommend(["é-1"], { exclude: ["\0"] }), /zero byte/);
recommender.recommend(["é-1"], { at: new Date(), k: 2 ** 40 });
console.log(JSON.stringify(recommender.recommend(["é-1"], { k: 8 }).items));
recommender.close();
assert.throws(() => recommender.recommend([]), /closed/);
