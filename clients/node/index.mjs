// A client of libmtaw: ranks the next items of a session with an mtaw_fast bundle. index.d.mts describes it.
import { execFileSync } from "node:child_process";
import koffi from "koffi";
import * as core from "./core.mjs";

const { FUNCTIONS, MtawError, STATUSES, STRUCTURES } = core;

// The types of koffi by the names of core.mjs. The structures have no names: koffi takes one once.
const TYPES = {
  size: "size_t", int64: "int64_t", int32: "int32_t", uint32: "uint32_t", text: "const char *", bytes: "const char *",
  pointer: "void *", position: "void *", version: koffi.array("char", 17),
};
const typeOf = (name) => (name.endsWith("*") ? koffi.pointer(TYPES[name.slice(0, -1)]) : TYPES[name]);
for (const [name, fields] of Object.entries(STRUCTURES)) {
  TYPES[name] = koffi.struct(Object.fromEntries(fields.map(([field, type]) => [field, typeOf(type)])));
}
const BytesId = koffi.struct({ text: "const uint8_t *", value: "int64_t" });
const Failure = koffi.struct({ status: "int32_t", message: koffi.array("char", 1024) });
TYPES.out = TYPES.outs = koffi.out(koffi.pointer("void *"));
TYPES["filled info"] = koffi.inout(koffi.pointer(TYPES.info));

// What core.mjs calls.
class Library {
  #functions = {};

  constructor() {
    const file = process.env.MTAW_LIBRARY === undefined ? installed() : koffi.load(process.env.MTAW_LIBRARY);
    const add = (result, name, ...types) => {
      this.#functions[name] = file.func(`mtaw_${name}`, result, types);
    };
    add("int32_t", "abi");
    const abi = this.#functions.abi();
    if (abi !== core.ABI) throw new MtawError("usage", `libmtaw has MTAW_ABI ${abi}, this client needs ${core.ABI}; use those of one release`);
    for (const name of ["version", "instruction_set"]) add("const char *", name);
    for (const name of ["click_type", "context_column"]) add("const char *", name, "void *", "size_t");
    for (const name of ["close", "answer_free", "session_close", "filter_close", "rules_close", "log_close"]) add("void", name, "void *");
    for (const [name, types] of Object.entries(FUNCTIONS)) {
      const given = types.map((type) => (STRUCTURES[type] && type !== "id" ? koffi.pointer(TYPES[type]) : typeOf(type)));
      add("int32_t", name, ...given, koffi.out(koffi.pointer(Failure)));
    }
  }

  call(name, ...values) {
    const last = FUNCTIONS[name].at(-1);
    let result;
    if (last === "out") values.push((result = [null]));
    else if (last === "outs") values.push((result = new Array(values.pop()).fill(null)));
    else if (last === "position") values.push((result = Buffer.alloc(32)));
    else if (last === "filled info") result = values.at(-1);
    const failure = {};
    const status = this.#functions[name](...values, failure);
    if (status !== 0) throw new MtawError(STATUSES[status] ?? "unknown", failure.message);
    if (last === "position") return result.toString("utf8", 0, result.indexOf(0));
    return last === "out" ? result[0] : result;
  }

  text(name, ...values) {
    return this.#functions[name](...values);
  }

  free(name, pointer) {
    this.#functions[name](pointer);
  }

  sizeOf(structure) {
    return koffi.sizeof(TYPES[structure]);
  }

  one(structure, pointer) {
    return koffi.decode(pointer, TYPES[structure]);
  }

  all(structure, pointer, n) {
    return Number(n) === 0 ? [] : koffi.decode(pointer, arrayOf(TYPES[structure], Number(n)));
  }

  // Ids, whose texts may contain zero bytes.
  ids(pointer, n) {
    return this.all("id", pointer, n).map(({ text, value }, index) => {
      if (text === null) return value;
      if (Buffer.byteLength(text) === Number(value)) return text;
      const { text: bytes } = koffi.decode(pointer, index * koffi.sizeof(BytesId), BytesId);
      return Buffer.from(koffi.decode(bytes, arrayOf("uint8_t", Number(value)))).toString();
    });
  }

  floats(pointer, n) {
    return Float32Array.from(Number(n) === 0 ? [] : koffi.decode(pointer, arrayOf("float", Number(n))));
  }

  sizes(pointer, n) {
    return Array.from(this.all("size", pointer, n), Number);
  }
}

// The type of n values in a row. koffi never frees the memory of one that it makes, so each is made once.
const arrays = new Map();

function arrayOf(type, n) {
  if (!arrays.has(type)) arrays.set(type, new Map());
  const lengths = arrays.get(type);
  if (!lengths.has(n)) lengths.set(n, koffi.array(type, n));
  return lengths.get(n);
}

// The system's library, else that of the Python package if its command is on the path.
function installed() {
  try {
    return koffi.load(process.platform === "darwin" ? "libmtaw.dylib" : `libmtaw.so.${core.ABI}`);
  } catch (error) {
    let path;
    try {
      path = execFileSync("mtaw-fast", ["config", "--library"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    } catch {
      throw new MtawError("usage", `there is no libmtaw (${error.message}); set MTAW_LIBRARY to the file, or install it`);
    }
    return koffi.load(path);
  }
}

let library;
const loaded = () => (library ??= new Library());

export { MtawError };

export function open(folder, options) {
  const { verify, map } = core.fieldsOf("options", core.OPENING, options, { verify: true, map: false });
  const given = { struct_size: loaded().sizeOf("open_options"), flags: (verify ? 0 : 1) | (map ? 2 : 0), files: null };
  return new core.Recommender(loaded(), loaded().call("open", core.textOf("folder", folder), given));
}

export function openLog(folder, options) {
  const { sync } = core.fieldsOf("options", core.SYNC, options, { sync: true });
  return new core.EventLog(loaded(), "log_close", loaded().call("log_open", core.textOf("folder", folder), sync ? 0 : 1));
}

export const version = () => loaded().text("version");
export const instructionSet = () => loaded().text("instruction_set");
