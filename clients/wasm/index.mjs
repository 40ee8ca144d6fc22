// Ranks the next items of a session in a page, a worker or Node, with an mtaw_fast bundle. index.d.mts describes it.
import * as core from "./dist/core.mjs";
import create from "./dist/mtaw.mjs";

const { FUNCTIONS, MtawError, STATUSES, STRUCTURES } = core;
const MANIFEST = "manifest.json";
const FOLDER = "/bundle"; // each bundle has a module, and files, of its own

// ---- Structures in the module's memory, whose pointers and sizes have 4 bytes

const SIZES = { size: 4, pointer: 4, text: 4, bytes: 4, int32: 4, uint32: 4, float: 4, int64: 8, version: 17 };
const LAYOUTS = {};
const sizeOf = (type) => (type.endsWith("*") ? 4 : SIZES[type]);
const alignOf = (type) => LAYOUTS[type]?.align ?? (type === "version" ? 1 : sizeOf(type));
const up = (offset, align) => Math.ceil(offset / align) * align;
for (const [structure, members] of Object.entries(STRUCTURES)) {
  let offset = 0;
  const fields = members.map(([name, type]) => {
    const at = up(offset, alignOf(type));
    offset = at + sizeOf(type);
    return { name, type, at };
  });
  const align = Math.max(...members.map(([, type]) => alignOf(type)));
  LAYOUTS[structure] = { fields, align };
  SIZES[structure] = up(offset, align);
}
const MESSAGE = 4; // offset in mtaw_error
const ERROR_SIZE = 1028;
const BLOCK = 1 << 14;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const asNumber = (value) => (Number.isSafeInteger(Number(value)) ? Number(value) : value);

// What core.mjs calls. The arguments of a call lie in blocks of memory that later calls use again.
class Library {
  #module;
  #view;
  #blocks = [];
  #current = 0;
  #used = 0;

  constructor(module) {
    this.#module = module;
  }

