// Ranks apart from the page, which stays responsive. Only the chosen engine is loaded.
let ranked;

const engines = {
  /** libmtaw as WebAssembly, with the bundle's own files. */
  async wasm() {
    const { Recommender } = await import('./mtaw/index.mjs');
    const recommender = await Recommender.fetch(new URL('./bundle', import.meta.url).href);
    const isNumber = recommender.info.ids === 'number'; // and what is no number is an unknown item
    const idOf = (word) => (isNumber && /^-?\d{1,18}$/.test(word) ? BigInt(word) : word);
    return async (session, { exclude, ...options }) => {
      const { items, scores } = recommender.recommend(session.map(idOf), { ...options, exclude: exclude.map(idOf) });
      return items.map((item, index) => ({ item: String(item), score: scores[index] }));
    };
  },
  /** ONNX Runtime, with the graph that was exported from the bundle. */
  async onnx(graph) {
    const [ort, { feedOf, rankingsOf }] = await Promise.all([import('./ort/ort.wasm.min.mjs'), import('./onnx_feed.mjs')]);
    ort.env.wasm.wasmPaths = new URL('./ort/', import.meta.url).href;
    ort.env.wasm.numThreads = 1;
    const run = await ort.InferenceSession.create(new URL(graph, import.meta.url).href, { executionProviders: ['wasm'] });
    return async (session, options) => {
      const [ranking] = rankingsOf(await run.run(feedOf(ort, run, [session], options)));
      return ranking.map(({ item, score }) => ({ item: String(item), score }));
    };
  },
};

self.addEventListener('message', async ({ data: { id, open, graph, rank, options } }) => {
  try {
    const begin = performance.now();
    let ranking;
    if (open !== undefined) ranked = await engines[open](graph);
    else ranking = await ranked(rank, options);
    self.postMessage({ id, ranking, took: performance.now() - begin });
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
});
