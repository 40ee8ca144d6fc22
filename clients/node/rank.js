// Answers sessions of a bundle, for the comparison with the Python package: each line of the input is a JSON list of ids,
// each line of the output a list of items and a list of their scores' bits.
"use strict";

const { readFileSync, writeSync } = require("node:fs");
const mtaw = require("./index.js");

const BATCH = 512;
const [folder, at] = process.argv.slice(2);
const shop = mtaw.open(folder);
// Types of clicks in turn, the last one unknown.
const types = [...shop.info.clickTypes, null];
const typed = (...sessions) => ({ at: Number(at), types: sessions.flatMap((session) => session.map((_, index) => types[index % types.length])) });

function growing(session) {
  const visit = shop.session();
  session.forEach((item, position) => {
    visit.click(item);
    if (position === Math.floor(session.length / 2)) visit.recommend(typed(session.slice(0, position + 1)));
  });
  const answer = visit.recommend(typed(session));
  visit.close();
  return answer;
}

// In turn in batches, one by one and as growing sessions: all give the same.
const WAYS = [
  (sessions) => shop.recommendBatch(sessions, typed(...sessions)),
  (sessions) => sessions.map((session) => shop.recommend(session, typed(session))),
  (sessions) => sessions.map(growing),
];

const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
for (let begin = 0; begin < lines.length; begin += BATCH) {
  const sessions = lines.slice(begin, begin + BATCH).map((line) => JSON.parse(line));
  const answers = WAYS[(begin / BATCH) % 3](sessions);
  const text = answers.map(({ items, scores }) => {
    const bits = Array.from(new Uint32Array(scores.buffer, scores.byteOffset, scores.length));
    return JSON.stringify([items, bits], (_, value) => (typeof value === "bigint" ? Number(value) : value));
  });
  for (let rest = Buffer.from(`${text.join("\n")}\n`); rest.length > 0; ) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error; // the reader of the pipe is behind
    }
  }
}
shop.close();
