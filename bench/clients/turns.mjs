// As turns.c: turns.mjs CLIENT BUNDLE AT SESSIONS.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [client, folder, at, path] = process.argv.slice(2);
const { open } = await import(`${client}/index.mjs`);
const shop = open(folder);
const idOf = shop.info.ids === "text" ? String : Number;
const sessions = readFileSync(path, "utf8").trimEnd().split("\n").map((line) => line.split(" ").map(idOf));
const options = { at: Number(at) };
console.log("ready");
createInterface({ input: process.stdin }).on("line", (line) => {
  const [what, begin, count] = line.split(" ");
  if (what === "answer") return console.log(shop.recommend(sessions[begin], options).items.join(" "));
  const taken = [];
  for (let i = Number(begin); i < Number(begin) + Number(count); ++i) {
    const session = sessions[i % sessions.length];
    const start = process.hrtime.bigint();
    shop.recommend(session, options);
    taken.push(process.hrtime.bigint() - start);
  }
  console.log(taken.join(" "));
});
