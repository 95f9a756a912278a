/* What is selected and shown; which cells that means; the URL hash. */
(function () {
  "use strict";
  const clipig = window.clipig;
  const HASH_DELAY = 200; // Browsers refuse more than some 100 changes in 10 s.

  /** The state of the page. `set` tells every listener which keys changed. */
  clipig.buildState = function (grid) {
    const listeners = [];
    const state = {
      at: firstDone(grid), query: "", view: "pictures", compare: false,
      favouritesOnly: false, sort: "given", field: "similarity", common: false,
      pane: "browse", narrow: false, perLine: 4,
    };
    state.favourites = clipig.buildFavourites(grid, () => tell(["favourites"]));

    function tell(changed) {
      state.layout = computeLayout(grid, state);
      const set = new Set(changed);
      for (const listener of listeners) listener(set);
    }

    state.onChange = (listener) => listeners.push(listener);
    state.cell = () => grid.cells[grid.id(state.at)];
    state.set = (changes) => {
      const changed = Object.keys(changes)
        .filter((key) => String(state[key]) !== String(changes[key]));
      if (!changed.length) return;
      Object.assign(state, changes);
      if (changed.includes("query") || changed.includes("favouritesOnly")) {
        const before = state.at;
        keepInSight(grid, state);
        if (state.at !== before && !changed.includes("at")) changed.push("at");
      }
      tell(changed);
    };
    state.select = (cell) => state.set({ at: cell.index.slice() });
    state.setAxis = (axis, value) => {
      if (axis < 0 || axis >= grid.sizes.length || value < 0 || value >= grid.sizes[axis]) return;
      state.set({ at: state.at.with(axis, value) });
    };
    state.refresh = () => tell(["all"]);
    state.layout = computeLayout(grid, state);
    followHash(grid, state);
    return state;
  };

  function firstDone(grid) {
    const first = grid.cells.find((cell) => cell.status === "done") || grid.cells[0];
    return first.index.slice();
  }

  /** A test of cells: every word of the search is somewhere in its text. */
  function matcher(state) {
    const words = clipig.plain(state.query).split(/\s+/).filter(Boolean);
    return (cell) => words.every((word) => cell.text.includes(word))
      && (!state.favouritesOnly || state.favourites.has(cell));
  }

  /** Column, row and the rest of a position; a grid of one axis has one column. */
  function visible(grid, match) {
    const columns = new Set();
    const rows = new Set();
    let count = 0;
    for (const cell of grid.cells) {
      if (!match(cell)) continue;
      count++;
      columns.add(cell.index[0]);
      rows.add(cell.index[1] ?? 0);
    }
    const ordered = (set) => [...set].sort((a, b) => a - b);
    return { columns: ordered(columns), rows: ordered(rows), count };
  }

  function sortRows(grid, state, rows) {
    if (state.sort === "name") {
      const names = grid.axes[1].values;
      return rows.sort((a, b) => names[a].localeCompare(names[b]));
    }
    if (state.sort === "score") {
      const means = new Map(rows.map((row) => [row, rowMean(grid, state, row)]));
      return rows.sort((a, b) => means.get(b) - means.get(a));
    }
    return rows;
  }

  function rowMean(grid, state, row) {
    let sum = 0;
    let count = 0;
    for (let column = 0; column < grid.sizes[0]; column++) {
      const value = grid.cells[grid.id(state.at.with(0, column).with(1, row))][state.field];
      if (value == null) continue;
      sum += value;
      count++;
    }
    return count ? sum / count : -Infinity;
  }

  /** The lines of the wall: rows of the grid, or cells flowing one after another. */
  function computeLayout(grid, state) {
    const match = matcher(state);
    const { columns, rows, count } = visible(grid, match);
    const layout = { match, columns, rows, count, mode: "grid", lines: [] };
    const sorted = grid.axes.length > 1 ? sortRows(grid, state, rows) : [];
    layout.rows = sorted;
    if (state.favouritesOnly) {
      layout.mode = "favourites";
      layout.flow = state.favourites.cells().filter(match).map((cell) => cell.id);
    } else if (grid.axes.length === 1) {
      layout.mode = "list";
      layout.flow = columns.map((column) => grid.id([column]));
    } else if (state.narrow || columns.length === 1) {
      layout.mode = "column";
      const column = columns.includes(state.at[0]) ? state.at[0] : columns[0];
      layout.flow = sorted.map((row) => grid.id(state.at.with(0, column).with(1, row)));
    }
    layout.lines = layout.flow ? chunk(layout.flow, state.perLine) : sorted.map((row) => ({
      label: grid.axes[1].values[row],
      ids: columns.map((column) => grid.id(state.at.with(0, column).with(1, row))),
    }));
    return layout;
  }

  function chunk(ids, size) {
    const lines = [];
    for (let start = 0; start < ids.length; start += size) {
      lines.push({ label: null, ids: ids.slice(start, start + size) });
    }
    return lines;
  }

  /** After a filter: stay if possible, keep the method if possible, else the first. */
  function keepInSight(grid, state) {
    const match = matcher(state);
    if (match(state.cell())) return;
    const method = grid.method(state.cell());
    const found = grid.cells.find((cell) => match(cell) && grid.method(cell) === method
      && cell.index.slice(3).every((at, n) => at === state.at[n + 3])) || grid.cells.find(match);
    if (found) state.at = found.index.slice();
  }

  /** The cell that a step of columns and rows leads to (clamped at the edges). */
  clipig.step = function (grid, state, across, down) {
    const { layout } = state;
    if (layout.flow && layout.mode !== "column") return stepFlow(grid, state, across, down);
    const shift = (list, value, by) => {
      const place = list.indexOf(value);
      const from = place < 0 ? 0 : place + by;
      return list[Math.max(0, Math.min(list.length - 1, from))] ?? value;
    };
    let at = state.at.with(0, shift(layout.columns, state.at[0], across));
    if (grid.axes.length > 1) at = at.with(1, shift(layout.rows, state.at[1], down));
    return grid.cells[grid.id(at)];
  };

  function stepFlow(grid, state, across, down) {
    const flow = state.layout.flow;
    if (!flow.length) return state.cell();
    const place = flow.indexOf(grid.id(state.at));
    const to = place < 0 ? 0 : place + across + down * state.perLine;
    return grid.cells[flow[to < 0 || to >= flow.length ? Math.max(place, 0) : to]];
  }

  function hashOf(grid, state) {
    const pairs = grid.axes.map((axis, n) => [
      axis.name, n === grid.methodAxis ? String(state.at[n] + 1) : axis.values[state.at[n]],
    ]);
    if (state.view !== "pictures") pairs.push(["~view", state.view]);
    if (state.compare) pairs.push(["~compare", "1"]);
    if (state.query) pairs.push(["~search", state.query]);
    if (state.favouritesOnly) pairs.push(["~favourites", "1"]);
    return "#" + pairs.map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
  }

  /** Where a hash leads; whatever it does not name or names wrongly stays. */
  function readHash(grid, state, hash) {
    const asked = new URLSearchParams(hash.replace(/^#/, "").replace(/\+/g, "%2B"));
    const at = state.at.map((now, n) => {
      const value = asked.get(grid.axes[n].name);
      const number = n === grid.methodAxis && /^\d+$/.test(value || "") ? Number(value) - 1 : -1;
      if (number >= 0 && number < grid.sizes[n]) return number;
      const place = grid.axes[n].values.indexOf(value);
      return place >= 0 ? place : now;
    });
    return {
      at,
      view: asked.get("~view") === "matrix" ? "matrix" : "pictures",
      compare: asked.get("~compare") === "1",
      query: asked.get("~search") || "",
      favouritesOnly: asked.get("~favourites") === "1",
    };
  }

  function followHash(grid, state) {
    let timer = 0;
    Object.assign(state, readHash(grid, state, window.location.hash));
    keepInSight(grid, state);
    state.layout = computeLayout(grid, state);
    state.link = () => window.location.href.replace(/#.*$/, "") + hashOf(grid, state);
    state.onChange(() => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        const hash = hashOf(grid, state);
        if (hash === window.location.hash) return;
        try {
          window.history.replaceState(null, "", hash);
        } catch (error) {
          window.location.hash = hash;
        }
      }, HASH_DELAY);
    });
    window.addEventListener("hashchange", () => {
      state.set(readHash(grid, state, window.location.hash));
    });
  }
})();
