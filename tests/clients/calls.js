// Every call of the Node client: node calls.js CLIENT BUNDLE LOG BUNDLE-WITH-ZERO-BYTES-IN-IDS. Prints three rankings,
// and the reasons of a fourth as JSON.
"use strict";

const assert = require("node:assert");

const [client, bundle, folder, withZeros] = process.argv.slice(2);
const koffi = require(require.resolve("koffi", { paths: [client] }));
const makeArray = koffi.array;
let arrays = 0;
koffi.array = (...given) => {
  arrays += 1;
  return makeArray(...given);
};
const mtaw = require(client);
delete require.cache[require.resolve(client)];
assert.notStrictEqual(require(client), mtaw); // as tools load a changed program again

const shop = mtaw.open(bundle, { verify: false, map: true });
assert.strictEqual(shop.info.ids, "text");
assert.ok(mtaw.version && mtaw.instructionSet);
const filter = shop.filter({ exclude: ["sku-2"] });
console.log(shop.recommend(["sku-1"], { k: 6, filter, excludeSeen: true }).items.join(" "));
console.log(shop.similar("sku-1", { k: 4, by: "sessions" }).items.join(" "));
const rules = shop.rules({ filter: { compare: "<", left: { column: "price" }, right: { value: 8 } } });
console.log(shop.recommend(["sku-1"], { k: 5, rules }).items.join(" "));
const { reasons } = shop.recommend(["sku-1", "sku-7"], { k: 90, reasons: true, types: ["view", null] });
console.log(JSON.stringify(reasons));
// koffi never frees an array's type: a call that was made before makes none.
const made = arrays;
shop.recommend(["sku-1", "sku-7"], { k: 90, reasons: true });
assert.strictEqual(arrays, made);
assert.ok(!("reasons" in shop.recommend(["sku-1"])) && !("reasons" in shop.recommend([], { reasons: true })));
assert.throws(() => shop.recommend(["sku-1"], { types: [] }), /0 types for 1 clicks/);
assert.deepStrictEqual(shop.recommend(["sku-1"], { allow: [] }).items, []);
assert.deepStrictEqual(shop.recommend(["sku-1", "nobody"]).unknown, [1]);
assert.ok(shop.recommend([]).fallback);
assert.throws(() => shop.recommend(["sku-1"], { k: 0 }), /k must be/);
assert.throws(() => shop.recommend([1.5]), /an id is/);
assert.throws(() => shop.recommend([7]), (error) => error instanceof mtaw.MtawError && error.status === "usage");
assert.throws(() => shop.recommend([2n ** 63n]), /an id is/);
for (const at of [new Date(NaN), NaN, 1e300, 0.5, "", true, []]) {
  assert.throws(() => shop.recommend(["sku-1"], { at }), { status: "usage", message: /^at must be a Date or whole/ });
}
const zero = { status: "usage", message: /zero byte/ };
assert.throws(() => shop.recommend(["sku-1\0x"]), zero);
assert.throws(() => shop.recommend(["sku-1"], { context: { region: "a\0b" } }), zero);
assert.throws(() => mtaw.open(`${bundle}\0x`), zero);
assert.throws(() => mtaw.open("/nowhere"), (error) => error.status === "bundle" && /manifest.json/.test(error.message));
const log = mtaw.EventLog.open(folder);
const first = log.append({ session: "s", item: "sku-1", type: "view", context: { referrer: "mail" } });
assert.ok(first < log.append({ session: "s", item: "sku-2", id: "e-1", time: Date.now() }, { session: "t", item: 5n }));
for (const wrong of [{ session: "s\0t" }, { type: "view\0" }, { id: "\0" }, { item: "sku\0" }, { context: { "a\0": 1 } }]) {
  assert.throws(() => log.append({ session: "s", item: "sku-1", ...wrong }), zero);
}
assert.throws(() => log.forget("s\0t"), zero);
for (const time of [new Date(NaN), ""]) {
  assert.throws(() => log.append({ session: "s", item: "sku-1", time }), { message: /^time must be/ });
}
assert.match(log.forget("s"), /^[0-9]{10}-[0-9]{12}$/);
const zeros = mtaw.open(withZeros);
const { items: all } = zeros.recommend(["é-1"], { k: 8 });
assert.deepStrictEqual(new Set(all), new Set(Array.from({ length: 8 }, (_, place) => (place % 2 ? `é-${place}` : `a\0é-${place}`))));
zeros.close();
const visit = shop.session("sku-1");
for (const one of [filter, rules, log, shop]) one.close();
assert.throws(() => shop.recommend([]), /closed/);
assert.strictEqual(visit.click("sku-4").recommend({ k: 3 }).items.length, 3);
visit.close();
