// Makes the calls of tests/clients/calls.py with a client for JavaScript: node ask.mjs CLIENT BUNDLE. Each line of the input
// is a call, each line of the output its answers or its error, and how many milliseconds it took.
import { readdirSync, readFileSync, writeSync } from "node:fs";

const [client, bundle] = process.argv.slice(2);
const mtaw = await import(`${client}/index.mjs`);
const filesIn = (folder) => Object.fromEntries(readdirSync(folder).map((name) => [name, new Uint8Array(readFileSync(`${folder}/${name}`))]));
const opened = mtaw.open ?? ((folder, options) => mtaw.Recommender.open(filesIn(folder), options));
const started = performance.now();
let shop;
try {
  shop = await opened(bundle);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
console.error(`opened in ${Math.round(performance.now() - started)} ms`);

// What calls prepare, by its JSON.
const prepared = new Map();
function ready(what, given) {
  const key = `${what} ${JSON.stringify(given)}`;
  if (!prepared.has(key)) prepared.set(key, shop[what](given));
  return prepared.get(key);
}

function optionsOf(given, raw) {
  if (raw || given?.constructor !== Object) return given;
  const options = { ...given };
  for (const what of ["filter", "rules"]) if (what in options) options[what] = ready(what, options[what]);
  return options;
}

function grown(session, options) {
  const half = Math.floor(session.length / 2);
  const visit = shop.session(...session.slice(0, half));
  visit.recommend(options.types === undefined ? options : { ...options, types: options.types.slice(0, half) });
  const answer = visit.click(...session.slice(half)).recommend(options);
  visit.close();
  return answer;
}

async function asked({ call, session, sessions, item, folder, events, options, raw }) {
  const given = call === "open" ? options : optionsOf(options, raw);
  const begin = performance.now();
  const found = await {
    recommend: () => [shop.recommend(session, given)],
    batch: () => shop.recommendBatch(sessions, given),
    session: () => [grown(session, given)],
    similar: () => [shop.similar(item, given)],
    open: async () => (await opened(folder, given)).close() ?? [],
    log: () => mtaw.openLog(folder).append(...events) && [],
    info: () => [shop.info],
  }[call]();
  return { answers: found, ms: performance.now() - begin };
}

const plain = ({ scores, ...rest }) => (scores === undefined ? rest : { ...rest, bits: Array.from(new Uint32Array(scores.buffer)) });
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  let found;
  try {
    const { answers, ms } = await asked(JSON.parse(line));
    found = { answers: answers.map(plain), ms };
  } catch (error) {
    found = error instanceof mtaw.MtawError ? { error: error.message, status: error.status } : { thrown: String(error.stack) };
  }
  const text = JSON.stringify(found, (_, value) => (typeof value === "bigint" ? String(value) : value));
  for (let rest = Buffer.from(`${text}\n`); rest.length > 0; ) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error; // the reader of the pipe is behind
    }
  }
}
