// Ranks in the page: graph and runtime are static files, loaded once. `?graph=` names a graph other than recommender.onnx.
import * as ort from './ort/ort.wasm.min.mjs';
import { feedOf, rankingsOf } from './onnx_feed.mjs';

const element = (id) => document.getElementById(id);
const words = (id) => element(id).value.split(/[\s,]+/).filter(Boolean);
const say = (text) => { element('state').textContent = text; };

ort.env.wasm.wasmPaths = new URL('./ort/', import.meta.url).href;
ort.env.wasm.numThreads = 1;

async function rank(session) {
  const options = { k: Number(element('k').value) || 10, exclude: words('exclude'), excludeSeen: element('seen').checked };
  const begin = performance.now();
  const [ranking] = rankingsOf(await session.run(feedOf(ort, session, [words('session')], options)));
  const took = performance.now() - begin;
  element('ranking').replaceChildren(...ranking.map(({ item, score }, place) => {
    const row = document.createElement('tr');
    for (const text of [place + 1, item, score.toFixed(4)]) row.insertCell().textContent = text;
    return row;
  }));
  document.querySelector('table').hidden = false;
  say(`${ranking.length} items in ${took.toFixed(1)} ms`);
}

try {
  const graph = new URLSearchParams(location.search).get('graph') ?? 'recommender.onnx';
  const session = await ort.InferenceSession.create(graph, { executionProviders: ['wasm'] });
  element('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    rank(session).catch((error) => say(`failed: ${error.message}`));
  });
  element('go').disabled = false;
  say('ready');
} catch (error) {
  say(`the graph cannot be loaded: ${error.message}`);
}
