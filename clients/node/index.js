// A client of libmtaw: ranks the next items of a session with an mtaw_fast bundle. index.d.ts describes it.
"use strict";

const koffi = require("koffi");
const { execFileSync } = require("node:child_process");

// Without names: koffi takes a name once, also where the module is loaded again.
const Id = koffi.struct({ text: "const char *", value: "int64_t" });
const AnswerId = koffi.struct({ text: "const uint8_t *", value: "int64_t" });
const Clicks = koffi.struct({ ids: koffi.pointer(Id), n: "size_t" });
const Context = koffi.struct({ name: "const char *", value: "const char *" });
const Failure = koffi.struct({ status: "int32_t", message: koffi.array("char", 1024) });
const Answer = koffi.struct({
  n: "size_t",
  items: "void *",
  scores: "void *",
  n_unknown: "size_t",
  unknown: "void *",
  fallback: "int32_t",
  completeness: "int32_t",
  reasons: "void *",
});
const Reason = koffi.struct({ kind: "int32_t", rule: "int32_t", n: "size_t", items: "void *" });
const Options = koffi.struct({
  struct_size: "size_t",
  k: "size_t",
  at: "int64_t",
  exclude_seen: "int32_t",
  reasons: "int32_t",
  exclude: koffi.pointer(Id),
  n_exclude: "size_t",
  allow: koffi.pointer(Id),
  n_allow: "size_t",
  filter: "void *",
  rules: "void *",
  context: koffi.pointer(Context),
  n_context: "size_t",
  types: koffi.pointer("const char *"),
  n_types: "size_t",
});
const OpenOptions = koffi.struct({ struct_size: "size_t", flags: "uint32_t", files: "void *" });
const Info = koffi.struct({
  struct_size: "size_t",
  n_items: "int64_t",
  catalog_size: "int64_t",
  id_kind: "int32_t",
  dimensions: "int32_t",
  has_memory: "int32_t",
  has_times: "int32_t",
  bundle_format: "int32_t",
  version: koffi.array("char", 17),
});
const Event = koffi.struct({
  session: "const char *",
  item: Id,
  time: "int64_t",
  type: "const char *",
  id: "const char *",
  context: koffi.pointer(Context),
  n_context: "size_t",
});

const NOW = -(2n ** 63n);
const NO_VERIFY = 1;
const MAP = 2;
const KINDS = ["session", "together", "encoder"];
const EFFECTS = [undefined, "boosted", "buried", "pinned"];
const STATUSES = ["ok", "usage", "bundle", "log", "no memory", "internal"];

/** What a failed call throws. `status` is a name of mtaw.h in words. */
class MtawError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "MtawError";
    this.status = status;
  }
}

// The functions of the library, by their names without the prefix.
let library;

function loaded() {
  if (library === undefined) {
    const from = process.env.MTAW_LIBRARY === undefined ? installed() : koffi.load(process.env.MTAW_LIBRARY);
    const call = (result, name, ...types) => from.func(`mtaw_${name}`, result, types);
    const failing = (name, ...types) => call("int32_t", name, ...types, koffi.out(koffi.pointer(Failure)));
    const out = koffi.out(koffi.pointer("void *"));
    const id = koffi.pointer(Id);
    library = {
      version: call("const char *", "version"),
      instruction_set: call("const char *", "instruction_set"),
      open: failing("open", "const char *", koffi.pointer(OpenOptions), out),
      close: call("void", "close", "void *"),
      describe: failing("describe", "void *", koffi.inout(koffi.pointer(Info))), // prose: ignore
      click_type: call("const char *", "click_type", "void *", "size_t"),
      context_column: call("const char *", "context_column", "void *", "size_t"),
      recommend: failing("recommend", "void *", id, "size_t", koffi.pointer(Options), out),
      recommend_batch: failing("recommend_batch", "void *", koffi.pointer(Clicks), "size_t", koffi.pointer(Options), out),
      similar: failing("similar", "void *", Id, "int32_t", koffi.pointer(Options), out),
      answer_free: call("void", "answer_free", "void *"),
      session_open: failing("session_open", "void *", out),
      session_click: failing("session_click", "void *", id, "size_t"),
      session_recommend: failing("session_recommend", "void *", koffi.pointer(Options), out),
      session_close: call("void", "session_close", "void *"),
      filter_open: failing("filter_open", "void *", id, "size_t", id, "size_t", out),
      filter_close: call("void", "filter_close", "void *"),
      rules_open: failing("rules_open", "void *", "const char *", "size_t", out),
      rules_close: call("void", "rules_close", "void *"),
      log_open: failing("log_open", "const char *", "uint32_t", out),
      log_append: failing("log_append", "void *", koffi.pointer(Event), "size_t", "void *"),
      log_forget: failing("log_forget", "void *", "const char *", "void *"),
      log_close: call("void", "log_close", "void *"),
    };
  }
  return library;
}

