// Every call of the Node client: node calls.js CLIENT BUNDLE LOG. Prints three rankings.
"use strict";

const assert = require("node:assert");

const [client, bundle, folder] = process.argv.slice(2);
const mtaw = require(client);

const shop = mtaw.open(bundle, { verify: false, map: true });
assert.strictEqual(shop.info.ids, "text");
assert.ok(mtaw.version && mtaw.instructionSet);
const filter = shop.filter({ exclude: ["sku-2"] });
console.log(shop.recommend(["sku-1"], { k: 6, filter, excludeSeen: true }).items.join(" "));
console.log(shop.similar("sku-1", { k: 4, by: "sessions" }).items.join(" "));
const rules = shop.rules({ filter: { compare: "<", left: { column: "price" }, right: { value: 8 } } });
console.log(shop.recommend(["sku-1"], { k: 5, rules }).items.join(" "));
assert.deepStrictEqual(shop.recommend(["sku-1"], { allow: [] }).items, []);
assert.deepStrictEqual(shop.recommend(["sku-1", "nobody"]).unknown, [1]);
assert.ok(shop.recommend([]).fallback);
assert.throws(() => shop.recommend(["sku-1"], { k: 0 }), /k must be/);
assert.throws(() => shop.recommend([1.5]), /an id is/);
assert.throws(() => shop.recommend([7]), (error) => error instanceof mtaw.MtawError && error.status === "usage");
assert.throws(() => mtaw.open("/nowhere"), (error) => error.status === "bundle" && /manifest.json/.test(error.message));
const log = mtaw.EventLog.open(folder);
const first = log.append({ session: "s", item: "sku-1", type: "view", context: { referrer: "mail" } });
assert.ok(first < log.append({ session: "s", item: "sku-2", id: "e-1", time: Date.now() }, { session: "t", item: 5n }));
assert.match(log.forget("s"), /^[0-9]{10}-[0-9]{12}$/);
const visit = shop.session("sku-1");
for (const one of [filter, rules, log, shop]) one.close();
assert.throws(() => shop.recommend([]), /closed/);
assert.strictEqual(visit.click("sku-4").recommend({ k: 3 }).items.length, 3);
visit.close();
