/* Ranking report and contact sheet: sort pictures, look at one. */
(function () {
  "use strict";
  const clipig = window.clipig;
  const { el } = clipig;
  const RISING = ["given", "name", "run"];
  const order = document.getElementById("order");
  const look = document.getElementById("look");

  /** Compare two elements by a data attribute; what has no value goes last. */
  function compare(key) {
    const way = RISING.includes(key) ? 1 : -1;
    return (a, b) => {
      const [one, two] = [a.dataset[key], b.dataset[key]];
      if (key === "name") return one.localeCompare(two);
      if (!one || !two) return (one ? 0 : 1) - (two ? 0 : 1);
      return way * (Number(one) - Number(two));
    };
  }

  function sort() {
    for (const host of document.querySelectorAll("#thumbs, [data-sortable]")) {
      host.append(...[...host.children].sort(compare(order.value)));
    }
  }

  /** Show one candidate with what it takes to make it again. */
  function open(thumb) {
    const { run, seed, short, judge, final, command, picture, error } = thumb.dataset;
    const pairs = [["run", `#${run}`], ["seed", seed], ["similarity", short],
      ["held-out", judge], ["final", final], ["error", error]].filter(([, value]) => value);
    const parts = [
      picture && !error ? el("img", { src: clipig.url(picture), alt: `run ${run}` }) : null,
      el("dl", { class: "facts" }, ...pairs.map(([name, value]) =>
        el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      command ? el("div", { class: "code" }, el("pre", {}, command)) : null,
      el("p", { class: "row" },
        command ? clipig.copyButton("Copy command", command, "Command") : null,
        clipig.button("Close", () => look.close())),
    ];
    look.replaceChildren(...parts.filter(Boolean));
    look.showModal();
  }

  if (order) order.addEventListener("change", sort);
  look.addEventListener("click", (event) => { if (event.target === look) look.close(); });
  document.addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    if (thumb) open(thumb);
  });
})();
