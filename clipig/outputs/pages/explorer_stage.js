/* The stage: the selected picture (or one per method), its sentence and details. */
(function () {
  "use strict";
  const clipig = window.clipig;
  const { el } = clipig;
  const BINS = 48;

  /** Keep figures, sentence, method buttons, details and the spoken line up to date. */
  clipig.buildStage = function (grid, state, open) {
    const parts = {};
    for (const id of ["figures", "sentence", "methods", "compare", "details", "live"]) {
      parts[id] = document.getElementById(id);
    }
    const stage = { grid, state, open, parts };
    parts.compare.addEventListener("click", () => state.set({ compare: !state.compare }));
    parts.compare.parentElement.hidden = grid.methods.length < 2;
    buildMethods(stage);
    listenSwipe(stage);
    state.onChange((changed) => {
      if (["at", "compare", "favourites", "all"].some((key) => changed.has(key))) render(stage);
      if (changed.has("at")) speak(stage);
    });
    render(stage);
  };

  function buildMethods({ grid, state, parts }) {
    if (grid.methodAxis < 0) return;
    parts.methods.setAttribute("aria-label", grid.axes[2].name);
    grid.methods.forEach((name, method) => {
      const key = method < 9 ? el("kbd", { "aria-hidden": "true" }, String(method + 1)) : null;
      parts.methods.append(el("button", {
        type: "button", "data-method": method, "aria-keyshortcuts": method < 9 ? method + 1 : null,
        onclick: () => state.setAxis(2, method),
      }, key, name));
    });
  }

  /** The cells on the stage: the selected one, or its place in every method. */
  function shown({ grid, state }) {
    if (!state.compare || grid.methods.length < 2) return [state.cell()];
    return grid.methods.map((_, method) => grid.cells[grid.id(state.at.with(2, method))]);
  }

  function render(stage) {
    const { grid, state, parts } = stage;
    const cell = state.cell();
    const cells = shown(stage);
    parts.figures.style.setProperty("--count", cells.length);
    parts.figures.replaceChildren(...cells.map((one) => figure(stage, one, cells.length > 1)));
    parts.sentence.textContent = cell.prompt || grid.name(cell);
    parts.compare.setAttribute("aria-pressed", String(state.compare));
    for (const button of parts.methods.children) {
      const here = Number(button.dataset.method) === state.at[2];
      button.setAttribute("aria-pressed", String(here));
      if (here) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    renderDetails(stage, cell);
    prefetch(stage);
  }

  function figure(stage, cell, several) {
    const { grid, state } = stage;
    const frame = el("div", { class: `frame ${cell.status}` }, picture(stage, cell), heart(stage, cell));
    const box = el("figure", { "data-id": cell.id }, frame);
    if (several) {
      box.classList.toggle("here", cell === state.cell());
      const name = grid.methods[grid.method(cell)];
      box.append(el("figcaption", {}, el("span", {}, `${grid.method(cell) + 1}  ${name}`),
        el("span", {}, clipig.score(cell[state.field]))));
    }
    return box;
  }

  function picture({ grid, state, open }, cell) {
    if (cell.status !== "done") return placeholder(cell);
    const image = el("img", {
      src: clipig.url(cell.picture), alt: cell.prompt || grid.name(cell), draggable: "false",
    });
    // The thumbnail is already there; it fills the frame until the picture is.
    const button = el("button", {
      type: "button", class: "look", "aria-label": `Open ${grid.name(cell)}`,
      onclick: () => { state.select(cell); open(); },
    }, image);
    const small = cell.thumb ? clipig.url(cell.thumb) : "";
    if (small) button.style.backgroundImage = `url("${small}")`;
    image.addEventListener("load", () => { button.style.backgroundImage = ""; });
    image.addEventListener("error", () => {
      button.replaceWith(el("div", { class: "reason" },
        el("strong", {}, "The file is not there"), cell.picture));
    });
    return button;
  }

  function placeholder(cell) {
    const failed = cell.status === "failed";
    const why = failed ? cell.error || "No reason was recorded."
      : "The command in the details renders it.";
    return el("div", { class: "reason" },
      el("strong", {}, failed ? "This picture failed" : "Not rendered yet"),
      el("span", {}, why));
  }

  function heart({ grid, state }, cell) {
    const on = state.favourites.has(cell);
    return el("button", {
      type: "button", class: "favourite", "aria-pressed": String(on), "aria-keyshortcuts": "F",
      "aria-label": `Favourite: ${grid.name(cell)}`, title: "Favourite (F)",
      onclick: () => state.favourites.toggle(cell),
    }, on ? "♥" : "♡");
  }

  function renderDetails(stage, cell) {
    const { grid, state, parts } = stage;
    const scroll = parts.details.scrollTop;
    const opened = Boolean(parts.details.querySelector("details[open]"));
    const wanted = [scores(stage, cell), facts(stage, cell)];
    if (cell.command) wanted.push(codeBox("Command", cell.command));
    const recipe = grid.recipe(cell);
    if (recipe) {
      wanted.push(el("details", { class: "recipe", open: opened },
        el("summary", {}, `Recipe ${recipe.name}`), codeBox("Recipe", recipe.yaml)));
    }
    wanted.push(el("p", { class: "buttons" },
      clipig.copyButton("Copy prompt", cell.prompt || grid.name(cell), "Prompt"),
      clipig.button("Copy link", () => clipig.copyAloud(state.link(), "Link")),
      cell.status === "done" ? fileLink(cell) : null));
    wanted.push(el("p", { class: "made dim" }, `Made by ${grid.createdBy}`));
    parts.details.replaceChildren(...wanted);
    parts.details.scrollTop = scroll;
  }

  function fileLink(cell) {
    const target = { href: clipig.url(cell.picture), target: "_blank", rel: "noopener" };
    return el("a", { class: "button", ...target }, "Open file");
  }

  function codeBox(what, text) {
    const copy = clipig.copyButton("Copy", text, what);
    copy.setAttribute("aria-label", `Copy ${what.toLowerCase()}`);
    return el("div", { class: "code" }, el("pre", { tabindex: "0", "aria-label": what }, text), copy);
  }

  function facts({ grid }, cell) {
    const pairs = grid.axes.map((axis, n) => [axis.name, axis.values[cell.index[n]]]);
    if (cell.seed != null) pairs.push(["seed", String(cell.seed)]);
    if (cell.status !== "done") pairs.push(["state", cell.status]);
    return el("dl", { class: "facts" }, ...pairs.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  function scores(stage, cell) {
    const { grid } = stage;
    const list = el("div", { class: "scores" });
    const rank = cell.rank != null && cell.similarity != null
      ? `rank ${cell.rank} of ${grid.ranked[grid.method(cell)]}` : "";
    list.append(scoreBox(stage, cell, "similarity", grid.guide, rank));
    if (grid.hasHeldOut) list.append(scoreBox(stage, cell, "held_out", grid.judge, ""));
    return list;
  }

  /** One score with the distribution of its method behind it. */
  function scoreBox({ grid }, cell, field, model, note) {
    const label = field === "similarity" ? "similarity" : "held-out";
    return el("div", { class: "score", "data-field": field },
      el("span", { class: "dim" }, model ? `${label} · ${model}` : label),
      el("strong", {}, clipig.score(cell[field])),
      distribution(grid, cell, field), el("span", { class: "dim rank" }, note));
  }

  function distribution(grid, cell, field) {
    const method = grid.method(cell);
    const key = `${field}/${method}`;
    grid.bins = grid.bins || {};
    grid.bins[key] = grid.bins[key] || countBins(grid, field, method);
    const { counts, range } = grid.bins[key];
    if (!range) return null;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${BINS} 20`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const most = Math.max(...counts);
    const bar = (x, height, name) => {
      const rect = document.createElementNS(svg.namespaceURI, "rect");
      const box = { x, y: 20 - height, width: 0.8, height, class: name };
      for (const [attribute, value] of Object.entries(box)) rect.setAttribute(attribute, value);
      svg.append(rect);
    };
    counts.forEach((count, n) => { if (count) bar(n, Math.max(1, (count / most) * 18), "bin"); });
    if (cell[field] != null) bar(binOf(cell[field], range), 20, "now");
    return svg;
  }

  function binOf(value, { low, high }) {
    return high > low ? Math.min(BINS - 1, Math.floor(((value - low) / (high - low)) * BINS)) : BINS / 2;
  }

  function countBins(grid, field, method) {
    const counts = new Array(BINS).fill(0);
    const range = clipig.range(grid, field, method);
    if (!range) return { counts, range };
    for (const cell of grid.cells) {
      if (cell[field] != null && grid.method(cell) === method) counts[binOf(cell[field], range)]++;
    }
    return { counts, range };
  }

  /** Fetch what one key press would show next. */
  function prefetch(stage) {
    const { grid, state } = stage;
    clearTimeout(stage.timer);
    stage.timer = setTimeout(() => {
      const near = [[0, 1], [0, -1], [1, 0], [-1, 0]].map(([x, y]) => clipig.step(grid, state, x, y));
      if (grid.methodAxis >= 0) {
        grid.methods.slice(0, 9).forEach((_, m) => near.push(grid.cells[grid.id(state.at.with(2, m))]));
      }
      stage.ahead = near.filter((cell) => cell.status === "done").map((cell) => {
        const image = new Image();
        image.src = clipig.url(cell.picture);
        return image;
      });
    }, 120);
  }

  function speak({ grid, state, parts }) {
    const cell = state.cell();
    const score = cell.status === "done" ? `similarity ${clipig.score(cell.similarity)}` : cell.status;
    parts.live.textContent = `${grid.values(cell).join(", ")}: ${score}`;
  }

  /** A swipe across the stage goes to the next column. */
  function listenSwipe({ grid, state, parts }) {
    let start = null;
    parts.figures.addEventListener("touchstart", (event) => {
      start = event.touches.length === 1 ? event.touches[0] : null;
    }, { passive: true });
    parts.figures.addEventListener("touchend", (event) => {
      if (!start) return;
      const end = event.changedTouches[0];
      const across = end.clientX - start.clientX;
      const down = end.clientY - start.clientY;
      start = null;
      if (Math.max(Math.abs(across), Math.abs(down)) < 40) return;
      event.preventDefault();
      const step = Math.abs(across) > Math.abs(down) ? [-Math.sign(across), 0] : [0, -Math.sign(down)];
      state.select(clipig.step(grid, state, ...step));
    });
  }
})();