// The system's library, else that of the Python package if its command is on the path.
function installed() {
  try {
    return koffi.load(process.platform === "darwin" ? "libmtaw.dylib" : "libmtaw.so.1");
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

function check(status, failure) {
  if (status !== 0) throw new MtawError(STATUSES[status] ?? "unknown", failure.message);
}

// Calls a function that can fail, and returns what it gives through a pointer.
function found(name, ...given) {
  const out = [null];
  const failure = {};
  check(loaded()[name](...given, out, failure), failure);
  return out[0];
}

// A text for the library, which reads it up to a zero byte.
function textOf(name, text) {
  if (typeof text !== "string") throw new MtawError("usage", `${name} must be a text, not ${text}`);
  if (text.includes("\0")) throw new MtawError("usage", `${name} has a zero byte; leave it out`);
  return text;
}

// A moment in Unix milliseconds: a Date, or a whole number.
function momentOf(name, moment) {
  if (moment == null) return NOW;
  const milliseconds = moment.valueOf(); // of a Date too; Number() makes 0 of an empty text
  if (Number.isSafeInteger(milliseconds)) return milliseconds;
  throw new MtawError("usage", `${name} must be a Date or whole Unix milliseconds, not ${moment}`);
}

const idOf = (id) => {
  if (typeof id === "string") return { text: textOf("an id", id), value: -1 };
  const whole = typeof id === "bigint" ? BigInt.asIntN(64, id) === id : Number.isSafeInteger(id);
  if (whole) return { text: null, value: id };
  throw new MtawError("usage", `an id is a text, a whole number or a BigInt, not ${id}`);
};
const idsOf = (ids) => Array.from(ids, idOf);

function contextOf(context) {
  return Object.entries(context ?? {}).map(([name, value]) => ({
    name: textOf("a name of the context", name),
    value: value == null ? null : textOf(`the context's ${name}`, String(value)),
  }));
}

function optionsOf(given = {}) {
  const exclude = idsOf(given.exclude ?? []);
  const allow = given.allow == null ? null : idsOf(given.allow);
  const context = contextOf(given.context);
  const types = given.types == null ? null : Array.from(given.types, (type) => (type == null ? null : textOf("a type", type)));
  const k = given.k ?? 20;
  if (!Number.isSafeInteger(k) || k < 1) throw new MtawError("usage", `k must be a whole number of at least 1, not ${k}`);
  return {
    struct_size: koffi.sizeof(Options),
    k,
    at: momentOf("at", given.at),
    exclude_seen: given.excludeSeen ? 1 : 0,
    reasons: given.reasons ? 1 : 0,
    exclude,
    n_exclude: exclude.length,
    // An empty list has an address too: it allows nothing.
    allow: allow !== null && allow.length === 0 ? [{ text: null, value: 0 }] : allow,
    n_allow: allow === null ? 0 : allow.length,
    filter: given.filter == null ? null : given.filter.handle(),
    rules: given.rules == null ? null : given.rules.handle(),
    context,
    n_context: context.length,
    // An empty list has an address too: it gives no click of the session a type, and is refused.
    types: types !== null && types.length === 0 ? [null] : types,
    n_types: types === null ? 0 : types.length,
  };
}

// The type of n values in a row. koffi never frees the memory of one that it makes, so each is made once.
const arrays = new Map();

function arrayOf(type, n) {
  if (!arrays.has(type)) arrays.set(type, new Map());
  const lengths = arrays.get(type);
  if (!lengths.has(n)) lengths.set(n, koffi.array(type, n));
  return lengths.get(n);
}

// The ids of an answer, whose texts may contain zero bytes.
function itemsOf(pointer, n) {
  const ids = koffi.decode(pointer, arrayOf(Id, n));
  return ids.map(({ text, value }, index) => {
    if (text === null) return value;
    if (Buffer.byteLength(text) === Number(value)) return text;
    const { text: bytes } = koffi.decode(pointer, index * koffi.sizeof(AnswerId), AnswerId);
    return Buffer.from(koffi.decode(bytes, arrayOf("uint8_t", Number(value)))).toString();
  });
}

function reasonsOf(pointer, n) {
  return koffi.decode(pointer, arrayOf(Reason, n)).map((reason) => {
    const found = { kind: KINDS[reason.kind], items: reason.n === 0 ? [] : itemsOf(reason.items, Number(reason.n)) };
    return reason.rule === 0 ? found : { ...found, rule: EFFECTS[reason.rule] };
  });
}

function answerOf(pointer) {
  try {
    const view = koffi.decode(pointer, Answer);
    const n = Number(view.n);
    const items = n === 0 ? [] : itemsOf(view.items, n);
    const scores = n === 0 ? new Float32Array(0) : Float32Array.from(koffi.decode(view.scores, arrayOf("float", n)));
    const unknown = view.n_unknown === 0 ? [] : Array.from(koffi.decode(view.unknown, arrayOf("size_t", Number(view.n_unknown))), Number);
    const answer = { items, scores, unknown, fallback: view.fallback !== 0, short: view.completeness !== 0 };
    return view.reasons === null ? answer : { ...answer, reasons: reasonsOf(view.reasons, n) };
  } finally {
    loaded().answer_free(pointer);
  }
}

// An object of the library that is freed once: by close, or when nothing refers to it any more.
const forgotten = new FinalizationRegistry(({ free, pointer }) => loaded()[free](pointer));

class Handle {
  #pointer;
  #free;

  constructor(pointer, free) {
    this.#pointer = pointer;
    this.#free = free;
    forgotten.register(this, { free, pointer }, this);
  }

  handle() {
    if (this.#pointer === null) throw new MtawError("usage", "it is closed");
    return this.#pointer;
  }

  close() {
    if (this.#pointer === null) return;
    forgotten.unregister(this);
    loaded()[this.#free](this.#pointer);
    this.#pointer = null;
  }

  [Symbol.dispose ?? Symbol.for("Symbol.dispose")]() {
    this.close();
  }
}

class Filter extends Handle {}
class Rules extends Handle {}

class Session extends Handle {
  click(...ids) {
    const failure = {};
    check(loaded().session_click(this.handle(), idsOf(ids), ids.length, failure), failure);
    return this;
  }

  recommend(options) {
    return answerOf(found("session_recommend", this.handle(), optionsOf(options)));
  }
}

class Recommender extends Handle {
  static open(folder, { verify = true, map = false } = {}) {
    const flags = (verify ? 0 : NO_VERIFY) | (map ? MAP : 0);
    const options = { struct_size: koffi.sizeof(OpenOptions), flags, files: null };
    return new Recommender(found("open", textOf("folder", String(folder)), options), "close");
  }

  get info() {
    const info = { struct_size: koffi.sizeof(Info), version: "" };
    const failure = {};
    check(loaded().describe(this.handle(), info, failure), failure);
    return {
      items: Number(info.n_items),
      catalogSize: Number(info.catalog_size),
      ids: info.id_kind === 1 ? "text" : "number",
      dimensions: info.dimensions,
      hasMemory: info.has_memory !== 0,
      hasTimes: info.has_times !== 0,
      format: info.bundle_format,
      version: info.version,
      clickTypes: this.#names("click_type"),
      contextColumns: this.#names("context_column"),
    };
  }

  #names(what) {
    const names = [];
    for (let name; (name = loaded()[what](this.handle(), names.length)) !== null; ) names.push(name);
    return names;
  }

  recommend(clicks, options) {
    const ids = idsOf(clicks);
    return answerOf(found("recommend", this.handle(), ids, ids.length, optionsOf(options)));
  }

  recommendBatch(sessions, options) {
    const lists = Array.from(sessions, (session) => {
      const ids = idsOf(session);
      return { ids, n: ids.length };
    });
    const answers = new Array(lists.length).fill(null);
    const failure = {};
    check(loaded().recommend_batch(this.handle(), lists, lists.length, optionsOf(options), answers, failure), failure);
    return answers.map(answerOf);
  }

  similar(item, { by = "vectors", ...options } = {}) {
    const ways = ["vectors", "sessions"];
    if (!ways.includes(by)) throw new MtawError("usage", `by must be vectors or sessions, not ${by}`);
    return answerOf(found("similar", this.handle(), idOf(item), ways.indexOf(by), optionsOf(options)));
  }

  session(...clicks) {
    return new Session(found("session_open", this.handle()), "session_close").click(...clicks);
  }

  filter({ exclude = [], allow = null } = {}) {
    const allowed = allow === null ? null : idsOf(allow);
    const list = allowed !== null && allowed.length === 0 ? [{ text: null, value: 0 }] : allowed;
    const excluded = idsOf(exclude);
    return new Filter(found("filter_open", this.handle(), excluded, excluded.length, list, allowed?.length ?? 0), "filter_close");
  }

  rules(rules) {
    const text = textOf("rules", typeof rules === "string" ? rules : JSON.stringify(rules));
    return new Rules(found("rules_open", this.handle(), text, Buffer.byteLength(text)), "rules_close");
  }
}

class EventLog extends Handle {
  static open(folder, { sync = true } = {}) {
    return new EventLog(found("log_open", textOf("folder", String(folder)), sync ? 0 : 1), "log_close");
  }

  append(...events) {
    const list = events.map((event) => {
      const context = contextOf(event.context);
      return {
        session: textOf("session", event.session),
        item: idOf(event.item),
        time: momentOf("time", event.time),
        type: event.type == null ? null : textOf("type", event.type),
        id: event.id == null ? null : textOf("id", event.id),
        context,
        n_context: context.length,
      };
    });
    return this.#stored((position, failure) => loaded().log_append(this.handle(), list, list.length, position, failure));
  }

  forget(session) {
    const name = textOf("session", session);
    return this.#stored((position, failure) => loaded().log_forget(this.handle(), name, position, failure));
  }

  #stored(store) {
    const position = Buffer.alloc(32);
    const failure = {};
    check(store(position, failure), failure);
    return position.toString("utf8", 0, position.indexOf(0));
  }
}

module.exports = {
  Recommender,
  EventLog,
  MtawError,
  open: Recommender.open,
  get version() {
    return loaded().version();
  },
  get instructionSet() {
    return loaded().instruction_set();
  },
};
