// The WebAssembly client with wrong arguments, ids with zero bytes, and ids beyond 2^53: node calls.mjs CLIENT BUNDLE
// BUNDLE-WITH-NUMBERS. Prints two rankings.
import assert from "node:assert";
import { readdirSync, readFileSync } from "node:fs";

const [client, bundle, numbers] = process.argv.slice(2);
const { Recommender } = await import(`${client}/index.mjs`);
const filesIn = (folder) =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, new Uint8Array(readFileSync(`${folder}/${name}`))]));
const recommender = await Recommender.open(filesIn(bundle));
for (const files of [{ weights: null }, { weights: {} }, { weights: { file: 1, sha256: "" } }, "weights", null]) {
  const manifest = JSON.parse(new TextDecoder().decode(filesIn(bundle)["manifest.json"]));
  const damaged = new TextEncoder().encode(JSON.stringify({ ...manifest, files }));
  globalThis.fetch = async () => new Response(damaged);
  for (const open of [() => Recommender.open({ ...filesIn(bundle), "manifest.json": damaged }), () => Recommender.fetch("/bundle")]) {
    await assert.rejects(open, (error) => !(error instanceof TypeError) && /manifest.json/.test(error.message));
  }
}
for (const k of [-1, 0, NaN, 1.5, "7", 1e300]) {
  assert.throws(() => recommender.recommend(["é-1"], { k }), /^Error: k must be/);
}
for (const at of [-1, NaN, 1e300, 0.5, new Date(NaN), null, "", true]) {
  assert.throws(() => recommender.recommend(["é-1"], { at }), /^Error: at must be/);
}
assert.throws(() => recommender.recommend(["é-1\0x"]), /zero byte/);
assert.throws(() => recommender.recommend(["é-1"], { exclude: ["\0"] }), /zero byte/);
recommender.recommend(["é-1"], { at: new Date(), k: 2 ** 40 });
console.log(JSON.stringify(recommender.recommend(["é-1"], { k: 8 }).items));
recommender.close();
assert.throws(() => recommender.recommend([]), /closed/);
const large = await Recommender.open(filesIn(numbers));
const { items, fallback } = large.recommend([2n ** 60n + 1n], { k: 8 });
assert.ok(!fallback);
console.log(JSON.stringify(items.map(String)));
assert.ok(items.every((id) => typeof id === (id >= -(2 ** 53) && id <= 2 ** 53 ? "number" : "bigint")));
for (const wrong of [2 ** 53, -(2 ** 60), 1.5, NaN]) {
  assert.throws(() => large.recommend([wrong]), /^Error: an id is a text, a BigInt or a whole number below 2\^53/);
  assert.throws(() => large.recommend([5], { exclude: [wrong] }), /^Error: an id is/);
}
assert.throws(() => large.recommend([2n ** 64n]), /the catalog's ids are numbers/);
assert.ok(large.recommend([2n ** 63n - 1n]).items.length > 0);
assert.deepStrictEqual(large.recommend([2n ** 64n, 5]).items, large.recommend([5]).items);