  // The memory, which is another array once it has grown.
  get #memory() {
    const { buffer } = this.#module.HEAPU8;
    return this.#view?.buffer === buffer ? this.#view : (this.#view = new DataView(buffer));
  }

  #take(size) {
    const wanted = up(size, 8);
    while (this.#current < this.#blocks.length && this.#used + wanted > this.#blocks[this.#current].size) {
      this.#current += 1;
      this.#used = 0;
    }
    if (this.#current === this.#blocks.length) {
      const room = Math.max(wanted, BLOCK);
      const begin = this.#module._malloc(room);
      if (begin === 0) throw new MtawError("no memory", "there is no memory left for the arguments");
      this.#blocks.push({ begin, size: room });
    }
    const found = this.#blocks[this.#current].begin + this.#used;
    this.#used += wanted;
    return found;
  }

  #string(text) {
    const at = this.#take(3 * text.length + 1);
    const { written } = encoder.encodeInto(text, this.#module.HEAPU8.subarray(at, at + 3 * text.length));
    this.#module.HEAPU8[at + written] = 0;
    return at;
  }

  #array(type, values) {
    if (values === null) return 0;
    const size = SIZES[type];
    const begin = this.#take(size * values.length);
    values.forEach((value, index) => this.#put(type, value, begin + size * index));
    return begin;
  }

  #structure(type, value) {
    const at = this.#take(SIZES[type]);
    this.#put(type, value, at);
    return at;
  }

  // A value as an argument of a function.
  #argument(type, value) {
    if (type.endsWith("*")) return this.#array(type.slice(0, -1), value);
    if (type === "text" || type === "bytes") return value === null ? 0 : this.#string(value);
    if (type === "filled info") return this.#structure("info", value);
    return type in LAYOUTS ? this.#structure(type, value) : Math.min(Number(value), 2 ** 31 - 1);
  }

  #put(type, value, at) {
    if (type in LAYOUTS) {
      for (const { name, type: part, at: offset } of LAYOUTS[type].fields) {
        if (value[name] !== undefined) this.#put(part, value[name], at + offset);
      }
    } else if (type === "int64") {
      this.#memory.setBigInt64(at, BigInt(value), true);
    } else {
      const number = this.#argument(type, value); // may let the memory grow
      this.#memory.setUint32(at, number, true);
    }
  }

  call(name, ...values) {
    this.#current = this.#used = 0;
    const types = FUNCTIONS[name];
    const last = types.at(-1);
    const count = last === "outs" ? values.pop() : 1;
    const given = values.map((value, index) => this.#argument(types[index], value));
    const out = last.startsWith("out") ? this.#take(4 * count) : given.at(-1);
    if (last.startsWith("out")) given.push(out);
    const error = this.#take(ERROR_SIZE);
    const status = this.#module[`_mtaw_${name}`](...given, error);
    if (status !== 0) throw new MtawError(STATUSES[status] ?? "unknown", this.#textAt(error + MESSAGE));
    if (last === "filled info") return this.one("info", out);
    const pointers = Array.from({ length: count }, (_, index) => this.#memory.getUint32(out + 4 * index, true));
    return last === "outs" ? pointers : pointers[0];
  }

  text(name, ...values) {
    return this.#textOrNull(this.#module[`_mtaw_${name}`](...values));
  }

  free(name, pointer) {
    this.#module[`_mtaw_${name}`](pointer);
  }

  sizeOf(structure) {
    return SIZES[structure];
  }

  #bytes(begin, size) {
    return decoder.decode(this.#module.HEAPU8.subarray(begin, begin + size));
  }

  #textAt(begin) {
    return this.#bytes(begin, this.#module.HEAPU8.indexOf(0, begin) - begin);
  }

  #textOrNull(begin) {
    return begin === 0 ? null : this.#textAt(begin);
  }

  #read(type, at) {
    const memory = this.#memory;
    if (type === "int64") return asNumber(memory.getBigInt64(at, true));
    if (type === "int32") return memory.getInt32(at, true);
    if (type === "version") return this.#textAt(at);
    if (type === "text") return this.#textOrNull(memory.getUint32(at, true));
    if (type === "pointer" || type === "bytes") return memory.getUint32(at, true) || null;
    return type in LAYOUTS ? this.one(type, at) : memory.getUint32(at, true);
  }

  one(structure, pointer) {
    return Object.fromEntries(LAYOUTS[structure].fields.map(({ name, type, at }) => [name, this.#read(type, pointer + at)]));
  }

  all(type, pointer, n) {
    return Array.from({ length: n }, (_, index) => this.#read(type, pointer + SIZES[type] * index));
  }

  ids(pointer, n) {
    return this.all("id", pointer, n).map(({ text, value }) => (text === null ? value : this.#bytes(text, value)));
  }

  floats(pointer, n) {
    return new Float32Array(this.#module.HEAPU8.buffer, n === 0 ? 0 : pointer, n).slice();
  }

  sizes(pointer, n) {
    return this.all("size", pointer, n);
  }
}

// ---- Bundles

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
    if (files[file] === undefined) throw new MtawError("bundle", `${file} is missing; the manifest names it`);
    const digest = new Uint8Array(await subtle.digest("SHA-256", files[file]));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (hex !== sha256) throw new MtawError("bundle", `${file} is damaged (its SHA-256 differs); download the bundle again`);
  }));
  return true;
}

const VERIFY = { verify: core.OPENING.verify };

export { MtawError };

export class Recommender extends core.Recommender {
  static async open(files, options) {
    const { verify } = core.fieldsOf("options", VERIFY, options, { verify: true });
    const wrong = Object.entries(files ?? {}).find(([, bytes]) => !(bytes instanceof Uint8Array));
    if (typeof files !== "object" || files === null || wrong !== undefined) throw new MtawError("usage", "files must be an object of names and Uint8Arrays");
    const [module, isChecked] = await Promise.all([create(), verify && checked(files)]);
    module.FS.mkdir(FOLDER);
    for (const [name, bytes] of Object.entries(files)) module.FS.writeFile(`${FOLDER}/${name}`, bytes);
    const library = new Library(module);
    const given = { struct_size: library.sizeOf("open_options"), flags: verify && !isChecked ? 0 : 1, files: 0 };
    const pointer = library.call("open", FOLDER, given);
    for (const name of Object.keys(files)) module.FS.unlink(`${FOLDER}/${name}`); // libmtaw has copied them
    return new Recommender(library, pointer);
  }

  static async fetch(url, options) {
    const base = core.textOf("url", url).endsWith("/") ? url : `${url}/`;
    const get = async (name) => {
      const answer = await fetch(base + name);
      if (!answer.ok) throw new MtawError("bundle", `${base}${name}: ${answer.status} ${answer.statusText}`);
      return new Uint8Array(await answer.arrayBuffer());
    };
    const manifest = await get(MANIFEST);
    const entries = entriesOf(manifest) ?? [];
    const parts = await Promise.all(entries.map(async ({ file }) => [file, await get(file)]));
    return Recommender.open({ [MANIFEST]: manifest, ...Object.fromEntries(parts) }, options);
  }
}
