// What the clients for Node.js and WebAssembly share: the structures and functions of mtaw.h, what a call may be given,
// and the objects that callers see. index.d.mts describes them.

export const ABI = 1;
export const STATUSES = ["ok", "usage", "bundle", "log", "no memory", "internal"];

const LIST = (name, type) => [[name, `${type}*`], [`n_${name}`, "size"]];

/** The fields of each structure, in their order. `TYPE*` is a pointer to an array of them. */
export const STRUCTURES = {
  id: [["text", "bytes"], ["value", "int64"]],
  context: [["name", "text"], ["value", "text"]],
  clicks: [["ids", "id*"], ["n", "size"]],
  options: [
    ["struct_size", "size"], ["k", "size"], ["at", "int64"], ["exclude_seen", "int32"], ["reasons", "int32"],
    ...LIST("exclude", "id"), ...LIST("allow", "id"), ["filter", "pointer"], ["rules", "pointer"],
    ...LIST("context", "context"), ...LIST("types", "text"), ["placement", "text"], ["session_id", "text"],
  ],
  open_options: [["struct_size", "size"], ["flags", "uint32"], ["files", "pointer"]],
  info: [
    ["struct_size", "size"], ["n_items", "int64"], ["catalog_size", "int64"], ["id_kind", "int32"], ["dimensions", "int32"],
    ["has_memory", "int32"], ["has_times", "int32"], ["bundle_format", "int32"], ["version", "version"],
  ],
  event: [
    ["session", "text"], ["item", "id"], ["time", "int64"], ["type", "text"], ["id", "text"], ...LIST("context", "context"),
  ],
  answer: [
    ["n", "size"], ["items", "pointer"], ["scores", "pointer"], ["n_unknown", "size"], ["unknown", "pointer"],
    ["fallback", "int32"], ["completeness", "int32"], ["reasons", "pointer"],
    ["rule_set", "text"],
  ],
  reason: [["kind", "int32"], ["rule", "int32"], ["n", "size"], ["items", "pointer"]],
};

/**
 * The functions that return a status, and their arguments but the error. The last one may be what a function fills: a
 * pointer, as many pointers as its value says, a structure that has its size, or a log position.
 */
export const FUNCTIONS = {
  open: ["text", "open_options", "out"],
  describe: ["pointer", "filled info"], // prose: ignore
  recommend: ["pointer", "id*", "size", "options", "out"],
  recommend_batch: ["pointer", "clicks*", "size", "options", "outs"],
  similar: ["pointer", "id", "int32", "options", "out"],
  session_open: ["pointer", "out"],
  session_click: ["pointer", "id*", "size"],
  session_recommend: ["pointer", "options", "out"],
  filter_open: ["pointer", "id*", "size", "id*", "size", "out"],
  rules_open: ["pointer", "text", "size", "out"],
  log_open: ["text", "uint32", "out"],
  log_append: ["pointer", "event*", "size", "position"],
  log_forget: ["pointer", "text", "position"],
};

/** What a failed call throws. `status` is a name of mtaw.h in words. */
export class MtawError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "MtawError";
    this.status = status;
  }
}

// ---- What a call may be given: each reader checks a value and returns fields of a structure

const NOW = -(2n ** 63n);
const HALF = /\p{Surrogate}/u;
const WAYS = ["vectors", "sessions"];

const refuse = (message) => {
  throw new MtawError("usage", message);
};

function shown(value) {
  const text = typeof value === "string" ? `'${value}'` : String(typeof value === "symbol" ? "a symbol" : Array.isArray(value) ? "a list" : value);
  return text.length <= 60 ? text : `${text.slice(0, 57)}..`;
}

function texted(name, text) {
  if (typeof text !== "string") refuse(`${name} must be a text, not ${shown(text)}`);
  if (HALF.test(text)) refuse(`${name} has half a character (a lone surrogate); leave it out`);
  return text;
}

/** A text that ends with a zero byte. */
export function textOf(name, text) {
  if (texted(name, text).includes("\0")) refuse(`${name} has a zero byte; leave it out`);
  return text;
}

const encoder = new TextEncoder();

function idOf(id) {
  // With its length where a zero byte is a part of it.
  if (typeof id === "string") return { text: texted("an id", id), value: id.includes("\0") ? encoder.encode(id).length : -1 };
  const whole = typeof id === "bigint" ? BigInt.asIntN(64, id) === id : Number.isSafeInteger(id);
  return whole ? { text: null, value: id } : refuse(`an id is a text, a whole number below 2^53 or a BigInt, not ${shown(id)}`);
}

