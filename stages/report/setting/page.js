// Draws the figures in the page's colours, for light and dark; sorts tables. Marks <html> with what was drawn.
(function () {
  "use strict";
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const narrow = window.matchMedia("(max-width: 560px)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };

  function resolved(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[a-z-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((each) => resolved(each, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolved(each, style)]));
    }
    return value;
  }

  function dressed(figure) {
    const style = getComputedStyle(root);
    const { data, layout } = resolved(figure, style);
    layout.font = { ...layout.font, family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 12 };
    layout.autosize = true;
    if (narrow.matches) {
      for (const trace of data) {
        if (trace.type !== "heatmap") continue;
        // Below, so that the cells have the whole width; and no words in cells too small for them.
        trace.colorbar = { ...trace.colorbar, orientation: "h", y: -0.28, yanchor: "top", title: { text: "" } };
        if (trace.x.length > 6) trace.texttemplate = "";
      }
    }
    return { data, layout };
  }

  async function draw() {
    let drawn = 0;
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById(name);
      const height = Number(place.dataset.height);
      place.style.height = (narrow.matches ? Math.max(200, Math.round(height * 0.86)) : height) + "px";
      const { data, layout } = dressed(figure);
      await Plotly.react(place, data, layout, config);
      drawn += 1;
    }
    root.dataset.drawn = String(drawn);
    root.dataset.overflow = String(root.scrollWidth - root.clientWidth);
  }

  function sortBy(table, place, header) {
    const down = header.getAttribute("aria-sort") === "ascending" || !header.hasAttribute("aria-sort") && header.classList.contains("number");
    const sign = down ? -1 : 1;
    const rows = Array.from(table.tBodies[0].rows);
    const numeric = header.classList.contains("number");
    const keyed = rows.map((row) => [row.cells[place].dataset.key, row]);
    keyed.sort(([a], [b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
    });
    table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("th").forEach((header, place) => {
      header.querySelector("button").addEventListener("click", () => sortBy(table, place, header));
    });
  });

  const again = () => draw().catch((error) => { root.dataset.error = String(error); });
  dark.addEventListener("change", again);
  narrow.addEventListener("change", again);
  again();
})();
