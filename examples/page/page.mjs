// The page: a worker ranks, with one of two engines, and a service worker keeps the site for the time without a network.
// `?engine=` chooses the engine to begin with, `?graph=` names a graph other than recommender.onnx.
const element = (id) => document.getElementById(id);
const words = (id) => element(id).value.split(/[\s,]+/).filter(Boolean);
const say = (text) => { element('state').textContent = text; };
const NAMES = { wasm: 'mtaw_fast', onnx: 'ONNX Runtime' };

// Without a secure context there is no service worker, and a browser may refuse one; then the page needs its network.
async function offline() {
  const container = navigator.serviceWorker;
  if (container === undefined) return;
  try {
    const before = (await container.getRegistration())?.active;
    const { installing, waiting } = await container.register('./offline.js');
    const first = installing ?? waiting;
    // After Shift+reload a page has no controller, and gets none from a service worker that was active before.
    if (before || first === null) return;
    await new Promise((resolve) => { // of a first visit: it keeps what is loaded from here on
      const look = () => {
        if (container.controller !== null || first.state === 'redundant') resolve();
      };
      container.addEventListener('controllerchange', look);
      first.addEventListener('statechange', look);
      look();
    });
  } catch (error) {
    console.warn(`not kept for the time without a network: ${error.message}`);
  }
}

let worker; // of the chosen engine
let calls = 0;

/** Ask the worker; what it answers, or the error. */
function ask(message) {
  const id = ++calls;
  return new Promise((resolve, reject) => {
    const done = new AbortController(); // removes both listeners
    worker.addEventListener('message', ({ data }) => {
      if (data.id !== id) return;
      done.abort();
      if (data.error === undefined) resolve(data);
      else reject(new Error(data.error));
    }, { signal: done.signal });
    worker.addEventListener('error', (event) => {
      done.abort();
      reject(new Error(event.message));
    }, { signal: done.signal });
    worker.postMessage({ id, ...message });
  });
}

async function start(engine) {
  element('go').disabled = true;
  say('loading ..');
  worker?.terminate();
  worker = new Worker('./worker.mjs', { type: 'module' });
  const graph = new URLSearchParams(location.search).get('graph') ?? 'recommender.onnx';
  const { took } = await ask({ open: engine, graph });
  element('go').disabled = false;
  say(`ready: ${NAMES[engine]}, loaded in ${took.toFixed(0)} ms`);
}

async function rank() {
  const options = { k: Number(element('k').value) || 10, exclude: words('exclude'), excludeSeen: element('seen').checked };
  const { ranking, took } = await ask({ rank: words('session'), options });
  element('ranking').replaceChildren(...ranking.map(({ item, score }, index) => {
    const row = document.createElement('tr');
    for (const text of [index + 1, item, score.toFixed(4)]) row.insertCell().textContent = text;
    return row;
  }));
  document.querySelector('table').hidden = false;
  say(`${ranking.length} items in ${took.toFixed(1)} ms, by ${NAMES[element('engine').value]}`);
}

const failed = (error) => say(`failed: ${error.message}`);

try {
  const engines = await (await fetch('./engines.json')).json();
  element('engine').replaceChildren(...engines.map((engine) => new Option(NAMES[engine], engine)));
  element('engine').value = new URLSearchParams(location.search).get('engine') ?? engines[0];
  element('engine').addEventListener('change', () => start(element('engine').value).catch(failed));
  element('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    rank().catch(failed);
  });
  await offline();
  await start(element('engine').value);
} catch (error) {
  failed(error);
}
