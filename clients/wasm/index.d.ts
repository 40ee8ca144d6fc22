/** An item's id, of the bundle's kind. Whole numbers beyond 2^53 - 1 are BigInts in answers, and must be in calls. */
export type Id = string | number | bigint;

export interface Options {
  /** How many items, at least 1; 20 by default. */
  k?: number;
  /** Items that are not recommended. */
  exclude?: readonly Id[];
  /** Whether to leave out the session's own items; false by default. */
  excludeSeen?: boolean;
  /**
   * The type of each click, such as "cart", for bundles trained on clicks with types; null for an unknown one. As many as
   * clicks, or none.
   */
  types?: readonly (string | null)[];
  /** When the request is made, a Date or Unix milliseconds, for bundles with times; now by default. */
  at?: Date | number;
}

export interface Answer {
  /** Best first. */
  items: Id[];
  scores: Float32Array;
  /** True if no click was known, so that this is the popularity ranking. */
  fallback: boolean;
}

/** The names of the files that a bundle's manifest lists, the manifest's own first. */
export function filesOf(manifest: { files: Record<string, { file: string }> }): string[];

export class Recommender {
  private constructor();
  /**
   * Opens a bundle from the bytes of its files, by name.
   *
   * @param options.verify Whether to check the files; true by default. In a secure context (HTTPS, localhost) and in Node,
   * the hashes are checked with WebCrypto, otherwise libmtaw checks the hashes, slower, and also the values in the files.
   * @throws Error in one line, if a file is missing or damaged.
   */
  static open(files: Record<string, Uint8Array>, options?: { verify?: boolean }): Promise<Recommender>;
  /** Opens a bundle that a server has under a URL, with `fetch`: the browser's cache keeps its files. */
  static fetch(url: string, options?: { verify?: boolean }): Promise<Recommender>;
  /** Ranks the catalog for the next click after `session`, oldest click first. */
  recommend(session: readonly Id[], options?: Options): Answer;
  /** Frees the bundle. */
  close(): void;
}
