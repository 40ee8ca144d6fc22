/** An external id, as the catalog has them. */
export type Id = string | number | bigint;

/** What may be recommended, and the moment. All conditions hold together. */
export interface Options {
  /** How many items; 20 by default. */
  k?: number;
  /** The moment of the request, for bundles with times; now by default. */
  at?: Date | number;
  /** Leave out the session's own items. */
  excludeSeen?: boolean;
  /** Ids that are never recommended. */
  exclude?: Iterable<Id>;
  /** The only ids that may be recommended; an empty list allows nothing. */
  allow?: Iterable<Id> | null;
  filter?: Filter;
  rules?: Rules;
  /** What is known of the visit, by column. */
  context?: Record<string, string | number | null>;
  /** The type of each click of the call or of the session so far, such as "cart"; null where it is not known. */
  types?: Iterable<string | null>;
  /** Say why each item was recommended. */
  reasons?: boolean;
}

/** Why an item was recommended. */
export interface Reason {
  /** It is in the session; past sessions contain it together with `items` of the session; or neither. */
  kind: "session" | "together" | "encoder";
  /** The closest first, at most three. */
  items: Id[];
  /** What the rules did to it. */
  rule?: "boosted" | "buried" | "pinned";
}

/** A ranking, best first. */
export interface Answer {
  items: Id[];
  scores: Float32Array;
  /** Positions of clicks that the catalog does not know. */
  unknown: number[];
  /** No click was known, so this is the popularity ranking. */
  fallback: boolean;
  /** With rules: no more items meet the conditions. */
  short: boolean;
  /** If asked for, unless `fallback`. */
  reasons?: Reason[];
}

export interface Info {
  items: number;
  catalogSize: number;
  ids: "text" | "number";
  dimensions: number;
  hasMemory: boolean;
  hasTimes: boolean;
  format: number;
  version: string;
  /** That `types` of the options may name. */
  clickTypes: string[];
  /** That `context` of the options may name. */
  contextColumns: string[];
}

/** What a failed call throws. */
export class MtawError extends Error {
  readonly status: "usage" | "bundle" | "log" | "no memory" | "internal" | "unknown";
}

interface Handle {
  /** Frees it at once; without this the garbage collector does. */
  close(): void;
}

export interface Filter extends Handle {}
export interface Rules extends Handle {}

/** A session that grows click by click. */
export interface Session extends Handle {
  click(...ids: Id[]): this;
  recommend(options?: Options): Answer;
}

export class Recommender implements Handle {
  static open(folder: string, options?: { verify?: boolean; map?: boolean }): Recommender;
  readonly info: Info;
  recommend(clicks: Iterable<Id>, options?: Options): Answer;
  recommendBatch(sessions: Iterable<Iterable<Id>>, options?: Options): Answer[];
  similar(item: Id, options?: Options & { by?: "vectors" | "sessions" }): Answer;
  session(...clicks: Id[]): Session;
  filter(lists?: { exclude?: Iterable<Id>; allow?: Iterable<Id> | null }): Filter;
  /** Rules as JSON or as an object; docs/c-api.md says how conditions are written. */
  rules(rules: string | object): Rules;
  close(): void;
}

export interface Event {
  session: string;
  item: Id;
  /** Now by default. */
  time?: Date | number;
  type?: string;
  /** Events of a session with the same id count once. */
  id?: string;
  context?: Record<string, string | number | null>;
}

/** The log in a learning folder; processes of the Python package that share the folder learn from it. */
export class EventLog implements Handle {
  static open(folder: string, options?: { sync?: boolean }): EventLog;
  /**
   * Stores events and returns the log position after the last one. They are acknowledged together: after an error of the
   * status "log" some may be stored, so send them again with the same ids.
   */
  append(...events: Event[]): string;
  forget(session: string): string;
  close(): void;
}

export function open(folder: string, options?: { verify?: boolean; map?: boolean }): Recommender;
export const version: string;
export const instructionSet: string;
