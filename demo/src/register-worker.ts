// Registers the service worker. Browsers have none on pages that come over plain HTTP from another machine.

export function registerWorker(): void {
  if (!("serviceWorker" in navigator)) return;
  addEventListener("load", () => {
    navigator.serviceWorker.register(workerUrl()).then(
      // The browser looks for a new version by itself, but not at once. Without a network, there is none.
      (registration) => registration.update().catch(() => {}),
      (error: unknown) => console.warn("this page will not open offline:", error),
    );
  });
}

/** The page's policy lets only this policy name a script. */
function workerUrl(): string {
  const { trustedTypes } = globalThis as { trustedTypes?: { createPolicy(name: string, rules: { createScriptURL(): string }): { createScriptURL(url: string): string } } };
  const rules = { createScriptURL: () => "/worker.js" };
  return trustedTypes?.createPolicy("service-worker", rules).createScriptURL("") ?? rules.createScriptURL();
}
