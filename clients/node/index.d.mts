import { Event, Handle, Recommender } from "./core.mjs";

export * from "./core.mjs";

/** The log in a learning folder; processes of the Python package that share the folder learn from it. */
export interface EventLog extends Handle {
  /**
   * Stores events and returns the log position after the last one. They are acknowledged together: after an error of the
   * status "log" some may be stored, so send them again with the same ids.
   */
  append(...events: Event[]): string;
  forget(session: string): string;
}

/** Opens a bundle folder. map: map the files, for folders that nobody writes into. verify: check hashes and values. */
export function open(folder: string, options?: { verify?: boolean; map?: boolean }): Recommender;
/** Opens the log in a folder. sync: whether an append waits for the disk; true by default. */
export function openLog(folder: string, options?: { sync?: boolean }): EventLog;
export function version(): string;
export function instructionSet(): string;
