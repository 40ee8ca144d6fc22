// What calls.py cannot write as JSON, of a client for JavaScript: node objects.mjs CLIENT BUNDLE OTHER-BUNDLE. The ids of the
// other bundle have zero bytes, and those of NUMBERS are large.
import assert from "node:assert";
import { readdirSync, readFileSync } from "node:fs";

const [client, bundle, zeros, numbers] = process.argv.slice(2);
const mtaw = await import(`${client}/index.mjs`);
const again = await import(`${client}/index.mjs?again`); // as tools load a changed program again
assert.notStrictEqual(again, mtaw);
const filesIn = (folder) => Object.fromEntries(readdirSync(folder).map((name) => [name, new Uint8Array(readFileSync(`${folder}/${name}`))]));
const open = mtaw.open ?? ((folder, options) => mtaw.Recommender.open(filesIn(folder), options));
const usage = (message) => (error) => error instanceof mtaw.MtawError && error.status === "usage" && message.test(error.message);

const shop = await open(bundle);
const other = await open(bundle);
const at = new Date();
const first = shop.recommend(["sku-1"], { k: 3, at });
assert.deepStrictEqual(shop.recommend(new Set(["sku-1"]), { k: 3, at: at.valueOf(), exclude: undefined, allow: null }), first);
for (const wrong of [new Date(NaN), new Date("no date"), NaN, 1e300, 0.5, [], {}]) assert.throws(() => shop.recommend(["sku-1"], { at: wrong }), usage(/^at must be/));
shop.recommend(["sku-1"], { at: new Date(), k: 2 ** 40 });
for (const options of [new Map([["k", 3]]), () => 3, "k"]) assert.throws(() => shop.recommend(["sku-1"], options), usage(/options|must be an object/));
for (const wrong of [NaN, 2 ** 53, 2n ** 63n, -(2n ** 63n) - 1n, Symbol("a"), {}, "\ud800"]) assert.throws(() => shop.recommend([wrong]), usage(/^an id (is|has)/));
assert.throws(() => shop.rules(new Map()), usage(/^rules are an object/));
for (const what of ["filter", "rules"]) {
  const made = other[what]({});
  // Recommenders of one bundle in one library may share a filter.
  if (what === "rules" || mtaw.open === undefined) assert.throws(() => shop.recommend(["sku-1"], { [what]: made }), usage(/another|this recommender's/));
  made.close();
  assert.throws(() => other.recommend(["sku-1"], { [what]: made }), usage(/closed/));
}
const visit = shop.session("sku-1");
assert.throws(() => visit.click(["sku-1"]), usage(/an id is/));
shop.close();
shop.close();
for (const call of [() => shop.recommend([]), () => shop.info, () => shop.session(), () => shop.rules({}), () => shop.filter()]) assert.throws(call, usage(/^it is closed$/));
assert.strictEqual(visit.click("sku-4").recommend({ k: 3 }).items.length, 3);
visit.close();

if (mtaw.open === undefined) {
  const files = filesIn(bundle);
  for (const wrong of [{ weights: null }, { weights: {} }, { weights: { file: 1, sha256: "" } }, "weights", null]) {
    const manifest = JSON.parse(new TextDecoder().decode(files["manifest.json"]));
    const damaged = new TextEncoder().encode(JSON.stringify({ ...manifest, files: wrong }));
    globalThis.fetch = async () => new Response(damaged);
    for (const made of [() => mtaw.Recommender.open({ ...files, "manifest.json": damaged }), () => mtaw.Recommender.fetch("/bundle")]) {
      await assert.rejects(made, (error) => error instanceof mtaw.MtawError && /manifest.json/.test(error.message));
    }
  }
  for (const made of [() => mtaw.Recommender.open(null), () => mtaw.Recommender.open({ a: 5 }), () => mtaw.Recommender.open(files, { verifies: false }), () => mtaw.Recommender.fetch(5)]) {
    await assert.rejects(made, usage(/^files must be|there is no 'verifies'|url must be/));
  }
}

// Ids with zero bytes are read and looked up whole; numbers beyond 2^53 are BigInts.
const odd = await open(zeros);
const { items } = odd.recommend(["é-1"], { k: 8 });
assert.deepStrictEqual(new Set(items), new Set(Array.from({ length: 8 }, (_, place) => (place % 2 ? `é-${place}` : `a\0é-${place}`))));
assert.deepStrictEqual(odd.recommend(["a\0é-2", "a\0", "a"]).unknown, [1, 2]);
assert.deepStrictEqual(odd.recommend(["é-1"], { allow: ["a\0é-2"] }).items, ["a\0é-2"]);
const large = await open(numbers);
const all = large.recommend([2n ** 60n + 1n], { k: 8 });
assert.ok(!all.fallback && all.items.every((id) => typeof id === (id >= -(2 ** 53) && id <= 2 ** 53 ? "number" : "bigint")));
console.log(JSON.stringify([items, all.items.map(String)]));
assert.deepStrictEqual(large.recommend([2n ** 63n - 1n, -(2n ** 63n)]).unknown, []);
