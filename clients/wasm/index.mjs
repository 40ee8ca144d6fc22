// Ranks the next items of a session in a page, a worker or Node, with an mtaw_fast bundle. index.d.ts describes it.
import create from "./dist/mtaw.mjs";

const MANIFEST = "manifest.json";
let bundles = 0;

/** The files that a bundle's manifest names, and the manifest itself. */
export function filesOf(manifest) {
  return [MANIFEST, ...Object.values(manifest.files).map((one) => one.file)];
}

export class Recommender {
  #module;
  #shop;

  constructor(module, shop) {
    this.#module = module;
    this.#shop = shop;
  }

  static async open(files, { verify = true } = {}) {
    const module = await create();
    const folder = `/bundle-${bundles++}`;
    module.FS.mkdir(folder);
    for (const [name, bytes] of Object.entries(files)) module.FS.writeFile(`${folder}/${name}`, bytes);
    const path = text(module, [folder]);
    const shop = module._page_open(path, verify ? 1 : 0);
    module._free(path);
    for (const name of Object.keys(files)) module.FS.unlink(`${folder}/${name}`); // libmtaw has copied them
    if (shop === 0) throw new Error(module.UTF8ToString(module._page_error()));
    return new Recommender(module, shop);
  }

  static async fetch(url, options) {
    const base = url.endsWith("/") ? url : `${url}/`;
    const get = async (name) => {
      const answer = await fetch(base + name);
      if (!answer.ok) throw new Error(`${base}${name}: ${answer.status} ${answer.statusText}`);
      return new Uint8Array(await answer.arrayBuffer());
    };
    const manifest = await get(MANIFEST);
    const names = filesOf(JSON.parse(new TextDecoder().decode(manifest))).slice(1);
    const parts = await Promise.all(names.map(async (name) => [name, await get(name)]));
    return Recommender.open({ [MANIFEST]: manifest, ...Object.fromEntries(parts) }, options);
  }

  recommend(session, { k = 20, exclude = [], excludeSeen = false, at = Date.now() } = {}) {
    if (this.#shop === 0) throw new Error("the recommender is closed");
    const module = this.#module;
    const clicks = text(module, session);
    const left = text(module, exclude);
    const answer = module._page_recommend(
      this.#shop, clicks, session.length, left, exclude.length, k, excludeSeen ? 1 : 0, at,
    );
    module._free(clicks);
    module._free(left);
    if (answer === 0) throw new Error(module.UTF8ToString(module._page_error()));
    const n = module._page_n(answer);
    const first = module._page_scores(answer) >> 2;
    const items = [];
    for (let i = 0; i < n; i++) {
      const id = module._page_text(answer, i);
      items.push(id === 0 ? module._page_number(answer, i) : module.UTF8ToString(id));
    }
    const found = { items, scores: module.HEAPF32.slice(first, first + n), fallback: module._page_fallback(answer) === 1 };
    module._page_free(answer);
    return found;
  }

  close() {
    this.#module._page_close(this.#shop);
    this.#shop = 0;
  }
}

/** Copy ids into the module's memory, each with a zero byte at its end; the caller frees them. */
function text(module, ids) {
  const joined = ids.map((one) => `${one}\0`).join("");
  const size = module.lengthBytesUTF8(joined) + 1;
  const place = module._malloc(size);
  module.stringToUTF8(joined, place, size);
  return place;
}
