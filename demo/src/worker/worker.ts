// The service worker, with which the page opens without a network. With one, the page comes from the server, so that after an upgrade
// nobody sees an old one. Requests for data pass by: the client keeps messages, and sends what was written offline.
export {};
declare const self: ServiceWorkerGlobalScope;

/** The files of this version, and a name for it. The build fills them in. */
declare const __FILES__: string[];
declare const __VERSION__: string;

const CACHE = `roomlog-${__VERSION__}`;

/** The number of versions that are kept: an open page may still load a part of the one before. */
const KEPT = 2;

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    // Past the browser's own cache, which may hold the page of another version.
    await cache.addAll(["/", ...__FILES__].map((file) => new Request(file, { cache: "reload" })));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    // In the order in which they were made.
    const old = (await caches.keys()).filter((name) => name.startsWith("roomlog-") && name !== CACHE);
    await Promise.all(old.slice(0, Math.max(0, old.length - KEPT + 1)).map((name) => caches.delete(name)));
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (url.pathname === "/") event.respondWith(fetchPage(request));
  // Their names have a hash of the contents, so any copy is the right one.
  else if (url.pathname.startsWith("/assets/")) event.respondWith(fetchAsset(request));
  else if (__FILES__.includes(url.pathname)) event.respondWith(fetch(request).catch(() => stored(url.pathname)));
});

async function fetchPage(request: Request): Promise<Response> {
  try {
    const response = await fetch(request);
    // A proxy that cannot reach the server answers for it.
    return response.status < 500 ? response : await stored("/");
  } catch {
    return stored("/");
  }
}

const fetchAsset = async (request: Request): Promise<Response> => (await caches.match(request.url)) ?? fetch(request);

const stored = async (path: string): Promise<Response> => (await (await caches.open(CACHE)).match(path)) ?? Response.error();
