/** A typed client of the mtaw_fast service. Paths, bodies and answers are those of its OpenAPI document. */

import createClient, { type Client } from "openapi-fetch";
import type { paths } from "./schema.js";

export type { components, paths } from "./schema.js";

/**
 * Return a client of the service at `url`, for example "http://127.0.0.1:8000".
 *
 * @param token The administrator's token; only the routes under /admin need it.
 */
export function connect(url: string, token?: string): Client<paths> {
  const headers: Record<string, string> = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  return createClient<paths>({ baseUrl: url, headers });
}
