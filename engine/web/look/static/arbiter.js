// What all pages need of script: choices that submit, pages that try again, streams of events, keys.
"use strict";

(() => {
  const offline = () => document.getElementById("offline");

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  });

  // Where the next deed is the focus goes: `data-first` of what opens over the page, `data-focus` of what is new.
  // The attribute `autofocus` would do, but for frames of another origin, in which browsers refuse it.
  document.addEventListener("toggle", (event) => {
    if (event.newState === "open") event.target.querySelector("[data-first]")?.focus();
  }, true);
  document.addEventListener("htmx:afterSettle", () => {
    const next = document.querySelector("[data-focus]");
    if (!next) return;
    next.removeAttribute("data-focus");
    next.focus({ preventScroll: true });
  });

  // A page that says "not now" looks again until the real one is there.
  const retried = document.querySelector("[data-retry]");
  if (retried) {
    const again = async () => {
      try {
        const reply = await fetch(location.href, { headers: { accept: "text/html" } });
        if (reply.status !== 429 && reply.status < 500) return location.reload();
      } catch { /* nobody is there yet */ }
      setTimeout(again, 1000 * retried.dataset.retry);
    };
    setTimeout(again, 1000 * retried.dataset.retry);
  }

  const say = (text) => {
    const place = offline();
    if (place && place.textContent !== text) place.textContent = text;
  };
  document.addEventListener("htmx:sendError", () => say(offline().dataset.words));
  document.addEventListener("htmx:afterOnLoad", () => say(""));

  // `data-stream` is the address of a stream; an event named "go" leads to a page, any other is handed on
  // to the element as an event "arbiter:NAME", which htmx may be waiting for.
  const ask = async (element) => {
    try {
      const reply = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!reply.ok && reply.status < 500) return location.reload();  // signed out, say, or the call is over
      listen(element);
    } catch {
      setTimeout(() => ask(element), 3000);
    }
  };
  // Another page in the place of this one: quicker than loading it, as everything but its text is there.
  const sources = new Set();
  const go = async (path) => {
    try {
      const reply = await fetch(path, { headers: { accept: "text/html" } });
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      const sheets = (of) => [...of.querySelectorAll("link[rel=stylesheet]")].map((each) => each.getAttribute("href"));
      const here = sheets(document);
      if (!reply.ok || reply.redirected || !sheets(page).every((each) => here.includes(each))) throw new Error("load it");
      for (const source of sources) source.close();
      sources.clear();
      history.replaceState(null, "", path);
      document.title = page.title;
      document.body.replaceChildren(...document.adoptNode(page.body).childNodes);
      htmx.process(document.body);
      document.getElementById("main").focus({ preventScroll: true });
      scrollTo(0, 0);
      listenAll();
    } catch {
      location.replace(path);
    }
  };
  const listen = (element) => {
    const source = new EventSource(element.dataset.stream);
    sources.add(source);
    let lost = false;
    source.addEventListener("open", () => {
      say("");
      if (lost) element.dispatchEvent(new CustomEvent("arbiter:back", { bubbles: true }));
      lost = false;
    });
    source.addEventListener("error", () => {
      lost = true;
      // A stream ends by itself every few minutes and is opened again: only what lasts is told.
      setTimeout(() => { if (lost && sources.has(source)) say(offline().dataset.words); }, 2500);
      if (source.readyState === EventSource.CLOSED && sources.delete(source)) {
        say(offline().dataset.words);
        setTimeout(() => { if (element.isConnected) ask(element); }, 3000);
      }
    });
    source.addEventListener("go", (event) => go(event.data));
    for (const name of (element.dataset.events || "").split(" ").filter(Boolean)) {
      source.addEventListener(name, (event) =>
        element.dispatchEvent(new CustomEvent(`arbiter:${name}`, { bubbles: true, detail: event.data })));
    }
  };
  const listenAll = () => { for (const element of document.querySelectorAll("[data-stream]")) listen(element); };
  addEventListener("pagehide", () => { for (const source of sources) source.close(); });
  listenAll();

  // A letter presses the button that names it, unless keys are off, somebody writes, or a modifier is held.
  document.addEventListener("keydown", (event) => {
    if (document.documentElement.dataset.keys === "off") return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const key = `[data-key="${CSS.escape(event.key.toLowerCase())}"]`;
    const can = (each) => !each.disabled && each.checkVisibility({ visibilityProperty: true });
    const over = document.querySelector(":popover-open, dialog[open]");
    const places = over ? [over] : [document.activeElement.closest(".card"), document];
    const pressed = places.flatMap((place) => (place ? [...place.querySelectorAll(key)] : [])).find(can);
    if (!pressed) return;
    event.preventDefault();
    pressed.focus();
    pressed.click();
  });
})();
