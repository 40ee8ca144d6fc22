import { Recommender as Shared } from "./dist/core.mjs";

export { Answer, Id, Info, MtawError, Options, Reason, RulesGiven, Session } from "./dist/core.mjs";

/** The names of the files that a bundle's manifest lists, the manifest's own first. */
export function filesOf(manifest: { files: Record<string, { file: string }> }): string[];

export class Recommender extends Shared {
  private constructor();
  /**
   * Opens a bundle from the bytes of its files, by name.
   *
   * @param options.verify Whether to check the files; true by default. In a secure context (HTTPS, localhost) and in Node,
   * the hashes are checked with WebCrypto, otherwise libmtaw checks the hashes, slower, and also the values in the files.
   * @throws MtawError in one line, if a file is missing or damaged.
   */
  static open(files: Record<string, Uint8Array>, options?: { verify?: boolean }): Promise<Recommender>;
  /** Opens a bundle that a server has under a URL, with `fetch`: the browser's cache keeps its files. */
  static fetch(url: string, options?: { verify?: boolean }): Promise<Recommender>;
}
