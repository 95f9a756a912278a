/* The wall of thumbnails. Lines are empty until they come near the screen. */
(function () {
  "use strict";
  const clipig = window.clipig;
  const { el } = clipig;
  const SMALLEST = 40; // Thumbnails of a grid never get smaller than this.
  const FLOWING = 104;

  /** Fill `host` with the wall and keep it so; `open` is called on a second click. */
  clipig.buildWall = function (grid, state, host, open) {
    const head = el("div", { class: "line head", role: "row" });
    const body = el("div", { class: "lines", role: "rowgroup" });
    host.append(head, body);
    host.setAttribute("role", "grid");
    const wall = { grid, state, host, head, body, lines: [], structure: "" };
    wall.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const line = wall.lines[Number(entry.target.dataset.line)];
        if (!line || line.element !== entry.target) continue;
        if (entry.isIntersecting) fill(wall, line);
        else empty(line);
      }
    }, { root: host, rootMargin: "60% 0px" });

    host.addEventListener("click", (event) => {
      const button = event.target.closest("[data-id]");
      if (!button) return;
      const cell = grid.cells[Number(button.dataset.id)];
      if (cell === state.cell()) open();
      else state.select(cell);
    });
    state.onChange((changed) => update(wall, changed));
    new ResizeObserver(() => measure(wall)).observe(host);
    measure(wall);
    update(wall, new Set(["all"]));
    return wall;
  };

  /** Size of a thumbnail, and whether rows fit at all, from the width of the wall. */
  function measure(wall) {
    const { grid, state, host } = wall;
    const width = host.clientWidth;
    if (!width) return;
    const label = Math.min(132, width * 0.2);
    const columns = Math.max(1, state.layout.columns.length);
    const room = (width - label - 22) / columns;
    const narrow = grid.axes.length > 1 && room < SMALLEST && width < 640;
    const perLine = Math.max(2, Math.round((width - 20) / FLOWING));
    const flowing = Boolean(state.layout.flow) || narrow;
    const size = flowing ? (width - 22) / perLine : Math.max(SMALLEST, Math.min(132, room));
    host.style.setProperty("--cell", `${Math.floor(size)}px`);
    host.style.setProperty("--label", `${Math.round(label)}px`);
    if (narrow !== state.narrow || perLine !== state.perLine) state.set({ narrow, perLine });
  }

  function structureOf({ state, grid }) {
    const { layout } = state;
    return JSON.stringify([layout.mode, layout.columns, layout.lines.map((line) => line.ids[0]),
      layout.lines.length, layout.flow, grid.sizes.length]);
  }

  function update(wall, changed) {
    const { state, host } = wall;
    host.hidden = state.view !== "pictures";
    if (host.hidden) return;
    const structure = structureOf(wall);
    if (structure !== wall.structure || changed.has("query")) {
      const before = state.layout.columns.length;
      wall.structure = structure;
      rebuild(wall);
      if (before) measure(wall);
    } else if (["favourites", "all", "view", "field"].some((key) => changed.has(key))) {
      for (const line of wall.lines) if (line.filled) refill(wall, line);
    }
    mark(wall, changed);
  }

  function rebuild(wall) {
    const { state, grid, body, host } = wall;
    const sameShape = wall.lines.length === state.layout.lines.length && wall.mode === state.layout.mode;
    wall.mode = state.layout.mode;
    host.dataset.mode = state.layout.mode;
    host.setAttribute("aria-label", `Pictures, ${grid.axes.map((axis) => axis.name).join(" by ")}`);
    host.setAttribute("aria-rowcount", String(state.layout.lines.length));
    buildHead(wall);
    // Another method or column: same lines, other pictures.
    if (sameShape) {
      state.layout.lines.forEach((line, n) => relabel(wall, wall.lines[n], line));
      return;
    }
    wall.watcher.disconnect();
    wall.lines = state.layout.lines.map((line, n) => {
      const element = el("div", { class: "line", role: "row", "data-line": n, "aria-rowindex": n + 1 });
      return { ...line, element, filled: false };
    });
    body.replaceChildren(...wall.lines.map((line) => line.element));
    for (const line of wall.lines) wall.watcher.observe(line.element);
  }

  function relabel(wall, line, next) {
    line.label = next.label;
    line.ids = next.ids;
    if (line.filled) refill(wall, line);
  }

  function buildHead(wall) {
    const { state, grid, head } = wall;
    const { mode, columns } = state.layout;
    head.hidden = mode === "favourites" || mode === "list" || (columns.length < 2 && mode !== "grid");
    head.replaceChildren();
    if (head.hidden) return;
    if (mode === "grid") head.append(el("span", { class: "label" }));
    for (const column of columns) {
      head.append(el("button", {
        type: "button", class: "column", role: "columnheader", "data-column": column, tabindex: "-1",
        onclick: () => state.setAxis(0, column),
      }, grid.axes[0].values[column]));
    }
  }

  function fill(wall, line) {
    if (line.filled) return;
    line.filled = true;
    refill(wall, line);
  }

  function empty(line) {
    if (!line.filled || line.element.contains(document.activeElement)) return;
    line.filled = false;
    line.element.replaceChildren();
  }

  function refill(wall, line) {
    const parts = line.ids.map((id) => thumb(wall, wall.grid.cells[id]));
    if (line.label !== null) {
      parts.unshift(el("span", { class: "label", role: "rowheader", title: line.label }, line.label));
    }
    line.element.replaceChildren(...parts);
  }

  function thumb(wall, cell) {
    const { grid, state } = wall;
    const selected = cell.id === grid.id(state.at);
    const favourite = state.favourites.has(cell);
    const score = cell.status === "done" ? clipig.score(cell[state.field]) : cell.status;
    const button = el("button", {
      type: "button", role: "gridcell", class: `cell ${cell.status}`, "data-id": cell.id,
      tabindex: selected ? "0" : "-1", "aria-selected": String(selected),
      "aria-label": `${grid.name(cell)}, ${score}${favourite ? ", favourite" : ""}`,
      title: `${cell.prompt || grid.name(cell)}\n${score}`,
    }, content(cell));
    if (!state.layout.match(cell)) button.classList.add("off");
    if (selected) button.classList.add("selected");
    if (favourite) button.append(el("span", { class: "heart", "aria-hidden": "true" }, "♥"));
    if (state.layout.flow) button.append(caption(wall, cell));
    return button;
  }

  function caption({ grid, state }, cell) {
    const values = grid.values(cell);
    if (grid.methodAxis >= 0) values[2] = String(cell.index[2] + 1);
    const text = state.layout.mode === "column" ? values[1] : values.join(" · ");
    return el("span", { class: "under" }, text);
  }

  function content(cell) {
    if (cell.status !== "done") return el("span", { class: "mark" }, cell.status === "failed" ? "×" : "");
    const image = el("img", {
      src: clipig.url(cell.thumb || cell.picture), alt: "",
      loading: "lazy", decoding: "async", draggable: "false",
    });
    image.addEventListener("error", () => {
      image.replaceWith(el("span", { class: "mark", title: "The file is not there" }, "?"));
    });
    return image;
  }

  /** Move the outline to the selected cell and keep it on the screen. */
  function mark(wall, changed) {
    const { state, grid, host, head } = wall;
    const id = grid.id(state.at);
    const focused = host.contains(document.activeElement);
    for (const old of host.querySelectorAll(".selected")) {
      old.classList.remove("selected");
      old.setAttribute("aria-selected", "false");
      old.tabIndex = -1;
    }
    for (const column of head.querySelectorAll(".column")) {
      const here = Number(column.dataset.column) === state.at[0];
      column.classList.toggle("here", here);
      if (here && state.layout.mode === "column") center(head, column);
    }
    const line = wall.lines.find((one) => one.ids.includes(id));
    if (!line) return;
    fill(wall, line);
    const cell = line.element.querySelector(`[data-id="${id}"]`);
    cell.classList.add("selected");
    cell.setAttribute("aria-selected", "true");
    cell.tabIndex = 0;
    if (changed.has("at") || changed.has("all") || changed.has("view") || changed.has("query")) {
      cell.scrollIntoView({ block: changed.has("at") ? "nearest" : "center", inline: "nearest" });
    }
    if (focused && changed.has("at")) cell.focus({ preventScroll: true });
  }

  function center(head, column) {
    head.scrollLeft = column.offsetLeft - (head.clientWidth - column.offsetWidth) / 2;
  }
})();
