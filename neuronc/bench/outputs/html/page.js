(() => {
  "use strict";
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const byId = new Map(specs.map((spec) => [spec.id, spec]));
  const coarse = matchMedia("(pointer: coarse)").matches;
  const token = /^var\((--[\w-]+)(?:,\s*([\d.]+))?\)$/;
  let printing = false;

  function withOpacity(hex, opacity) {
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${parts.join(",")},${opacity})`;
  }

  // Colours are written by role; the style sheet knows their value in this colour scheme.
  function resolve(value, style) {
    if (typeof value === "string") {
      const found = token.exec(value);
      if (!found) return value;
      const color = style.getPropertyValue(found[1]).trim();
      return found[2] ? withOpacity(color, found[2]) : color;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
    }
    return value;
  }

  function axisOf(made, narrow, style) {
    const color = (name) => style.getPropertyValue(name).trim();
    return {
      automargin: true, gridcolor: color("--grid"), zerolinecolor: color("--grid"),
      linecolor: color("--quiet"), ticks: "outside", tickcolor: color("--grid"), ticklen: 4,
      fixedrange: coarse, ...made,
      title: { standoff: 8, ...made.title, font: { size: narrow ? 11 : 12 } },
    };
  }

  function layoutOf(spec, width, style) {
    const narrow = width < 560;
    const layout = resolve(spec.layout, style);
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) layout[key] = axisOf(layout[key], narrow, style);
    }
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", width,
      font: { family: "system-ui, sans-serif", size: narrow ? 11 : 12, color: style.getPropertyValue("--ink").trim() },
      margin: { l: 48, r: narrow ? 12 : 20, t: 12, b: 40 },
      hoverlabel: { align: "left", namelength: -1, bgcolor: style.getPropertyValue("--panel").trim(), bordercolor: style.getPropertyValue("--quiet").trim(), font: { family: "system-ui, sans-serif", color: style.getPropertyValue("--ink").trim() } },
      hovermode: "closest", dragmode: "zoom", ...layout,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.03, yanchor: "bottom", font: { size: narrow ? 10 : 12 }, ...layout.legend },
      ...(coarse ? { dragmode: false } : {}),
    };
  }

  function draw(spec) {
    const place = document.getElementById(spec.id);
    const style = getComputedStyle(root);
    const width = printing ? Math.min(place.clientWidth, 660) : place.clientWidth;
    const layout = layoutOf(spec, width, style);
    // On a phone the legend takes rows of its own, not those of the plot.
    const entries = spec.data.filter((trace) => trace.showlegend !== false).length;
    layout.height = spec.height + (width < 560 && entries > 2 ? 10 * entries : 0);
    place.style.height = `${layout.height}px`;
    if (spec.range) layout.xaxis.range = spec.range;
    return Plotly.react(place, resolve(spec.data, style), layout, { displayModeBar: false, doubleClick: "reset" });
  }

  function isDrawn(spec) {
    const marks = document.getElementById(spec.id).querySelectorAll(".main-svg path.point, .main-svg .points path, .main-svg path.js-line, .main-svg .scatter");
    return marks.length > 0;
  }

  async function drawAll() {
    for (const spec of specs) await draw(spec);
    root.dataset.plotsExpected = specs.length;
    root.dataset.plotsDrawn = specs.filter(isDrawn).length;
    root.dataset.overflow = root.scrollWidth - root.clientWidth;
    root.dataset.requests = performance.getEntriesByType("resource").length;
    root.dataset.ready = "yes";
  }

  function page(button) {
    const spec = byId.get(button.dataset.plot);
    const [width, end] = spec.pages;
    const [from, to] = document.getElementById(spec.id).layout.xaxis.range;
    const move = button.dataset.page;
    if (move === "all") spec.range = [-0.01 * end, 1.01 * end];
    else if (move === "0") spec.range = [-0.02 * width, width];
    else {
      const begin = Math.min(Math.max(-0.02 * width, from + Number(move) * 0.8 * (to - from)), Math.max(0, end - 0.2 * width));
      spec.range = [begin, begin + Math.min(to - from, width)];
    }
    draw(spec);
  }

  function show(tab) {
    for (const main of document.querySelectorAll("main")) main.classList.toggle("hidden", main.id !== tab);
    for (const button of document.querySelectorAll("[data-tab]")) button.setAttribute("aria-selected", button.dataset.tab === tab);
  }

  for (const button of document.querySelectorAll("[data-page]")) button.addEventListener("click", () => page(button));
  for (const button of document.querySelectorAll("[data-tab]")) button.addEventListener("click", () => show(button.dataset.tab));
  if (document.getElementById("compare-tab")) show(location.hash === "#compare" ? "compare-tab" : "run-tab");

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  const widths = new Map();
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const before = widths.get(target.id);
      widths.set(target.id, target.clientWidth);
      if (before !== undefined && before !== target.clientWidth) draw(byId.get(target.id));
    }
  });
  for (const spec of specs) observer.observe(document.getElementById(spec.id));
  addEventListener("beforeprint", () => { printing = true; specs.forEach(draw); });
  addEventListener("afterprint", () => { printing = false; specs.forEach(draw); });
  drawAll();
})();
