/* The page put together: header, panes, favourites bar, keys, help. */
(function () {
  "use strict";
  const clipig = window.clipig;
  const { el } = clipig;
  const by = (id) => document.getElementById(id);

  function start() {
    if (!clipig.data) {
      by("nothing").hidden = false;
      by("nothing").textContent = "data.js is not there; it belongs beside this page.";
      return;
    }
    const grid = clipig.buildGrid(clipig.data);
    const state = clipig.buildState(grid);
    const zoom = clipig.buildZoom(grid, state);
    const page = { grid, state, zoom };
    clipig.page = page;
    buildHeader(page);
    buildPanes(page);
    buildExports(page);
    buildHelp(page);
    clipig.buildStage(grid, state, zoom.open);
    clipig.buildWall(grid, state, by("wall"), zoom.open);
    clipig.buildMatrix(grid, state, by("matrix"), zoom.open);
    document.addEventListener("keydown", (event) => onKey(page, event));
    state.onChange(() => renderHeader(page));
    state.refresh();
    if (!clipig.storage.persistent) clipig.say("Favourites last only until this page is closed");
    document.documentElement.dataset.ready = "true";
    performance.mark("clipig-ready");
  }

  function buildHeader({ grid, state }) {
    const { done, failed, missing } = grid.counts;
    const counts = [`${done.toLocaleString("en")} pictures`];
    if (failed) counts.push(`${failed} failed`);
    if (missing) counts.push(`${missing} missing`);
    by("counts").textContent = counts.join(" · ");
    by("search").placeholder = `Search ${grid.axes.slice(0, 2).map((axis) => axis.name).join(", ")}, prompt`;
    by("search").value = state.query;
    by("search").addEventListener("input", () => state.set({ query: by("search").value }));
    by("only").addEventListener("click", () => state.set({ favouritesOnly: !state.favouritesOnly }));
    by("random").addEventListener("click", () => surprise({ grid, state }));
    by("help-open").addEventListener("click", () => by("help").showModal());
    grid.axes.slice(3).forEach((axis, n) => by("others").append(otherAxis(state, axis, n + 3)));
  }

  function otherAxis(state, axis, n) {
    const options = axis.values.map((value, at) => el("option", { value: at }, value));
    const select = el("select", {
      "data-axis": n, onchange: () => state.setAxis(n, Number(select.value)),
    }, ...options);
    return el("label", { class: "dim" }, `${axis.name} `, select);
  }

  function renderHeader({ state, grid }) {
    const marked = state.favourites.cells().length;
    by("only-count").textContent = marked;
    by("only").setAttribute("aria-pressed", String(state.favouritesOnly));
    if (document.activeElement !== by("search")) by("search").value = state.query;
    for (const select of by("others").querySelectorAll("select")) {
      select.value = state.at[Number(select.dataset.axis)];
    }
    by("nothing").hidden = state.layout.count > 0;
    by("nothing").textContent = state.favouritesOnly && !marked
      ? "No favourites yet. Press F or ♡ on a picture." : "Nothing matches this search.";
    by("exports").hidden = !state.favouritesOnly || !marked;
    by("exports-count").textContent = `${marked} favourite${marked === 1 ? "" : "s"}`;
    const pane = state.pane === "details" ? "details" : "browse";
    document.querySelector("main").dataset.pane = pane;
    for (const button of document.querySelectorAll("[data-view]")) {
      const view = button.dataset.view;
      const here = pane === "details" ? view === "details" : view === state.view;
      button.setAttribute("aria-pressed", String(here));
      // Beside the details the wide layout still shows pictures or matrix.
      button.classList.toggle("behind", pane === "details" && view === state.view);
    }
    by("sort-box").hidden = grid.axes.length < 2;
    by("field-box").hidden = !grid.hasHeldOut;
    by("common-box").hidden = grid.methods.length < 2 || state.view !== "matrix";
  }

  function buildPanes({ state }) {
    for (const button of document.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => {
        const view = button.dataset.view;
        state.set(view === "details" ? { pane: "details" } : { pane: "browse", view });
      });
    }
    by("sort").addEventListener("change", () => state.set({ sort: by("sort").value }));
    by("field").addEventListener("change", () => state.set({ field: by("field").value }));
    by("common").addEventListener("change", () => state.set({ common: by("common").checked }));
  }

  function buildExports({ grid, state }) {
    const name = `${grid.data.id.replace(/[^\w-]+/g, "-") || "grid"}-favourites`;
    const cells = () => state.favourites.cells();
    by("export-copy").addEventListener("click", () =>
      clipig.copyAloud(clipig.favouritesText(grid, cells()), "List"));
    by("export-text").addEventListener("click", () =>
      clipig.download(`${name}.txt`, "text/plain", clipig.favouritesText(grid, cells())));
    by("export-json").addEventListener("click", () =>
      clipig.download(`${name}.json`, "application/json", clipig.favouritesJson(grid, cells())));
    by("export-clear").addEventListener("click", () => {
      if (window.confirm(`Forget all ${cells().length} favourites?`)) state.favourites.clear();
    });
  }

  function surprise({ grid, state }) {
    const pool = grid.cells.filter((cell) => cell.status === "done" && state.layout.match(cell)
      && cell !== state.cell());
    if (pool.length) state.select(pool[Math.floor(Math.random() * pool.length)]);
  }

  function buildHelp({ grid }) {
    const name = (n) => grid.axes[n]?.name;
    const last = Math.min(9, grid.methods.length);
    const methodKeys = last > 2 ? `1 … ${last}` : "1 2";
    const keys = [
      ["← →", `choose the ${name(0)}`], ["↑ ↓", name(1) && `choose the ${name(1)}`],
      ["Home End", `first, last ${name(0)}`], ["PgUp PgDn", name(1) && `ten ${name(1)} values on`],
      [methodKeys, name(2) && `choose the ${name(2)}`],
      ["B", name(2) && "side by side"], ["M", "matrix or pictures"], ["/", "search"],
      ["Enter", "full picture"], ["+ − 0", "zoom the full picture"],
      ["N", "hard pixels in the full picture"],
      ["F", "favourite"], ["Shift F", "favourites only"], ["R", "surprise me"],
      ["C", "copy the command"], ["T", "theme"], ["Esc", "close, or clear the search"], ["?", "this help"],
    ].filter(([, what]) => what);
    by("help").append(
      el("h2", { id: "help-title" }, "Keys"),
      el("dl", {}, ...keys.map(([key, what]) => el("div", {},
        el("dt", {}, ...key.split(" ").map((one) => el("kbd", {}, one))), el("dd", {}, what)))),
      el("p", { class: "dim" }, "On a phone: swipe the picture, tap it to open, pinch to zoom."),
      clipig.button("Close", () => by("help").close()));
  }

  const STEPS = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    PageUp: [0, -10], PageDown: [0, 10], Home: [-1e6, 0], End: [1e6, 0],
  };

  function onKey(page, event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (target === by("search")) return searchKey(page, event);
    if (target.closest("select, textarea")) return;
    if (by("help").open) return;
    const onButton = target.closest("button, a, summary, input") && !target.closest("[data-id], .look");
    if ((event.key === "Enter" || event.key === " ") && (onButton || target.closest("figure"))) return;
    if (act(page, event)) event.preventDefault();
  }

  function searchKey({ state }, event) {
    if (event.key === "Escape") {
      if (state.query) {
        by("search").value = "";
        state.set({ query: "" });
      } else by("search").blur();
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === "ArrowDown") {
      by("search").blur();
      document.querySelector("#wall .selected")?.focus();
      event.preventDefault();
    }
  }

  function act(page, event) {
    const { grid, state, zoom } = page;
    const { key } = event;
    if (zoom.isOpen() && zoom.key(key)) return true;
    if (STEPS[key]) {
      state.select(clipig.step(grid, state, ...STEPS[key]));
      return true;
    }
    if (/^[1-9]$/.test(key)) {
      state.setAxis(grid.methodAxis, Number(key) - 1);
      return true;
    }
    const action = actions(page)[key.length === 1 && !event.shiftKey ? key.toLowerCase() : key];
    if (action) action();
    return Boolean(action);
  }

  function actions(page) {
    const { state, grid, zoom } = page;
    const always = {
      f: () => {
        const on = state.favourites.toggle(state.cell());
        clipig.say(on ? "Added to favourites" : "Removed from favourites");
      },
      c: () => clipig.copyAloud(state.cell().command || "", "Command"),
      r: () => surprise(page),
      t: clipig.nextTheme,
      "?": () => by("help").showModal(),
    };
    if (zoom.isOpen()) return always;
    return {
      ...always,
      F: () => state.set({ favouritesOnly: !state.favouritesOnly }),
      b: () => { if (grid.methods.length > 1) state.set({ compare: !state.compare }); },
      m: () => state.set({ pane: "browse", view: state.view === "matrix" ? "pictures" : "matrix" }),
      "/": () => by("search").select(),
      Enter: zoom.open,
      Escape: () => state.set({ query: "", favouritesOnly: false }),
    };
  }

  start();
})();