function listOf(name, values, reader) {
  if (typeof values === "string" || typeof values?.[Symbol.iterator] !== "function") refuse(`${name} must be a list, not ${shown(values)}`);
  return Array.from(values, reader);
}

const idsOf = (name, ids) => listOf(name, ids, idOf);

// The fields of a list. An empty one has an address too: it allows nothing, and gives no click a type.
const listed = (name, values, none) => ({ [name]: values.length === 0 ? [none] : values, [`n_${name}`]: values.length });

function flagOf(name, value) {
  if (typeof value !== "boolean") refuse(`${name} must be true or false, not ${shown(value)}`);
  return value;
}

// Unix milliseconds of a Date or a whole number; Number() would make 0 of an empty text.
function momentOf(name, moment) {
  const milliseconds = moment instanceof Date || typeof moment === "number" ? moment.valueOf() : NaN;
  return Number.isSafeInteger(milliseconds) ? milliseconds : refuse(`${name} must be a Date or whole Unix milliseconds, not ${shown(moment)}`);
}

function contextOf(name, context) {
  if (typeof context !== "object" || Symbol.iterator in context) refuse(`${name} must be an object, not ${shown(context)}`);
  const values = Object.entries(context).map(([column, value]) => {
    const isNumber = typeof value === "number" && Number.isFinite(value);
    return { name: textOf("a name of the context", column), value: value == null ? null : textOf(`the context's ${column}`, isNumber ? String(value) : value) };
  });
  return listed("context", values, { name: null, value: null });
}

function handleOf(kind, name, value, library) {
  if (!(value instanceof kind) || value.library !== library) refuse(`${name} must be what this recommender's ${name}() returns, not ${shown(value)}`);
  return { [name]: value.handle() };
}

const noId = { text: null, value: 0 };
const LISTS = {
  exclude: (name, ids) => listed(name, idsOf(name, ids), noId),
  allow: (name, ids) => listed(name, idsOf(name, ids), noId),
};
const SHOWN = {
  k: (name, k) => (Number.isSafeInteger(k) && k >= 1 ? { k } : refuse(`${name} must be a whole number of at least 1, not ${shown(k)}`)),
  ...LISTS,
  filter: (...given) => handleOf(Filter, ...given),
  rules: (...given) => handleOf(Rules, ...given),
  placement: (name, text) => ({ placement: textOf(name, text) }),
  sessionId: (name, text) => ({ session_id: textOf(name, text) }),
};
const RANKING = {
  ...SHOWN,
  at: (name, at) => ({ at: momentOf(name, at) }),
  excludeSeen: (name, flag) => ({ exclude_seen: Number(flagOf(name, flag)) }),
  context: contextOf,
  types: (name, types) => listed(name, listOf(name, types, (type) => (type == null ? null : textOf("a type", type))), null),
  reasons: (name, flag) => ({ reasons: Number(flagOf(name, flag)) }),
};
const SIMILAR = {
  ...SHOWN,
  by: (name, by) => (WAYS.includes(by) ? { by: WAYS.indexOf(by) } : refuse(`${name} must be vectors or sessions, not ${shown(by)}`)),
};
const EVENT = {
  session: (name, text) => ({ session: textOf(name, text) }),
  item: (name, id) => ({ item: idOf(id) }),
  time: (name, time) => ({ time: momentOf(name, time) }),
  type: (name, text) => ({ type: textOf(name, text) }),
  id: (name, text) => ({ id: textOf(name, text) }),
  context: contextOf,
};
/** Options of opening. */
export const OPENING = {
  verify: (name, flag) => ({ verify: flagOf(name, flag) }),
  map: (name, flag) => ({ map: flagOf(name, flag) }),
};
export const SYNC = { sync: (name, flag) => ({ sync: flagOf(name, flag) }) };

/** The fields that an object of options gives. Refuses every name that `readers` does not have; null is the default. */
export function fieldsOf(what, readers, given, defaults, library) {
  if (given == null) return defaults;
  if (typeof given !== "object" || Symbol.iterator in given) refuse(`${what} must be an object, not ${shown(given)}`);
  const fields = { ...defaults };
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(readers, name)) refuse(`${what}: there is no ${shown(name)}; there is: ${Object.keys(readers).join(", ")}`);
    if (value != null) Object.assign(fields, readers[name](name, value, library));
  }
  return fields;
}

const PLAIN = {
  k: 20, at: NOW, exclude_seen: 0, reasons: 0, exclude: null, n_exclude: 0, allow: null, n_allow: 0, filter: null, rules: null,
  context: null, n_context: 0, types: null, n_types: 0, placement: null, session_id: null,
};
const optionsOf = (library, given, readers = RANKING) =>
  fieldsOf("options", readers, given, { struct_size: library.sizeOf("options"), by: 0, ...PLAIN }, library);

