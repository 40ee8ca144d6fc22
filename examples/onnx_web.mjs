// Rank with onnxruntime-web as in a browser, without mtaw_fast: node onnx_web.mjs BUNDLE ITEM [ITEM ...]
// (external ids; `npm install` in this folder first). `page/` does the same in a page.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-web';
import { feedOf, rankingsOf } from './onnx_feed.mjs';

const [bundle, ...clicks] = process.argv.slice(2);
const { files } = JSON.parse(await readFile(join(bundle, 'manifest.json'), 'utf8'));
ort.env.wasm.numThreads = 1;
const graph = await readFile(join(bundle, files.recommender.file));
const session = await ort.InferenceSession.create(graph, { executionProviders: ['wasm'] });

const [ranking] = rankingsOf(await session.run(feedOf(ort, session, [clicks], { k: 10 })));
console.log(JSON.stringify({ items: ranking.map(({ item }) => String(item)), scores: ranking.map(({ score }) => score) }));
