// The service worker: what was loaded once is kept, and served without the network from then on. build_page.py writes a
// version of the site's content into it, so that a browser that finds another one loads the site again.
const VERSION = 'mtaw-VERSION';
const PAGE = ['./', './page.mjs', './engines.json', './worker.mjs'];
// Of another version, the browser's own cache may still hold files under the same names.
const FRESH = { cache: 'no-cache' };

self.addEventListener('install', (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(PAGE.map((url) => new Request(url, FRESH)))));
});

self.addEventListener('activate', (event) => {
  const old = (name) => name.startsWith('mtaw-') && name !== VERSION;
  event.waitUntil((async () => {
    await self.clients.claim(); // first: the worker before it would make its cache again
    for (const name of await caches.keys()) if (old(name)) await caches.delete(name);
  })());
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith((async () => {
    const cache = await caches.open(VERSION);
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept !== undefined) return kept;
    const answer = await (request.mode === 'navigate' ? fetch(request) : fetch(request, FRESH));
    // Without room in the cache the page still gets its answer.
    if (answer.ok) event.waitUntil(cache.put(request, answer.clone()).catch(() => {}));
    return answer;
  })());
});
