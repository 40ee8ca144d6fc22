/** Reads sessions from stdin, a JSON array of item ids a line, and prints the recommended items, a JSON array a line. */

import { createInterface } from "node:readline";
import { connect } from "./index.js";

const service = connect(process.argv[2] ?? "http://127.0.0.1:8000");
for await (const line of createInterface({ input: process.stdin })) {
  const { data, error } = await service.POST("/v1/recommend", { body: { session: JSON.parse(line), k: 10 } });
  if (error !== undefined) throw new Error(error.error.message);
  console.log(JSON.stringify(data.items));
}