// ---- Answers

const KINDS = ["session", "together", "encoder"];
const EFFECTS = [undefined, "boosted", "buried", "pinned"];

function answerOf(library, pointer) {
  try {
    const { n, items, scores, n_unknown, unknown, fallback, completeness, reasons, rule_set } = library.one("answer", pointer);
    const answer = {
      items: library.ids(items, n), scores: library.floats(scores, n), unknown: library.sizes(unknown, n_unknown),
      fallback: fallback !== 0, short: completeness !== 0,
    };
    if (rule_set !== null) answer.ruleSet = rule_set;
    if (reasons === null) return answer;
    const found = library.all("reason", reasons, n).map(({ kind, rule, n: count, items: related }) => {
      const reason = { kind: KINDS[kind], items: library.ids(related, count) };
      return rule === 0 ? reason : { ...reason, rule: EFFECTS[rule] };
    });
    return { ...answer, reasons: found };
  } finally {
    library.free("answer_free", pointer);
  }
}

// ---- Objects. A library calls functions by their names without the prefix, and reads what pointers point to

const forgotten = new FinalizationRegistry(({ library, free, pointer }) => library.free(free, pointer));

/** An object of the library that is freed once: by close, or when nothing refers to it any more. */
class Handle {
  #pointer;
  #free;

  constructor(library, free, pointer) {
    Object.defineProperty(this, "library", { value: library });
    this.#free = free;
    this.#pointer = pointer;
    forgotten.register(this, { library, free, pointer }, this);
  }

  handle() {
    return this.#pointer ?? refuse("it is closed");
  }

  close() {
    if (this.#pointer === null) return;
    forgotten.unregister(this);
    this.library.free(this.#free, this.#pointer);
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
    this.library.call("session_click", this.handle(), ids.map(idOf), ids.length);
    return this;
  }

  recommend(options) {
    return answerOf(this.library, this.library.call("session_recommend", this.handle(), optionsOf(this.library, options)));
  }
}

export class Recommender extends Handle {
  constructor(library, pointer) {
    super(library, "close", pointer);
  }

  get info() {
    const info = this.library.call("describe", this.handle(), { struct_size: this.library.sizeOf("info") });
    return {
      items: info.n_items,
      catalogSize: info.catalog_size,
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
    for (let name; (name = this.library.text(what, this.handle(), names.length)) !== null; ) names.push(name);
    return names;
  }

  recommend(session, options) {
    const ids = idsOf("session", session);
    return answerOf(this.library, this.library.call("recommend", this.handle(), ids, ids.length, optionsOf(this.library, options)));
  }

  recommendBatch(sessions, options) {
    const lists = listOf("sessions", sessions, (session) => {
      const ids = idsOf("a session", session);
      return { ids, n: ids.length };
    });
    const answers = this.library.call("recommend_batch", this.handle(), lists, lists.length, optionsOf(this.library, options), lists.length);
    return answers.map((answer) => answerOf(this.library, answer));
  }

  similar(item, options) {
    const fields = optionsOf(this.library, options, SIMILAR);
    return answerOf(this.library, this.library.call("similar", this.handle(), idOf(item), fields.by, fields));
  }

  session(...clicks) {
    return new Session(this.library, "session_close", this.library.call("session_open", this.handle())).click(...clicks);
  }

  filter(lists) {
    const { exclude, n_exclude, allow, n_allow } = fieldsOf("a filter", LISTS, lists, PLAIN);
    return new Filter(this.library, "filter_close", this.library.call("filter_open", this.handle(), exclude, n_exclude, allow, n_allow));
  }

  rules(rules) {
    if (typeof rules !== "object" || rules === null || Symbol.iterator in rules)
      refuse(`rules are an object such as {filter: "price < 80"}, not ${shown(rules)}`);
    const text = JSON.stringify(rules);
    return new Rules(this.library, "rules_close", this.library.call("rules_open", this.handle(), text, encoder.encode(text).length));
  }
}

export class EventLog extends Handle {
  append(...events) {
    const list = events.map((event, number) => {
      const none = { session: null, item: null, time: NOW, type: null, id: null, context: null, n_context: 0 };
      const fields = fieldsOf(`event ${number}`, EVENT, event, none);
      return fields.item === null ? refuse(`event ${number}: item is missing`) : fields;
    });
    return this.library.call("log_append", this.handle(), list, list.length);
  }

  forget(session) {
    return this.library.call("log_forget", this.handle(), textOf("session", session));
  }
}
