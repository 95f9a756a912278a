/* Favourites: kept in the browser under the id of the grid, exported as lists. */
(function () {
  "use strict";
  const clipig = window.clipig;

  /** A set of cell keys that outlives the page; `onChange` after every change. */
  clipig.buildFavourites = function (grid, onChange) {
    const place = `clipig.favourites.${grid.data.id}`;
    let keys = read();

    function read() {
      try {
        const list = JSON.parse(clipig.storage.get(place) || "[]");
        return new Set(list.filter((key) => typeof key === "string"));
      } catch (error) {
        return new Set();
      }
    }

    function write() {
      clipig.storage.set(place, JSON.stringify([...keys]));
      onChange();
    }

    // Another tab with the same grid.
    window.addEventListener("storage", (event) => {
      if (event.key !== place && event.key !== null) return;
      keys = read();
      onChange();
    });

    return {
      has: (cell) => keys.has(grid.key(cell)),
      toggle(cell) {
        // Read again: another tab may have added one meanwhile.
        keys = read();
        const key = grid.key(cell);
        if (!keys.delete(key)) keys.add(key);
        write();
        return keys.has(key);
      },
      clear() {
        keys = new Set();
        write();
      },
      /** Cells in the order in which they were picked. */
      cells: () => [...keys].filter((key) => grid.byKey.has(key))
        .map((key) => grid.cells[grid.byKey.get(key)]),
    };
  };

  function record(grid, cell) {
    const values = Object.fromEntries(
      grid.axes.map((axis, n) => [axis.name, axis.values[cell.index[n]]]));
    const { prompt, seed, similarity, held_out, picture, command } = cell;
    return { values, prompt, seed, similarity, held_out, picture, command };
  }

  /** The list for programs. */
  clipig.favouritesJson = function (grid, cells) {
    const list = cells.map((cell) => record(grid, cell));
    return JSON.stringify({ grid: grid.data.id, title: grid.title, favourites: list }, null, 2) + "\n";
  };

  /** The list for people: one picture a line. */
  clipig.favouritesText = function (grid, cells) {
    const oneLine = (text) => String(text || "").replace(/[\s\u2028\u2029]+/g, " ").trim();
    return cells.map((cell) => [
      oneLine(cell.prompt) || oneLine(grid.name(cell)),
      oneLine(grid.name(cell)),
      `seed ${cell.seed ?? "–"}`,
      `sim ${clipig.score(cell.similarity)}`,
      cell.picture || "",
    ].join("\t") + "\n").join("");
  };
})();
