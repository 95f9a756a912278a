/* Shared by all pages: elements, clipboard, downloads, storage. */
(function () {
  "use strict";
  const clipig = (window.clipig = window.clipig || {});

  /** Make an element. Data enters only as text or attribute, never as markup. */
  clipig.el = function (tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  };

  /** A plain button. */
  clipig.button = function (text, action, attributes) {
    return clipig.el("button", { type: "button", onclick: action, ...attributes }, text);
  };

  /** A button that copies `text` (see the listener at the end). */
  clipig.copyButton = function (label, text, what) {
    return clipig.el("button", { type: "button", "data-copy": text, "data-what": what }, label);
  };

  /** URL of a relative file name; `#`, `%` and `?` belong to the name. */
  clipig.url = function (path) {
    return path.split("/").map(encodeURIComponent).join("/");
  };

  /** A score as the article prints it. */
  clipig.score = function (value) {
    return value == null ? "–" : value.toFixed(2);
  };

  function copyByHand(text) {
    const area = clipig.el("textarea", { class: "offscreen", "aria-hidden": "true" });
    area.value = text;
    const host = document.querySelector("dialog[open]") || document.body;
    const before = document.activeElement;
    host.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (before) before.focus();
    return done;
  }

  /** Copy text; resolves to whether it worked. */
  clipig.copy = async function (text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (error) {
      return copyByHand(text);
    }
  };

  /** Say something to screen readers and show it for a moment. */
  clipig.say = function (text) {
    const note = document.getElementById("toast");
    note.textContent = text;
    note.classList.add("on");
    clearTimeout(clipig.say.timer);
    clipig.say.timer = setTimeout(() => note.classList.remove("on"), 1600);
  };

  /** Copy and say what was copied. */
  clipig.copyAloud = async function (text, what) {
    const done = await clipig.copy(text);
    clipig.say(done ? `${what} copied` : `The browser did not let ${what} be copied`);
    return done;
  };

  /** Offer a text as a file to save. */
  clipig.download = function (name, type, text) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const anchor = clipig.el("a", { href: url, download: name });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };

  const memory = new Map();

  /** Keep values in the browser; in memory where it does not let us. */
  clipig.storage = {
    persistent: true,
    get(key) {
      try {
        const value = window.localStorage.getItem(key);
        return value === null && memory.has(key) ? memory.get(key) : value;
      } catch (error) {
        this.persistent = false;
        return memory.has(key) ? memory.get(key) : null;
      }
    },
    set(key, value) {
      memory.set(key, value);
      try {
        window.localStorage.setItem(key, value);
        this.persistent = true;
      } catch (error) {
        this.persistent = false;
      }
    },
  };

  const THEMES = ["auto", "dark", "light"];

  /** Go to the next theme; `auto` follows the system. */
  clipig.nextTheme = function () {
    const now = document.documentElement.dataset.theme || "auto";
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    clipig.storage.set("clipig.theme", next);
    applyTheme();
    clipig.say(`Theme: ${next}`);
  };

  function applyTheme() {
    const theme = clipig.storage.get("clipig.theme");
    document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "auto";
    document.dispatchEvent(new CustomEvent("clipig-theme"));
  }

  applyTheme();
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) clipig.copyAloud(button.dataset.copy, button.dataset.what || "Text");
    if (event.target.closest("[data-next-theme]")) clipig.nextTheme();
  });
})();
