// Links the plots and the table of trials: what is chosen, pointed at or pinned in one is so in all. Without this script
// every plot and the whole table are there, as they are on paper. It reads the page's own report.json and nothing else.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const trials = data.trials, count = trials.number.length, BOX = 1000;
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const COMPLETE = trials.states.indexOf("complete"), SHADES = 7, SHADES_OF_LINES = 5;

function make(name, attributes = {}, ...children) {
  const svg = ["g", "line", "text", "rect"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// -- where trials stand: as axes.py and charts_search.py have it --------------------------------------------------

const valueOf = (key, i) => (key === "number" ? trials.number : trials.values[key.replace("@tested", "")])[i];

function place(axis, value) {
  if (value == null) return null;
  if (axis.options.length) {
    const at = axis.options.indexOf(String(value));
    return at < 0 ? null : (at + 0.5) / axis.options.length;
  }
  const scale = axis.log ? Math.log : (v) => v;
  const at = (scale(value) - scale(axis.low)) / (scale(axis.high) - scale(axis.low));
  return Math.min(Math.max(at, -0.02), 1.02);
}

function placeOf(key, i) {
  const axis = data.axes[key], at = place(axis, valueOf(key, i));
  if (at == null || !axis.options.length) return at;
  return at + (((trials.number[i] * 0.618) % 1) - 0.5) * 0.6 / axis.options.length;
}

function text(key, value) {
  if (value == null) return "-";
  if (typeof value !== "number") return String(value);
  return data.axes[key].percent ? (100 * value).toFixed(1) + " %" : String(+value.toPrecision(4));
}

const xy = ([x, y]) => Math.round(BOX * x) + " " + Math.round(BOX * (1 - y));
const dots = (points) => points.map((p) => "M" + xy(p) + "h0").join("");
const line = (points) => (points.length === 1 ? "M" + xy(points[0]) + "h14" : points.length ? "M" + points.map(xy).join(" ") : "");

// -- the plots: each knows the points of a trial and draws those that are chosen ---------------------------------

const rank = (() => {
  const column = trials.values[data.objective] || [], sign = data.larger_is_better ? 1 : -1;
  const known = column.filter((v) => v != null).sort((a, b) => sign * (a - b)), at = new Map(known.map((v, i) => [v, i]));
  return column.map((v) => (v == null ? null : Math.min(SHADES_OF_LINES - 1, Math.floor((at.get(v) * SHADES_OF_LINES) / known.length))));
})();

function scatterPlot(svg) {
  const keys = () => [svg.dataset.x, svg.dataset.y];
  const points = (i) => { const p = keys().map((k) => placeOf(k, i)); return p[0] == null || p[1] == null ? [] : [p]; };
  const draw = (chosen) => {
    const own = every(points), of = (keep) => own.flatMap((p, i) => (p.length && keep(i) ? p : []));
    set(svg, ".off", dots(of((i) => !chosen[i])));
    set(svg, ".halo", dots(of((i) => chosen[i])));
    for (const path of all("[data-state]", svg)) path.setAttribute("d", dots(of((i) => chosen[i] && trials.state[i] === +path.dataset.state)));
    set(svg, ".median", trend(svg.dataset.x, of((i) => chosen[i] && trials.state[i] === COMPLETE)));
    const ring = svg.querySelector(".ring"), at = data.winner == null ? [] : own[data.winner];
    if (ring && at.length) { ring.setAttribute("cx", 100 * at[0][0] + "%"); ring.setAttribute("cy", 100 * (1 - at[0][1]) + "%"); }
    if (svg.id === "contour") drawField(svg, own, chosen);
  };
  return { svg, points, draw, hot: dots, near: nearDot };
}

function trend(x, points) {
  const middle = (values) => { const v = [...values].sort((a, b) => a - b); return (v[(v.length - 1) >> 1] + v[v.length >> 1]) / 2; };
  const n = data.axes[x].options.length;
  if (n) return Array.from({ length: n }, (_, k) => points.filter((p) => Math.floor(p[0] * n) === k).map((p) => p[1])).map((own, k) =>
    own.length < 3 ? "" : `M${Math.round((BOX * (k + 0.2)) / n)} ${Math.round(BOX * (1 - middle(own)))}h${Math.round((BOX * 0.6) / n)}`).join("");
  if (points.length < 10) return "";
  points = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const parts = Math.min(6, Math.floor(points.length / 4));
  let start = 0;
  return line(Array.from({ length: parts }, (_, k) => {
    const part = points.slice(start, (start += Math.floor(points.length / parts) + (k < points.length % parts)));
    return [middle(part.map((p) => p[0])), middle(part.map((p) => p[1]))];
  }));
}

function drawField(svg, own, chosen) {
  const known = own.flatMap((p, i) => (p.length && chosen[i] && valueOf(data.objective, i) != null ? [[...p[0], placeOf(data.objective, i)]] : []));
  const cells = 36, size = BOX / cells, width = Math.min(0.15, Math.max(0.06, 0.3 * known.length ** -0.25));
  const weights = (axis) => Array.from({ length: cells }, (_, c) => known.map((p) => Math.exp(-(((c + 0.5) / cells - p[axis]) ** 2) / (2 * width ** 2))));
  const wx = weights(0), wy = weights(1), paths = Array(SHADES).fill("");
  for (let row = 0; row < cells; row++) for (let column = 0; column < cells; column++) {
    let total = 0, sum = 0;
    for (let k = 0; k < known.length; k++) { const w = wy[row][k] * wx[column][k]; total += w; sum += w * known[k][2]; }
    if (total < 0.5) continue;
    const shade = Math.min(SHADES - 1, Math.max(0, Math.floor((sum / total) * SHADES)));
    paths[shade] += `M${Math.round(column * size)} ${Math.round((cells - 1 - row) * size)}h${Math.ceil(size) + 1}v${Math.ceil(size) + 1}h-${Math.ceil(size) + 1}z`;
  }
  paths.forEach((d, shade) => set(svg, ".h" + shade, d));
}

function curvePlot(svg) {
  const points = (i) => {
    const epochs = [...trials.curve_epochs.filter((e) => e < trials.epochs[i]), trials.epochs[i]];
    return trials.curves[i].flatMap((v, k) => (v == null ? [] : [[place(data.axes.epoch, epochs[k]), place(data.axes[data.objective], v)]]));
  };
  const draw = (chosen) => {
    const own = every(points);
    set(svg, ".off", own.filter((_, i) => !chosen[i]).map(line).join(""));
    for (const path of all("[data-state]", svg)) path.setAttribute("d", own.filter((_, i) => chosen[i] && trials.state[i] === +path.dataset.state).map(line).join(""));
  };
  return { svg, points, draw, hot: line, near: nearLine };
}

function parallelPlot(svg) {
  const keys = all(".upright", svg).map((axis) => axis.dataset.key);
  const points = (i) => {
    const at = keys.map((key, j) => [(j + 0.5) / keys.length, placeOf(key, i)]);
    return at.some((p) => p[1] == null) ? [] : at;
  };
  const draw = (chosen) => {
    const own = every(points);
    set(svg, ".off", own.filter((_, i) => !chosen[i]).map(line).join(""));
    for (let n = 0; n < SHADES_OF_LINES; n++) set(svg, ".s" + n, own.filter((_, i) => chosen[i] && rank[i] === n).map(line).join(""));
  };
  return { svg, points, draw, hot: line, near: nearLine };
}

const every = (points) => Array.from({ length: count }, (_, i) => points(i));
const set = (svg, selector, d) => svg.querySelector(selector)?.setAttribute("d", d);

function nearDot(points, x, y, box) {
  return Math.min(...points.map((p) => Math.hypot(p[0] * box.width - x, (1 - p[1]) * box.height - y)), Infinity);
}

function nearLine(points, x, y, box) {
  for (let k = 0; k + 1 < points.length; k++) {
    const [a, b] = [points[k], points[k + 1]], t = (x / box.width - a[0]) / (b[0] - a[0]);
    if (t >= 0 && t <= 1) return Math.abs((1 - a[1] - t * (b[1] - a[1])) * box.height - y);
  }
  return nearDot(points, x, y, box);
}

const plots = [...all(".scatter").map(scatterPlot), ...all(".curves").map(curvePlot), ...all(".parallel").map(parallelPlot)];

// -- what is chosen, pointed at, pinned ---------------------------------------------------------------------------

const chosen = Array(count).fill(true), ranges = new Map(), hidden = new Set();
let words = "", hot = -1, pinned = -1, waiting = 0;
const rows = all("#all-trials tbody tr"), rowOf = new Map(rows.map((row) => [+row.dataset.i, row]));
const said = rows.map((row) => row.textContent.toLowerCase()), saidOf = new Map(rows.map((row, k) => [+row.dataset.i, said[k]]));
const status = make("p", { class: "status", role: "status" });
const tip = make("div", { class: "tip", hidden: true });

function choose() {
  for (let i = 0; i < count; i++) {
    chosen[i] = !hidden.has(trials.state[i]) && (!words || words.split(/\s+/).every((word) => (saidOf.get(i) || "").includes(word)));
    for (const [key, [low, high]] of ranges) {
      const at = place(data.axes[key], valueOf(key, i));
      chosen[i] = chosen[i] && at != null && at >= low && at <= high;
    }
  }
  const n = chosen.filter(Boolean).length;
  status.textContent = n === count ? `All ${count} trials` : `${n} of ${count} trials`;
  if (!waiting) waiting = requestAnimationFrame(() => {
    waiting = 0;
    for (const plot of plots) plot.draw(chosen);
    for (const [i, row] of rowOf) row.hidden = !chosen[i];
    for (const brush of brushes) brush();
  });
}

function point(i) {
  if (i === hot) return;
  rowOf.get(hot)?.classList.remove("hot");
  hot = i;
  rowOf.get(hot)?.classList.add("hot");
  for (const plot of plots) set(plot.svg, ".hot", hot < 0 ? "" : plot.hot(plot.points(hot)));
}

function tell(i, event) {
  if (i < 0) { tip.hidden = true; return; }
  const pairs = [...data.measures.slice(0, 2), ...data.parameters].map((key) => make("div", {}, make("dt", {}, data.axes[key].label), make("dd", {}, text(key, valueOf(key, i)))));
  tip.replaceChildren(make("strong", {}, `Trial ${trials.number[i]}`), ` ${trials.states[trials.state[i]]}, ${trials.epochs[i]} epochs`, make("dl", {}, ...pairs));
  tip.hidden = false;
  const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const below = event.clientY + 14 + tip.offsetHeight < innerHeight;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = Math.max(8, below ? event.clientY + 14 : event.clientY - tip.offsetHeight - 10) + "px";
}

function nearest(plot, event) {
  const box = plot.svg.querySelector(".inner").getBoundingClientRect(), inside = plot.svg.getBoundingClientRect();
  let best = -1, least = 24;
  for (let i = 0; i < count; i++) {
    if (!chosen[i]) continue;
    const distance = plot.near(plot.points(i), event.clientX - inside.left, event.clientY - inside.top, { width: inside.width, height: box.height ? inside.height : 0 });
    if (distance < least) { best = i; least = distance; }
  }
  return best;
}

for (const plot of plots) {
  plot.svg.addEventListener("pointermove", (event) => { if (event.buttons) return; const i = nearest(plot, event); point(i < 0 ? pinned : i); tell(i, event); });
  plot.svg.addEventListener("pointerleave", () => { point(pinned); tip.hidden = true; });
  plot.svg.addEventListener("click", (event) => { const i = nearest(plot, event); pin(i === pinned ? -1 : i); tell(i, event); });
}

function pin(i) {
  pinned = i;
  point(i);
  highlight.value = i < 0 ? "" : trials.number[i];
}

// -- brushes on the axes of parallel coordinates -----------------------------------------------------------------

const brushes = all(".parallel .upright").map((axis) => {
  const key = axis.dataset.key, height = +axis.ownerSVGElement.getAttribute("height");
  const handle = make("rect", { x: -14, width: 28, y: -6, height: height + 12, class: "handle" });
  const mark = make("rect", { x: -7, width: 14, class: "brush", height: 0 });
  axis.append(mark, handle);
  const at = (event) => Math.min(1, Math.max(0, 1 - (event.clientY - handle.getBoundingClientRect().top - 6) / height));
  let start = null;
  handle.addEventListener("pointerdown", (event) => { start = at(event); handle.setPointerCapture(event.pointerId); tip.hidden = true; event.preventDefault(); });
  handle.addEventListener("pointermove", (event) => { if (start != null) setRange(key, Math.min(start, at(event)), Math.max(start, at(event))); });
  handle.addEventListener("pointerup", (event) => { if (start != null && Math.abs(start - at(event)) < 0.02) setRange(key, 0, 1); start = null; });
  handle.addEventListener("click", (event) => event.stopPropagation());
  return () => {
    const [low, high] = ranges.get(key) || [0, 0];
    mark.setAttribute("y", (1 - Math.min(1, high)) * height);
    mark.setAttribute("height", (Math.min(1, high) - Math.max(0, low)) * height);
  };
});

function setRange(key, low, high) {
  if (low <= 0 && high >= 1) ranges.delete(key); else ranges.set(key, [low <= 0 ? -1 : low, high >= 1 ? 2 : high]);
  choose();
}

// -- controls -----------------------------------------------------------------------------------------------------

const label = (words, input) => make("label", {}, words + " ", input);
const highlight = make("input", { type: "number", min: 0, class: "short", oninput: (event) => { const i = trials.number.indexOf(+event.target.value); pin(event.target.value === "" ? -1 : i); } });

function pick(keys, value, change) {
  const options = keys.map((key) => make("option", { value: key, selected: key === value }, data.axes[key].label));
  return make("select", { onchange: (event) => change(event.target.value) }, ...options);
}

function valueFilter(key) {
  const axis = data.axes[key];
  if (axis.options.length) {
    const choices = ["all", ...axis.options].map((option, k) => make("option", { value: k - 1 }, option)), size = 1 / axis.options.length;
    const change = (event) => { const k = +event.target.value; if (k < 0) setRange(key, 0, 1); else setRange(key, k * size + 1e-6, (k + 1) * size - 1e-6); };
    return label(axis.label, make("select", { onchange: change }, ...choices));
  }
  const unit = axis.percent ? 100 : 1, own = (bound) => make("input", { type: "number", step: "any", class: "short", placeholder: text(key, axis[bound]).replace(" %", ""), "aria-label": `${axis.label}, ${bound === "low" ? "at least" : "at most"}` });
  const low = own("low"), high = own("high");
  const change = () => setRange(key, low.value === "" ? 0 : place(axis, low.value / unit), high.value === "" ? 1 : place(axis, high.value / unit));
  for (const input of [low, high]) input.addEventListener("change", change);
  return make("span", { class: "between" }, axis.label + (axis.percent ? " in %" : ""), " ", low, " to ", high);
}

function reset() {
  ranges.clear(); hidden.clear(); words = "";
  for (const input of all("#filters input, #filters select")) { if (input.type === "checkbox") input.checked = true; else if (input.tagName === "SELECT") input.selectedIndex = 0; else input.value = ""; }
  pin(-1);
  choose();
}

const box = document.getElementById("filters");
if (box && count) {
  const states = [...new Set(trials.state)].map((s) => make("label", {}, make("input", { type: "checkbox", checked: true, onchange: (event) => { event.target.checked ? hidden.delete(s) : hidden.add(s); choose(); } }), " " + trials.states[s]));
  box.append(
    make("div", { class: "row" }, label("Words in the table", make("input", { type: "search", oninput: (event) => { words = event.target.value.trim().toLowerCase(); choose(); } })), ...states, label("Highlight trial", highlight), make("button", { type: "button", onclick: reset }, "Reset"), status),
    make("details", {}, make("summary", {}, "Choose by value"), make("div", { class: "row" }, ...[...data.parameters, ...data.measures.slice(0, 2)].map(valueFilter))),
    make("p", { class: "note" }, "Or drag along an axis below. Plots and table show the same trials; a click keeps one highlighted."));
  box.hidden = false;
  document.querySelector("main").append(tip);
}

// Below the level axis, as svg.py has it: the ticks whose texts do not collide, the options of a choice in rows.
const LETTER = 7.5, GAP = 4, ROWS = 3, OVER = 24;

function levelTexts(axis, width) {
  const n = axis.ticks.length;
  if (axis.options.length) {
    const long = Math.max(...axis.ticks.map(([, words]) => words.length)) * LETTER + GAP;
    const rows = [1, 2].find((k) => long <= (k * width) / n) || ROWS;
    return axis.ticks.map(([at, words], k) => {
      const most = Math.max(1, Math.floor(Math.min((rows * width) / n - GAP, 2 * (Math.min(at, 1 - at) * width + OVER)) / LETTER));
      return [at, words.length <= most ? words : words.slice(0, most - 1) + "…", k % rows, null];
    });
  }
  for (let step = 1; step < n; step++) {
    let free = -Infinity;
    const shown = axis.ticks.filter((_, k) => k % step === 0).map(([at, words]) => [at, words, 0, at < 0.03 ? "first" : at > 0.97 ? "last" : null]);
    if (shown.every(([at, words, , held]) => {
      const long = LETTER * words.length, left = at * width - (held === "first" ? 0 : held ? long : long / 2), apart = left >= free;
      free = left + long + GAP;
      return apart;
    })) return shown;
  }
  return axis.ticks.slice(0, 1).map(([at, words]) => [at, words, 0, null]);
}

function relabel(svg, which) {
  const axis = data.axes[svg.dataset[which]], height = +svg.getAttribute("height"), group = svg.querySelector("." + which + "t");
  if (which === "y") group.replaceChildren(...axis.ticks.flatMap(([at, words]) => [make("line", { x2: "100%", y1: (1 - at) * height, y2: (1 - at) * height }), make("text", { x: -7, y: (1 - at) * height, dy: ".32em" }, words)]));
  else {
    const texts = levelTexts(axis, +svg.dataset.width), name = svg.querySelector(".xl"), rows = Math.max(name ? 2 : 1, ...texts.map(([, , row]) => row + 1));
    group.replaceChildren(...texts.map(([at, words, row, held]) => make("text", { x: 100 * at + "%", y: height + 15 + 12 * row, class: held }, words)));
    if (name) { name.textContent = axis.label; name.setAttribute("y", height + 15 + 12 * rows); }
    svg.parentElement.style.setProperty("--rows", rows);
  }
  svg.setAttribute("aria-label", `${data.axes[svg.dataset.y].label} of ${count} trials by ${data.axes[svg.dataset.x].label}`);
}

function axisPicker(figure, words, which, svgs, keys) {
  const change = (key) => { for (const svg of svgs) { svg.dataset[which] = key; relabel(svg, which); } choose(); };
  const row = figure.querySelector(".pickers") || make("div", { class: "row pickers" });
  row.append(label(words, pick(keys, svgs[0].dataset[which], change)));
  figure.querySelector("figcaption").after(row);
}

const slices = document.getElementById("slices"), contour = document.getElementById("contour");
if (slices) axisPicker(slices.closest("figure"), "Upright", "y", all("svg.plot", slices), data.measures);
if (contour) for (const [words, which] of [["Level", "x"], ["Upright", "y"]]) axisPicker(contour.closest("figure"), words, which, [contour], data.parameters);

// -- the table ----------------------------------------------------------------------------------------------------

const table = document.getElementById("all-trials");
if (table) {
  const body = table.tBodies[0], heads = all("thead th", table);
  const cell = (row, column) => { const words = row.cells[column].textContent, number = parseFloat(words); return words === "" || words === "-" ? null : Number.isNaN(number) || heads[column].classList.contains("word") && column ? words : number; };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const sort = (column) => {
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head, k) => (k === column ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
    const keyed = rows.map((row) => [cell(row, column), row]);
    keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : (down ? -1 : 1) * compare(a, b))); // empty cells last
    body.append(...keyed.map(([, row]) => row));
  };
  const style = make("style"), off = new Set();
  const show = (column, on) => { on ? off.delete(column) : off.add(column); style.textContent = [...off].map((k) => `@media screen{#all-trials tr>:nth-child(${k + 1}){display:none}}`).join(""); };
  const boxes = heads.map((head, k) => (k ? make("label", {}, make("input", { type: "checkbox", checked: true, onchange: (event) => show(k, event.target.checked) }), " " + head.textContent) : ""));
  document.head.append(style);
  table.parentElement.before(make("details", { class: "columns" }, make("summary", {}, "Columns"), make("div", { class: "row" }, ...boxes)));
  heads.forEach((head, k) => { head.replaceChildren(make("button", { type: "button", onclick: () => sort(k) }, ...head.childNodes)); });
  for (const row of rows) row.addEventListener("pointerenter", () => point(+row.dataset.i));
  for (const row of rows) row.addEventListener("click", () => pin(+row.dataset.i === pinned ? -1 : +row.dataset.i));
  body.addEventListener("pointerleave", () => point(pinned));
}

// -- links to sections: a sandboxed frame, such as MLflow's, does not follow them -----------------------------------

if (self !== top) for (const link of all("a[href^='#']")) link.addEventListener("click", (event) => {
  const section = document.getElementById(link.getAttribute("href").slice(1));
  if (section) { event.preventDefault(); section.scrollIntoView(); }
});

// -- commands -----------------------------------------------------------------------------------------------------

for (const block of all("pre.copy")) {
  const copy = async (event) => {
    const button = event.target, words = block.dataset.text;
    try { await navigator.clipboard.writeText(words); button.textContent = "Copied"; } catch {
      // a sandboxed frame has no clipboard: select, so that the keys copy
      const range = document.createRange();
      range.selectNodeContents(block.firstChild);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  block.dataset.text = block.textContent;
  block.append(make("button", { type: "button", onclick: copy }, "Copy"));
}
choose();
})();
