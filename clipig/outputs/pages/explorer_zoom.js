/* The full picture: zoom, pan, pinch, hard pixels; the selection keys still work. */
(function () {
  "use strict";
  const clipig = window.clipig;
  const { el } = clipig;
  const MOST = 32;

  /** Prepare the dialog; returns `open`, `close`, and `key` for its own keys. */
  clipig.buildZoom = function (grid, state) {
    const dialog = document.getElementById("zoom");
    const image = el("img", { alt: "", draggable: "false" });
    const pane = el("div", { class: "pane", tabindex: "-1", autofocus: true }, image);
    const title = el("p", { class: "title" });
    const percent = el("output", { class: "dim" });
    const zoom = { grid, state, dialog, image, pane, title, percent, pointers: new Map() };
    Object.assign(zoom, { scale: 1, fitted: 1, x: 0, y: 0 });
    zoom.sharp = clipig.button("Pixels", () => toggleSharp(zoom),
      { "aria-pressed": "false", title: "Hard pixels (N)" });
    zoom.heart = clipig.button("♡", () => state.favourites.toggle(state.cell()),
      { "aria-label": "Favourite", title: "Favourite (F)" });
    const named = (text, label, action) =>
      clipig.button(text, action, { "aria-label": label, title: label });
    const tools = el("div", { class: "tools" }, percent,
      named("−", "Zoom out (−)", () => zoomBy(zoom, 1 / 1.5)),
      named("+", "Zoom in (+)", () => zoomBy(zoom, 1.5)),
      named("Fit", "Fit (0)", () => fit(zoom)), zoom.sharp, zoom.heart,
      named("×", "Close (Esc)", () => dialog.close()));
    dialog.append(el("header", {}, title, tools), pane);
    image.addEventListener("load", () => fit(zoom));
    listenPointers(zoom);
    state.onChange(() => { if (dialog.open) show(zoom); });
    new ResizeObserver(() => { if (dialog.open) fit(zoom); }).observe(pane);
    return {
      open() {
        if (state.cell().status !== "done" || dialog.open) return;
        dialog.showModal();
        show(zoom);
      },
      isOpen: () => dialog.open,
      key: (key) => zoomKey(zoom, key),
    };
  };

  function zoomKey(zoom, key) {
    const actions = {
      "+": () => zoomBy(zoom, 1.5), "=": () => zoomBy(zoom, 1.5), "-": () => zoomBy(zoom, 1 / 1.5),
      0: () => fit(zoom), n: () => toggleSharp(zoom), Enter: () => zoom.dialog.close(),
    };
    if (!actions[key]) return false;
    actions[key]();
    return true;
  }

  function show(zoom) {
    const { grid, state, image, title } = zoom;
    const cell = state.cell();
    const score = cell.status === "done" ? clipig.score(cell.similarity) : cell.status;
    title.textContent = `${cell.prompt || grid.name(cell)}  ·  ${grid.methods[grid.method(cell)]} ${score}`;
    const favourite = state.favourites.has(cell);
    zoom.heart.textContent = favourite ? "♥" : "♡";
    zoom.heart.setAttribute("aria-pressed", String(favourite));
    image.hidden = cell.status !== "done";
    const url = cell.status === "done" ? clipig.url(cell.picture) : "";
    if (url && image.getAttribute("src") !== url) image.src = url;
    image.alt = cell.prompt || grid.name(cell);
  }

  function fit(zoom) {
    const { image, pane } = zoom;
    if (!image.naturalWidth) return;
    zoom.scale = Math.min(pane.clientWidth / image.naturalWidth, pane.clientHeight / image.naturalHeight);
    zoom.x = (pane.clientWidth - image.naturalWidth * zoom.scale) / 2;
    zoom.y = (pane.clientHeight - image.naturalHeight * zoom.scale) / 2;
    zoom.fitted = zoom.scale;
    place(zoom);
  }

  /** Zoom about a point of the pane (its middle where none is given). */
  function zoomBy(zoom, factor, x = zoom.pane.clientWidth / 2, y = zoom.pane.clientHeight / 2) {
    const least = Math.min(1, zoom.fitted || 1) / 2;
    const scale = Math.max(least, Math.min(MOST, zoom.scale * factor));
    const ratio = scale / zoom.scale;
    zoom.x = x - (x - zoom.x) * ratio;
    zoom.y = y - (y - zoom.y) * ratio;
    zoom.scale = scale;
    place(zoom);
  }

  function place({ image, percent, scale, x, y }) {
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    percent.textContent = `${Math.round(scale * 100)} %`;
  }

  function toggleSharp(zoom) {
    const on = zoom.image.classList.toggle("sharp");
    zoom.sharp.setAttribute("aria-pressed", String(on));
  }

  function listenPointers(zoom) {
    const { pane, pointers } = zoom;
    pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      const edge = pane.getBoundingClientRect();
      zoomBy(zoom, Math.exp(-event.deltaY * 0.002), event.clientX - edge.left, event.clientY - edge.top);
    }, { passive: false });
    pane.addEventListener("dblclick", (event) => {
      const edge = pane.getBoundingClientRect();
      if (zoom.scale > zoom.fitted * 1.05) fit(zoom);
      else zoomBy(zoom, 3, event.clientX - edge.left, event.clientY - edge.top);
    });
    pane.addEventListener("pointerdown", (event) => {
      pane.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, from: event.clientX });
    });
    pane.addEventListener("pointermove", (event) => movePointer(zoom, event));
    for (const name of ["pointerup", "pointercancel"]) {
      pane.addEventListener(name, (event) => endPointer(zoom, event, name === "pointerup"));
    }
  }

  function movePointer(zoom, event) {
    const { pointers, pane } = zoom;
    const old = pointers.get(event.pointerId);
    if (!old) return;
    const now = { ...old, x: event.clientX, y: event.clientY };
    if (pointers.size === 1) {
      zoom.x += now.x - old.x;
      zoom.y += now.y - old.y;
      place(zoom);
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
      const edge = pane.getBoundingClientRect();
      zoomBy(zoom, apart(now) / apart(old),
        (now.x + other.x) / 2 - edge.left, (now.y + other.y) / 2 - edge.top);
      zoom.pinched = true;
    }
    pointers.set(event.pointerId, now);
  }

  /** A sideways drag of the fitted picture by touch goes to the next column. */
  function endPointer(zoom, event, lifted) {
    const { pointers, grid, state } = zoom;
    const start = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (pointers.size) return;
    const fitted = Math.abs(zoom.scale - zoom.fitted) < 0.01;
    const across = start ? event.clientX - start.from : 0;
    if (lifted && fitted && !zoom.pinched && event.pointerType === "touch" && Math.abs(across) > 60) {
      state.select(clipig.step(grid, state, -Math.sign(across), 0));
    }
    if (fitted) fit(zoom);
    zoom.pinched = false;
  }
})();
