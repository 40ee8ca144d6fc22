// What the clients for Node.js and WebAssembly share. Options that are not named here are refused.

/** An external id, as the catalog has them. Whole numbers beyond 2^53 - 1 are BigInts in answers, and must be in calls. */
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
  /** What `filter` and `rules` of the same recommender returned. */
  filter?: Filter;
  rules?: Rules;
  /** Where the list will stand, such as "cart": its saved rules, by `at` and `sessionId`. Not together with `rules`. */
  placement?: string;
  /** Decides between rule sets of a placement that share the sessions. */
  sessionId?: string;
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
  /** The name of the placement's rule set that it follows. */
  ruleSet?: string;
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

export interface Handle {
  /** Frees it at once; without this the garbage collector does. */
  close(): void;
}

export interface Filter extends Handle {
  readonly kind?: "filter";
}
export interface Rules extends Handle {
  readonly kind?: "rules";
}

/** A session that grows click by click. */
export interface Session extends Handle {
  click(...ids: Id[]): this;
  recommend(options?: Options): Answer;
}

/** Rules of docs/rules.md. */
export type RulesGiven = { filter?: unknown; boost?: unknown; limit?: unknown; pin?: Record<string, number> };

/** An open bundle. */
export class Recommender implements Handle {
  protected constructor();
  readonly info: Info;
  /** Ranks the catalog for the next click after a session, oldest click first. */
  recommend(session: Iterable<Id>, options?: Options): Answer;
  /** The same for many sessions; `types` of the options has those of all their clicks. */
  recommendBatch(sessions: Iterable<Iterable<Id>>, options?: Options): Answer[];
  /** The items most similar to one, with their cosines. */
  similar(item: Id, options?: Pick<Options, "k" | "exclude" | "allow" | "filter" | "rules" | "placement" | "sessionId"> & { by?: "vectors" | "sessions" }): Answer;
  session(...clicks: Id[]): Session;
  /** Prepares long lists for many calls. */
  filter(lists?: Pick<Options, "exclude" | "allow">): Filter;
  /** Checks rules against the columns of the bundle. */
  rules(rules: RulesGiven): Rules;
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
