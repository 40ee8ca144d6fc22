// Ranks the next items of a session: node example.mjs BUNDLE ITEM..
import * as mtaw from "./index.mjs"; // or "mtaw"

const [folder, ...items] = process.argv.slice(2);
const shop = mtaw.open(folder);
const ids = shop.info.ids === "number" ? items.map(Number) : items;
const answer = shop.session(...ids).recommend({ k: 5, excludeSeen: true });
answer.items.forEach((item, index) => {
  console.log(`${index + 1}  ${String(item).padEnd(16)} ${answer.scores[index].toFixed(4)}`);
});
shop.close();
