/* The overview: every cell as a coloured field on one canvas, one block a method. */
(function () {
  "use strict";
  const clipig = window.clipig;
  const { el } = clipig;
  const ROW = 14; // Rows are folded into several blocks rather than made smaller.
  const LEAST_CELL = 9;
  const HEAD = 74; // Room for slanted names above the columns.
  const NO_HEAD = 8;
  const LEGEND = 34;

  // Viridis at 9 points: even to the eye, also for colour-blind people and in grey.
  const VIRIDIS = [
    [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
    [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
  ];

  function colour(share) {
    const place = Math.max(0, Math.min(1, share)) * (VIRIDIS.length - 1);
    const low = Math.min(VIRIDIS.length - 2, Math.floor(place));
    const mixed = VIRIDIS[low].map((part, n) =>
      Math.round(part + (VIRIDIS[low + 1][n] - part) * (place - low)));
    return `rgb(${mixed.join(",")})`;
  }

  clipig.buildMatrix = function (grid, state, host, open) {
    const canvas = el("canvas", { role: "img", class: "field", "aria-label": "Overview" });
    const space = el("div", { class: "space" });
    const legend = el("div", { class: "legends" });
    const tip = el("div", { class: "tip", hidden: true });
    const scroller = el("div", { class: "scroller", tabindex: "0", role: "group" }, canvas, space);
    host.append(legend, scroller, tip);
    const matrix = { grid, state, host, canvas, space, legend, tip, scroller, plan: null };
    const redraw = () => { if (!host.hidden) draw(matrix); };
    scroller.addEventListener("scroll", redraw, { passive: true });
    scroller.setAttribute("aria-label", "Overview coloured by score; arrow keys move the selection");
    canvas.addEventListener("pointermove", (event) => hover(matrix, event));
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("click", (event) => {
      const cell = cellAt(matrix, event);
      if (cell && cell === state.cell()) open();
      else if (cell) state.select(cell);
    });
    new ResizeObserver(() => { if (!host.hidden) refresh(matrix); }).observe(scroller);
    document.addEventListener("clipig-theme", redraw);
    window.matchMedia("(prefers-color-scheme: light)").addEventListener("change", redraw);
    state.onChange((changed) => {
      host.hidden = state.view !== "matrix";
      if (!host.hidden) refresh(matrix);
      if (!host.hidden && changed.has("at")) follow(matrix);
    });
    return matrix;
  };

  /** Rows and columns of the overview; a grid of one axis becomes one column. */
  function shapeOf({ grid, state }) {
    const { layout } = state;
    if (grid.axes.length === 1) return { columns: [0], rows: layout.columns, flat: true };
    return { columns: layout.columns, rows: layout.rows, flat: false };
  }

  /** Fold the rows into as many blocks as it takes to see all of them at once. */
  function makePlan(matrix) {
    const { grid, scroller } = matrix;
    const width = scroller.clientWidth;
    const height = scroller.clientHeight;
    const shape = shapeOf(matrix);
    const methods = grid.methods.length;
    const label = Math.min(118, width * 0.24);
    const head = shape.flat ? NO_HEAD : HEAD;
    const fit = (blocks) => {
      const lines = Math.max(1, Math.ceil(shape.rows.length / blocks));
      const room = width / blocks - label - 8 * (methods + 1);
      const across = room / (methods * Math.max(1, shape.columns.length));
      return { blocks, lines, row: (height - head - 4) / lines, cell: across };
    };
    let best = [1, 2, 3, 4].map(fit).find((one) => one.row >= ROW && one.cell >= LEAST_CELL) || fit(1);
    best = { ...best, row: Math.floor(Math.max(ROW, Math.min(30, best.row))) };
    best.cell = Math.floor(Math.max(LEAST_CELL, Math.min(44, best.cell)));
    const part = shape.columns.length * best.cell + 8;
    const block = label + methods * part + 8;
    return {
      ...best, ...shape, methods, label, part, block, head,
      width: block * best.blocks, height: head + best.lines * best.row + 4,
    };
  }

  function refresh(matrix) {
    matrix.plan = makePlan(matrix);
    matrix.space.style.width = `${matrix.plan.width}px`;
    matrix.space.style.height = `${matrix.plan.height}px`;
    matrix.ranges = matrix.grid.methods.map((_, method) =>
      clipig.range(matrix.grid, matrix.state.field, matrix.state.common ? null : method));
    buildLegend(matrix);
    draw(matrix);
  }

  function buildLegend({ grid, state, legend, ranges }) {
    const stops = VIRIDIS.map((_, n) => colour(n / (VIRIDIS.length - 1))).join(",");
    const shown = state.common ? [0] : grid.methods.map((_, method) => method);
    legend.replaceChildren(...shown.map((method) => {
      const range = ranges[method];
      const ramp = el("span", { class: "ramp" });
      ramp.style.background = `linear-gradient(90deg,${stops})`;
      const name = state.common || !grid.methods[method] ? "similarity" : grid.methods[method];
      return el("span", { class: "legend" }, name, " ",
        clipig.score(range && range.low), ramp, clipig.score(range && range.high));
    }), el("span", { class: "legend" }, el("span", { class: "swatch failed" }), "failed",
      el("span", { class: "swatch missing" }), "missing"));
  }

  function cellOf({ grid, state, plan }, row, column, method) {
    if (plan.flat) return grid.cells[grid.id([plan.rows[row]])];
    let at = state.at.with(0, plan.columns[column]).with(1, plan.rows[row]);
    if (grid.methodAxis >= 0) at = at.with(2, method);
    return grid.cells[grid.id(at)];
  }

  function place({ plan }, row, column, method) {
    const block = Math.floor(row / plan.lines);
    return {
      x: block * plan.block + plan.label + 4 + method * plan.part + column * plan.cell,
      y: plan.head + (row % plan.lines) * plan.row,
    };
  }

  /** Draw what is on the screen; the canvas stays put, the space behind it scrolls. */
  function draw(matrix) {
    const { canvas, scroller, plan } = matrix;
    const width = scroller.clientWidth;
    const height = scroller.clientHeight;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const style = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    matrix.ink = {
      text: style.color, line: style.borderTopColor, dim: style.caretColor, font: style.fontFamily,
    };
    pen.setTransform(scale, 0, 0, scale, -scroller.scrollLeft * scale, -scroller.scrollTop * scale);
    pen.textBaseline = "middle";
    drawCells(matrix, pen);
    drawHeads(matrix, pen);
    drawSelected(matrix, pen);
    canvas.setAttribute("aria-label", `Overview: ${plan.rows.length} by ${plan.columns.length}`);
  }

  function drawCells(matrix, pen) {
    const { plan, scroller, ink } = matrix;
    const top = scroller.scrollTop;
    const bottom = top + scroller.clientHeight;
    pen.font = `11px ${ink.font}`;
    for (let row = 0; row < plan.rows.length; row++) {
      const { x, y } = place(matrix, row, 0, 0);
      if (y + plan.row < top || y > bottom) continue;
      pen.fillStyle = ink.text;
      pen.textAlign = "right";
      pen.fillText(rowName(matrix, row), x - 7, y + plan.row / 2);
      for (let method = 0; method < plan.methods; method++) {
        for (let column = 0; column < plan.columns.length; column++) {
          drawCell(matrix, pen, row, column, method);
        }
      }
    }
  }

  function rowName({ grid, plan }, row) {
    const name = grid.axes[plan.flat ? 0 : 1].values[plan.rows[row]];
    const most = Math.floor(plan.label / 6);
    return name.length > most ? `${name.slice(0, most - 1)}…` : name;
  }

  function drawCell(matrix, pen, row, column, method) {
    const { plan, state, ranges, ink } = matrix;
    const cell = cellOf(matrix, row, column, method);
    const { x, y } = place(matrix, row, column, method);
    const w = plan.cell - 1;
    const h = plan.row - 1;
    const value = cell[state.field];
    pen.globalAlpha = state.layout.match(cell) ? 1 : 0.2;
    if (cell.status === "done" && value != null) {
      const { low, high } = ranges[method];
      pen.fillStyle = colour(high > low ? (value - low) / (high - low) : 0.5);
      pen.fillRect(x, y, w, h);
    } else {
      pen.strokeStyle = cell.status === "failed" ? ink.text : ink.line;
      pen.lineWidth = 1;
      pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
      if (cell.status === "failed") cross(pen, x + w / 2, y + h / 2);
    }
    if (state.favourites.has(cell)) heart(pen, x + w / 2, y + h / 2);
    pen.globalAlpha = 1;
  }

  function cross(pen, x, y) {
    pen.beginPath();
    for (const way of [-3, 3]) {
      pen.moveTo(x - 3, y - way);
      pen.lineTo(x + 3, y + way);
    }
    pen.stroke();
  }

  function heart(pen, x, y) {
    pen.beginPath();
    pen.arc(x, y, 2.6, 0, 7);
    pen.fillStyle = "#fff";
    pen.fill();
    pen.strokeStyle = "#000";
    pen.lineWidth = 1;
    pen.stroke();
  }

  function drawHeads(matrix, pen) {
    const { grid, plan, ink, state } = matrix;
    if (plan.flat) return;
    for (let block = 0; block < plan.blocks; block++) {
      for (let method = 0; method < plan.methods; method++) {
        const { x } = place(matrix, Math.min(block * plan.lines, plan.rows.length - 1), 0, method);
        const here = grid.methodAxis < 0 || method === state.at[2];
        pen.fillStyle = here ? ink.text : ink.dim;
        pen.textAlign = "left";
        pen.font = `600 11px ${ink.font}`;
        if (grid.methodAxis >= 0) pen.fillText(`${method + 1}`, x, 8);
        plan.columns.forEach((column, n) => slanted(pen, ink, grid.axes[0].values[column],
          x + n * plan.cell + plan.cell / 2, here && column === state.at[0]));
      }
    }
  }

  function slanted(pen, ink, text, x, here) {
    pen.save();
    pen.translate(x, HEAD - 7);
    pen.rotate(-Math.PI / 2.6);
    pen.fillStyle = here ? ink.text : ink.dim;
    pen.font = `${here ? "600 " : ""}11px ${ink.font}`;
    pen.fillText(text.length > 10 ? `${text.slice(0, 9)}…` : text, 0, 0);
    pen.restore();
  }

  function drawSelected(matrix, pen) {
    const box = selectedBox(matrix);
    if (!box) return;
    pen.lineWidth = 4;
    pen.strokeStyle = "#000";
    pen.strokeRect(box.x - 1.5, box.y - 1.5, box.w + 2, box.h + 2);
    pen.lineWidth = 2;
    pen.strokeStyle = "#fff";
    pen.strokeRect(box.x - 1.5, box.y - 1.5, box.w + 2, box.h + 2);
  }

  function selectedBox(matrix) {
    const { plan, state, grid } = matrix;
    const row = plan.rows.indexOf(plan.flat ? state.at[0] : state.at[1]);
    const column = plan.flat ? 0 : plan.columns.indexOf(state.at[0]);
    if (row < 0 || column < 0) return null;
    const method = grid.methodAxis < 0 ? 0 : state.at[2];
    return { ...place(matrix, row, column, method), w: plan.cell, h: plan.row };
  }

  function follow(matrix) {
    const { scroller } = matrix;
    const box = selectedBox(matrix);
    if (!box) return;
    const into = (from, size, start, length) =>
      (start < from ? start : start + length > from + size ? start + length - size : from);
    scroller.scrollTop = into(scroller.scrollTop, scroller.clientHeight, box.y - 8, box.h + 16);
    scroller.scrollLeft = into(scroller.scrollLeft, scroller.clientWidth, box.x - 8, box.w + 16);
  }

  function cellAt(matrix, event) {
    const { plan, canvas, scroller } = matrix;
    const edge = canvas.getBoundingClientRect();
    const x = event.clientX - edge.left + scroller.scrollLeft;
    const y = event.clientY - edge.top + scroller.scrollTop;
    const block = Math.floor(x / plan.block);
    const inner = x - block * plan.block - plan.label - 4;
    const method = Math.floor(inner / plan.part);
    const column = Math.floor((inner - method * plan.part) / plan.cell);
    const line = Math.floor((y - plan.head) / plan.row);
    const row = block * plan.lines + line;
    const inside = inner >= 0 && line >= 0 && line < plan.lines && row < plan.rows.length
      && method < plan.methods && column < plan.columns.length && block < plan.blocks;
    return inside ? cellOf(matrix, row, column, method) : null;
  }

  function hover(matrix, event) {
    const { tip, host, grid, state } = matrix;
    const cell = cellAt(matrix, event);
    tip.hidden = !cell || event.pointerType === "touch";
    if (tip.hidden) return;
    const image = cell.status === "done"
      ? el("img", { src: clipig.url(cell.thumb || cell.picture), alt: "" }) : null;
    const score = cell.status === "done" ? clipig.score(cell[state.field]) : cell.status;
    if (tip.dataset.id !== String(cell.id)) {
      tip.dataset.id = cell.id;
      const texts = [el("strong", {}, grid.name(cell)), el("span", {}, score)];
      tip.replaceChildren(...[image, ...texts].filter(Boolean));
    }
    const edge = host.getBoundingClientRect();
    const left = Math.min(event.clientX - edge.left + 16, edge.width - 170);
    const top = Math.min(event.clientY - edge.top + 12, edge.height - 190 + LEGEND);
    tip.style.transform = `translate(${left}px, ${Math.max(0, top)}px)`;
  }
})();
