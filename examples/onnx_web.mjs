// Rank a bundle's catalog with onnxruntime-web, as a browser does: node onnx_web.mjs BUNDLE ID [ID ...]
// (internal item ids 0..N-1; `npm install` in this folder first). In a page, fetch() takes the place of readFile().
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-web';

const [bundle, ...clicks] = process.argv.slice(2);
const { files } = JSON.parse(await readFile(join(bundle, 'manifest.json'), 'utf8'));
ort.env.wasm.numThreads = 1;
const graph = await readFile(join(bundle, files.recommender.file));
const session = await ort.InferenceSession.create(graph, { executionProviders: ['wasm'] });

const ids = Int32Array.from(clicks, Number); // one session; of several each is padded on the right with -1
const { items, scores } = await session.run({
  ids: new ort.Tensor('int32', ids, [1, ids.length]),
  k: new ort.Tensor('int32', Int32Array.of(10), [1]),
});
console.log(JSON.stringify({ items: Array.from(items.data), scores: Array.from(scores.data) }));
