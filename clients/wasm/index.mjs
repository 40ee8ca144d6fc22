// Ranks the next items of a session in a page, a worker or Node, with an mtaw_fast bundle. index.d.ts describes it.
import create from "./dist/mtaw.mjs";

const MOST = 2 ** 31 - 1; // items that a catalog can have
const MANIFEST = "manifest.json";
const FOLDER = "/bundle"; // each bundle has a module, and files, of its own

/** The files that a bundle's manifest names, and the manifest itself. */
export function filesOf(manifest) {
  return [MANIFEST, ...Object.values(manifest.files).map((one) => one.file)];
}

/** The entries of a manifest's files; null if it is damaged, and then libmtaw says how. */
function entriesOf(manifest) {
  const isText = (one) => typeof one === "string";
  try {
    const entries = Object.values(JSON.parse(new TextDecoder().decode(manifest)).files);
    return entries.every((one) => isText(one?.file) && isText(one.sha256)) ? entries : null;
  } catch {
    return null;
  }
}

/** Check the hashes of a bundle's files with the browser's SHA-256, which is faster than ours. False if it has none. */
async function checked(files) {
  const subtle = globalThis.crypto?.subtle; // not in a page without HTTPS
  const manifest = files[MANIFEST];
  if (subtle === undefined || manifest === undefined) return false;
  const entries = entriesOf(manifest);
  if (entries === null) return false;
  await Promise.all(entries.map(async ({ file, sha256 }) => {
    if (files[file] === undefined) throw new Error(`${file} is missing; the manifest names it`);
    const digest = new Uint8Array(await subtle.digest("SHA-256", files[file]));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (hex !== sha256) throw new Error(`${file} is damaged (its SHA-256 differs); download the bundle again`);
  }));
  return true;
}

export class Recommender {
  #module;
  #recommender;

  constructor(module, recommender) {
    this.#module = module;
    this.#recommender = recommender;
  }

  static async open(files, { verify = true } = {}) {
    const [module, isChecked] = await Promise.all([create(), verify && checked(files)]);
    module.FS.mkdir(FOLDER);
    for (const [name, bytes] of Object.entries(files)) module.FS.writeFile(`${FOLDER}/${name}`, bytes);
    const path = copied(module, FOLDER);
    const recommender = module._mtaw_js_open(path, verify && !isChecked ? 1 : 0);
    module._free(path);
    for (const name of Object.keys(files)) module.FS.unlink(`${FOLDER}/${name}`); // libmtaw has copied them
    if (recommender === 0) throw new Error(module.UTF8ToString(module._mtaw_js_error()));
    return new Recommender(module, recommender);
  }

  static async fetch(url, options) {
    const base = url.endsWith("/") ? url : `${url}/`;
    const get = async (name) => {
      const answer = await fetch(base + name);
      if (!answer.ok) throw new Error(`${base}${name}: ${answer.status} ${answer.statusText}`);
      return new Uint8Array(await answer.arrayBuffer());
    };
    const manifest = await get(MANIFEST);
    const entries = entriesOf(manifest) ?? [];
    const parts = await Promise.all(entries.map(async ({ file }) => [file, await get(file)]));
    return Recommender.open({ [MANIFEST]: manifest, ...Object.fromEntries(parts) }, options);
  }

  recommend(session, { k = 20, exclude = [], excludeSeen = false, types = [], at = Date.now() } = {}) {
    if (this.#recommender === 0) throw new Error("the recommender is closed");
    if (!Number.isSafeInteger(k) || k < 1) throw new Error(`k must be a whole number of at least 1, not ${k}`);
    const moment = at?.valueOf(); // of a Date too; Number() makes 0 of null
    if (!Number.isSafeInteger(moment) || moment < 0) throw new Error(`at must be a Date or whole Unix milliseconds, not ${at}`);
    const most = Math.min(k, MOST);
    const module = this.#module;
    const texts = [joined(session), joined(exclude), joined(types.map((one) => one ?? ""))];
    const [clicks, left, kinds] = texts.map((one) => copied(module, one));
    const answer = module._mtaw_js_recommend(
      this.#recommender, clicks, session.length, left, exclude.length, kinds, types.length, most, excludeSeen ? 1 : 0, moment,
    );
    module._free(clicks);
    module._free(left);
    module._free(kinds);
    if (answer === 0) throw new Error(module.UTF8ToString(module._mtaw_js_error()));
    const n = module._mtaw_js_n(answer);
    const first = module._mtaw_js_scores(answer) >> 2;
    const items = [];
    for (let i = 0; i < n; i++) {
      const id = module._mtaw_js_text(answer, i);
      items.push(id === 0 ? numberOf(module, answer, i) : decode(module, id, module._mtaw_js_size(answer, i)));
    }
    const found = { items, scores: module.HEAPF32.slice(first, first + n), fallback: module._mtaw_js_fallback(answer) === 1 };
    module._mtaw_js_free(answer);
    return found;
  }

  close() {
    this.#module._mtaw_js_close(this.#recommender);
    this.#recommender = 0;
  }
}

/** The answer's i-th id, exactly: a BigInt where a number would be rounded. */
function numberOf(module, answer, i) {
  const number = module._mtaw_js_number(answer, i);
  if (Number.isSafeInteger(number)) return number;
  return (BigInt(module._mtaw_js_high(answer, i)) << 32n) + BigInt(module._mtaw_js_low(answer, i) >>> 0);
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const decode = (module, pointer, size) => decoder.decode(module.HEAPU8.slice(pointer, pointer + size));

/** The ids or types in one text, each with a zero byte at its end. */
function joined(ids) {
  // Beyond 2^53 a number may have been rounded, and be another item's id.
  const wrong = ids.find((one) => typeof one === "number" && !Number.isSafeInteger(one));
  if (wrong !== undefined) throw new Error(`an id is a text, a BigInt or a whole number below 2^53, not ${wrong}`);
  const texts = ids.map(String);
  if (texts.some((one) => one.includes("\0"))) throw new Error("an id or type has a zero byte; leave it out");
  return texts.map((one) => `${one}\0`).join("");
}

/** Copy a text into the module's memory; the caller frees it. */
function copied(module, text) {
  const size = module.lengthBytesUTF8(text) + 1;
  const pointer = module._malloc(size);
  module.stringToUTF8(text, pointer, size);
  return pointer;
}
