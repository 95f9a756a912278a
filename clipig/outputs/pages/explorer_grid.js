/* The grid as read from data.js: axes, cells by position, scores by method. */
(function () {
  "use strict";
  const clipig = window.clipig;

  /** Lower case without accents, so that a search forgives both. */
  function plain(text) {
    return text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  }

  function readCells(data) {
    return data.cells.map((row) =>
      Object.fromEntries(data.fields.map((name, place) => [name, row[place]])));
  }

  /** The grid with its questions; positions are lists, ids are numbers. */
  function buildGrid(data) {
    const axes = data.axes;
    const sizes = axes.map((axis) => axis.values.length);
    const cells = new Array(sizes.reduce((a, b) => a * b, 1));
    const grid = { ...data, data, axes, sizes, cells, methodAxis: axes.length > 2 ? 2 : -1 };

    grid.id = (position) => position.reduce((id, at, axis) => id * sizes[axis] + at, 0);
    grid.position = (id) => {
      const position = new Array(sizes.length);
      for (let axis = sizes.length - 1; axis >= 0; axis--) {
        position[axis] = id % sizes[axis];
        id = Math.floor(id / sizes[axis]);
      }
      return position;
    };
    grid.values = (cell) => axes.map((axis, n) => axis.values[cell.index[n]]);
    grid.methods = grid.methodAxis < 0 ? [""] : axes[2].values;
    grid.method = (cell) => (grid.methodAxis < 0 ? 0 : cell.index[2]);
    grid.key = (cell) => axes
      .map((axis, n) => `${encodeURIComponent(axis.name)}=${encodeURIComponent(axis.values[cell.index[n]])}`)
      .join("&");
    grid.name = (cell) => grid.values(cell).join(" · ");
    grid.recipe = (cell) => {
      const recipe = data.recipes[cell.recipe ?? -1];
      if (!recipe) return null;
      const lines = recipe.yaml.split("\n");
      for (const [line, text] of cell.changes || []) lines[line] = text;
      return { name: grid.name(cell), yaml: lines.join("\n") };
    };

    placeCells(grid, readCells(data));
    rankCells(grid);
    return grid;
  }

  function placeCells(grid, listed) {
    for (const cell of listed) grid.cells[grid.id(cell.index)] = cell;
    const empty = Object.fromEntries(grid.fields.map((name) => [name, null]));
    for (let id = 0; id < grid.cells.length; id++) {
      const cell = grid.cells[id] || { ...empty, index: grid.position(id), status: "missing" };
      cell.id = id;
      cell.text = plain(`${grid.values(cell).join(" ")} ${cell.prompt || ""}`);
      grid.cells[id] = cell;
    }
    grid.counts = { done: 0, failed: 0, missing: 0 };
    for (const cell of grid.cells) grid.counts[cell.status]++;
    grid.byKey = new Map(grid.cells.map((cell) => [grid.key(cell), cell.id]));
  }

  function rankCells(grid) {
    grid.ranked = grid.methods.map(() => 0);
    grid.methods.forEach((_, method) => {
      const scored = grid.cells
        .filter((cell) => grid.method(cell) === method && cell.similarity != null)
        .sort((a, b) => b.similarity - a.similarity);
      grid.ranked[method] = scored.length;
      scored.forEach((cell, place) => { cell.rank = cell.rank ?? place + 1; });
    });
    grid.hasHeldOut = grid.cells.some((cell) => cell.held_out != null);
    grid.hasScores = grid.cells.some((cell) => cell.similarity != null);
  }

  /** Least and greatest of a field for one method, or for all (method = null). */
  clipig.range = function (grid, field, method) {
    let low = Infinity;
    let high = -Infinity;
    for (const cell of grid.cells) {
      if (cell[field] == null || (method != null && grid.method(cell) !== method)) continue;
      low = Math.min(low, cell[field]);
      high = Math.max(high, cell[field]);
    }
    return low <= high ? { low, high } : null;
  };

  clipig.plain = plain;
  clipig.buildGrid = buildGrid;
})();
