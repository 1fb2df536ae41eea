// Speaks to the client around the app: JSON-RPC by postMessage (MCP Apps, 2026-01-26).
(() => {
  "use strict";
  const shown = document.getElementById("shown");
  const root = document.documentElement;
  let last = 0;

  const say = (message) => window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  const ask = (method, params) => say({ id: ++last, method, params });

  function dress(context) {
    if (context && context.theme) root.style.colorScheme = context.theme;
  }

  function show(result) {
    const html = result && result._meta && result._meta[shown.dataset.shown];
    if (html) {
      shown.innerHTML = html; // made and escaped by our own server
    } else {
      shown.textContent = "There is nothing to show here.";
    }
  }

  window.addEventListener("message", (event) => {
    const message = event.data;
    if (event.source !== window.parent || !message || message.jsonrpc !== "2.0") return;
    if (message.id === 1 && message.result) {
      dress(message.result.hostContext);
      say({ method: "ui/notifications/initialized", params: {} });
    } else if (message.method === "ui/notifications/tool-result") {
      show(message.params);
    } else if (message.method === "ui/notifications/host-context-changed") {
      dress(message.params);
    } else if (message.method === "ui/resource-teardown" || message.method === "ping") {
      say({ id: message.id, result: {} });
    }
  });

  shown.addEventListener("click", (event) => {
    const slot = event.target.closest("[data-start]");
    if (!slot) return;
    const text = `I choose ${slot.getAttribute("aria-label")} (${slot.dataset.start}).`;
    ask("ui/message", { role: "user", content: { type: "text", text } });
  });

  new ResizeObserver(() => {
    const { width, height } = document.body.getBoundingClientRect();
    say({ method: "ui/notifications/size-changed", params: { width: Math.ceil(width), height: Math.ceil(height) } });
  }).observe(document.body);

  ask("ui/initialize", {
    appInfo: { name: "scheduling-gateway", version: "1" },
    appCapabilities: { availableDisplayModes: ["inline"] },
    protocolVersion: "2026-01-26",
  });
})();
