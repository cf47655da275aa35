"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const models = Object.keys(data.models), tasks = [...new Set(data.curves.map((curve) => curve.task))];
const dark = window.matchMedia("screen and (prefers-color-scheme: dark)");
const number = (value) => (value === null || value === undefined ? "" : String(Number(Number(value).toPrecision(4))));
const signed = (value, share) => (value === null ? "" : (value > 0 ? "+" : "") + (share ? value.toFixed(3) : String(Number(value.toPrecision(3)))).replace("-", "−"));

/* A probability that is not quite 0 or 1 does not read as if it were. */
const probability = (p) => (p === null ? "" : p > 0.9999 && p < 1 ? "> 0.9999" : p > 0 && p < 0.0001 ? "< 0.0001" : number(p));

function element(name, text, attributes) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  return made;
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => element("option", text, { value })));
}

/* Curves */

function chosenModels() {
  return [...byId("models").querySelectorAll("input:checked")].map((box) => box.value);
}

function metricsOf(task) {
  const found = [...new Set(data.curves.filter((curve) => curve.task === task).map((curve) => curve.metric))];
  const main = (data.main[task] || []).filter((name) => found.includes(name));
  return [...main, ...found.filter((name) => !main.includes(name))];
}

function alarmsOf(task, metric) {
  const found = new Map();
  for (const [model, t, m, checkpoint, against, reference, change, p, severity] of data.changes) {
    if (t !== task || m !== metric || !severity) continue;
    const key = model + "\u0000" + checkpoint;
    const words = severity + ": " + signed(change) + " against " + (against === "best" ? "its best" : "the " + against) + " (" + reference + ")";
    found.set(key, found.has(key) ? found.get(key) + "; " + words : words);
  }
  return found;
}

function place(model, index, axis) {
  const of = data.models[model];
  if (axis === "steps") return of.steps[index];
  if (axis === "compute") return 6 * of.parameters * of.tokens[index];
  return of.tokens[index];
}

function rowsOf(task, metric, axis) {
  const wanted = new Set(chosenModels()), of = data.metrics[metric], alarms = alarmsOf(task, metric), rows = [];
  for (const curve of data.curves) {
    if (curve.task !== task || curve.metric !== metric || !wanted.has(curve.model)) continue;
    let best = null;
    curve.values.forEach((value, index) => {
      const x = place(curve.model, index, axis), checkpoint = data.models[curve.model].checkpoints[index];
      if (value === null || !(x > 0)) return;
      if (best === null || of.sign * value > of.sign * best) best = value;
      const reach = curve.stderrs[index] === null ? null : 1.959964 * curve.stderrs[index];
      const end = (v) => (of.share ? Math.min(1, Math.max(0, v)) : v);
      rows.push({
        name: curve.model, kind: "run", model: curve.model, checkpoint, x, value, chance: curve.chance,
        low: reach === null ? null : end(value - reach), high: reach === null ? null : end(value + reach),
        best,
        alarm: alarms.get(curve.model + "\u0000" + checkpoint) || "",
      });
    });
  }
  return rows;
}

function meansOf(task, metric, axis) {
  const wanted = new Set(chosenModels()), rows = [];
  for (const mean of data.means) {
    if (!byId("means").checked || mean.task !== task || mean.metric !== metric || !mean.models.every((model) => wanted.has(model))) continue;
    mean.tokens.forEach((tokens, i) => {
      const x = { tokens, steps: mean.steps[i], compute: 6 * mean.parameters * tokens }[axis];
      const end = (v) => (data.metrics[metric].share ? Math.min(1, Math.max(0, v)) : v);
      if (x > 0) rows.push({ name: mean.recipe, kind: "mean", checkpoint: "mean over " + mean.models.length + " seeds", x, value: mean.value[i], low: mean.low[i] === null ? null : end(mean.low[i]), high: mean.high[i] === null ? null : end(mean.high[i]), best: null, chance: null, alarm: "" });
    });
  }
  return rows;
}

/* Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten, or the powers alone where these are many. */
function ticks(values) {
  const low = Math.min(...values), high = Math.max(...values), found = [];
  const decades = Math.log10(high / low), steps = decades < 0.7 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : decades < 3.5 ? [1, 2, 5] : [1];
  const stride = steps.length > 1 ? 1 : Math.ceil(decades / 10);
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += stride) {
    for (const step of steps) found.push(Number((step + "e" + power)));
  }
  const within = found.filter((tick) => tick >= low && tick <= high);
  return within.length ? within : [low];
}

const AXES = { tokens: "training tokens", steps: "training step", compute: "training compute, 6ND (FLOP; N: " + data.size + ")" };

function axesKnown() {
  for (const option of byId("axis").options) {
    option.disabled = !models.some((model) => data.models[model].steps.some((_, i) => place(model, i, option.value) > 0));
  }
  if (byId("axis").selectedOptions[0].disabled) byId("axis").value = [...byId("axis").options].find((o) => !o.disabled)?.value ?? "tokens";
}

async function draw() {
  const task = byId("task").value, metric = byId("metric").value, axis = byId("axis").value;
  const runs = rowsOf(task, metric, axis), means = meansOf(task, metric, axis), of = data.metrics[metric];
  const averaged = new Set(data.means.filter((mean) => means.some((row) => row.name === mean.recipe)).flatMap((mean) => mean.models));
  const rows = [...runs, ...means].map((row, i) => ({
    ...row, row: i, best: byId("marks").checked ? row.best : null,
    ...(byId("bands").checked && !averaged.has(row.name) ? {} : { low: null, high: null }),
  }));
  const words = [of.unit, of.direction].filter(Boolean).join(", ");
  const left = data.curves.filter((curve) => curve.task === task && curve.metric === metric && chosenModels().includes(curve.model))
    .reduce((sum, curve) => sum + curve.values.filter((value, i) => value !== null && !(place(curve.model, i, axis) > 0)).length, 0);
  byId("curve-title").textContent = (data.titles[task] || task) + ": " + metric + (words ? " (" + words + ")" : "")
    + (left ? ". " + left + " untrained or unplaced " + (left > 1 ? "checkpoints are" : "checkpoint is") + " not on this axis." : "");
  const spec = structuredClone(data.chart);
  spec.datasets.points = rows;
  const fields = (layer) => rows.some((row) => row[layer.encoding.y?.field] !== null);
  const kinds = (layer) => !layer.transform || rows.some((row) => (layer.transform[0].filter.includes("alarm") ? row.alarm : layer.transform[0].filter.includes(row.kind)));
  spec.layer = spec.layer.filter((layer) => fields(layer) && kinds(layer));
  const names = new Set(rows.map((row) => row.name)), at = data.lines.names.map((name, i) => i).filter((i) => names.has(data.lines.names[i]));
  const ranges = { color: data.lines[dark.matches ? "dark" : "light"], strokeDash: data.lines.dash, shape: data.lines.shape };
  const lone = models.every((model) => runs.filter((row) => row.name === model).length <= 1);
  for (const layer of spec.layer) {
    if (lone && layer.mark.type === "area") layer.mark = { type: "rule", strokeWidth: 2, opacity: 0.6 };  // a band of one point has no area
    if (layer.encoding.x) {
      layer.encoding.x.title = AXES[axis];
      layer.encoding.x.axis = { ...layer.encoding.x.axis, values: ticks(rows.map((row) => row.x)), ...(axis === "compute" ? { labelExpr: "replace(format(datum.value, '.0e'), '+', '')" } : {}) };
    }
    if (layer.encoding.y) layer.encoding.y.title = metric;
    for (const [channel, range] of Object.entries(ranges)) {
      const encoding = layer.encoding[channel];
      if (encoding?.scale) encoding.scale = { domain: at.map((i) => data.lines.names[i]), range: at.map((i) => range[i]) };
      if (encoding?.legend) encoding.legend.columns = Math.max(1, Math.floor(byId("chart").clientWidth / 230));
    }
    if (means.length && layer.mark.type === "line" && layer.transform?.[0].filter.includes("run")) layer.mark = { ...layer.mark, strokeWidth: 1, opacity: 0.75 };
  }
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  for (const layer of spec.layer) if (layer.encoding.stroke) layer.encoding.stroke.condition.value = ink;
  spec.background = "transparent";
  spec.config = { ...spec.config, axis: { labelColor: ink, titleColor: ink, gridColor: line, labelFontSize: 12, titleFontSize: 13 }, legend: { labelColor: ink, labelFontSize: 12 } };
  byId("chart").setAttribute("aria-label", byId("curve-title").textContent + " Lines of " + [...names].join(", ") + " over " + AXES[axis] + ". The table below has the values" + (data.changes.length ? ", and the list of points leads to their examples." : "."));
  const key = [
    rows.some((row) => row.alarm) ? "▼ an alarm" : "", rows.some((row) => row.chance !== null) ? "dashed grey: chance" : "",
    rows.some((row) => row.best !== null) ? "dotted steps: the best so far" : "", means.length ? "thick: means over seeds, with 95 % bands over seeds and examples" : "",
    rows.some((row) => row.kind === "run" && row.low !== null) ? (lone ? "bars" : "bands") + ": 95 % over examples" : "",
  ].filter(Boolean).join("; ");
  byId("curve-words").textContent = [key, data.changes.length ? "Choose a point in the chart or in the list to see its examples" : ""].filter(Boolean).map((text) => text + ".").join(" ");
  const { view } = await vegaEmbed("#chart", spec, { actions: { export: true, source: false, compiled: false, editor: false } });
  view.addEventListener("click", (_, item) => {
    if (item && item.datum && item.datum.model) showPairs(item.datum.model, task, metric, item.datum.checkpoint);
  });
  drawn = { view, points: rows.filter((row) => row.kind === "run") };
  fill(byId("point"), [["", "—"], ...drawn.points.map((row) => [String(row.row), row.model + ", " + row.checkpoint + ": " + number(row.value) + (row.alarm ? ", alarm" : "")])]);
  mark();
  tabulate(rows, metric, axis);
}

/* Points: a list does what a click on a point does, for those without a mouse or without sight. */

let drawn = { view: null, points: [] }, chosen = {};

/* The list and a ring in the chart show the point whose examples are shown. */
function mark() {
  const shown = chosen.task === byId("task").value && chosen.metric === byId("metric").value;
  const point = drawn.points.find((row) => shown && row.model === chosen.model && row.checkpoint === chosen.checkpoint);
  byId("point").value = point ? String(point.row) : "";
  drawn.view?.signal("chosen", point ? point.row : -1).run();
}

function choosePoint() {
  const point = drawn.points.find((row) => String(row.row) === byId("point").value);
  if (point) return showPairs(point.model, byId("task").value, byId("metric").value, point.checkpoint);
  byId("pair").value = "";
  showPair(-1);
}

function tabulate(rows, metric, axis) {
  const head = element("tr");
  for (const name of ["model", "checkpoint", AXES[axis], metric, "low", "high", "chance", "alarm"]) {
    const cell = element("th", undefined, { scope: "col" });
    cell.append(element("button", name, { type: "button" }));
    head.append(cell);
  }
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr");
    for (const value of [row.name, row.checkpoint]) line.append(element("td", value));
    for (const value of [row.x, row.value, row.low, row.high, row.chance]) line.append(element("td", number(value), { class: "n" }));
    line.append(element("td", row.alarm));
    body.append(line);
  }
  const top = element("thead");
  top.append(head);
  byId("values").replaceChildren(top, body);
  sortable(byId("values"));
}

/* Matrix */

function matrix() {
  const of = byId("matrix-of").value;
  byId("against-label").hidden = of === "";
  const select = byId("matrix-against"), known = new Set(data.changes.filter((row) => row[0] === of).map((row) => row[4]));
  for (const option of select.options) option.disabled = !known.has(option.value);
  if (of !== "" && !known.has(select.value)) select.value = [...select.options].find((option) => !option.disabled).value;
  const [columns, rows] = of === "" ? overTraining() : overCheckpoints(of, byId("matrix-against").value);
  const head = element("tr");
  head.append(element("th", "task", { scope: "col" }), element("th", "metric", { scope: "col" }), ...columns.map((name) => element("th", name, { scope: "col", class: "n" })));
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr");
    line.append(element("th", data.titles[row.task] || row.task, { scope: "row" }), element("td", row.metric));
    for (const column of columns) {
      const cell = row.cells[column], td = element("td", undefined, { class: "c " + (cell ? cell.look : "none") });
      if (cell) {
        const button = element("button", cell.change === null ? number(cell.last) : signed(cell.change, data.metrics[row.metric]?.share), { type: "button", title: cell.words, "aria-label": row.task + ", " + column + ": " + cell.words });
        button.addEventListener("click", () => choose(row.task, row.metric, cell));
        td.append(button);
      }
      line.append(td);
    }
    body.append(line);
  }
  const top = element("thead");
  top.append(head);
  byId("matrix").replaceChildren(top, body);
}

const LOOKS = { "got worse": "worse2", "fell": "none", "peaked, then got worse": "worse1", "got worse, then better": "worse1", "got better": "better" };

function overTraining() {
  const rows = data.matrix.rows.map((row) => ({
    task: row.task, metric: row.metric,
    cells: Object.fromEntries(Object.entries(row.cells).map(([model, cell]) => [model, {
      ...cell, look: LOOKS[cell.outcome] || "none", words: cell.change === null ? "value of the only checkpoint" : cell.outcome + ", " + number(cell.first) + " → " + number(cell.last),
    }])),
  }));
  return [data.matrix.models, rows];
}

function overCheckpoints(model, against) {
  const rows = new Map();
  for (const [m, task, metric, checkpoint, kind, reference, change, p, severity, worse] of data.changes) {
    if (m !== model || kind !== against) continue;
    const key = task + "\u0000" + metric;
    if (!rows.has(key)) rows.set(key, { task, metric, cells: {} });
    const clear = p !== null && p < data.alpha;
    const look = severity === "severe" || severity === "moderate" ? "worse2" : severity ? "worse1" : clear && !worse ? "better" : "none";
    rows.get(key).cells[checkpoint] = { change, look, checkpoint, reference, model, words: signed(change) + " against " + reference + (severity ? ", " + severity + " alarm" : "") + (p === null ? "" : ", adjusted p " + number(p)) };
  }
  const names = data.models[model].checkpoints.filter((name) => [...rows.values()].some((row) => row.cells[name]));
  return [names, [...rows.values()]];
}

function choose(task, metric, cell) {
  byId("task").value = task;
  fill(byId("metric"), metricsOf(task).map((name) => [name, name]));
  byId("metric").value = metric;
  draw();
  if (cell.checkpoint) showPairs(cell.model, task, metric, cell.checkpoint, cell.reference);
  byId("curves").scrollIntoView({ behavior: "auto" });
}

/* Flipped examples */

const nameOf = (pair) => pair.task + ", " + pair.model + ": " + pair.from + " → " + pair.to + " (" + pair.metric + ", " + pair.lost + " lost, " + pair.gained + " gained)";

/* The examples of a checkpoint's alarm: against this reference, or else its most severe one. */
function showPairs(model, task, metric, checkpoint, reference) {
  if (!data.changes.length) return;
  const found = data.flips.map((pair, index) => [pair, index]).filter(([pair]) => pair.model === model && pair.task === task && pair.metric === metric && pair.to === checkpoint);
  const [, index] = found.find(([pair]) => pair.from === reference) || found[0] || [null, -1];
  if (index >= 0) {
    byId("pair").value = String(index);
    showPair(index);
  } else {
    const of = data.models[model].checkpoints, before = reference || of[of.indexOf(checkpoint) - 1];
    byId("pair").value = "";
    byId("pair-words").textContent = before
      ? "No alarm at " + checkpoint + " of " + model + " on " + task + ". The examples that changed: " + command(model, before, checkpoint, task)
      : checkpoint + " is the first checkpoint of " + model + ": nothing changed before it.";
    byId("flips").replaceChildren();
    chosen = { model, task, metric, checkpoint };
    mark();
  }
}

const START = data.flips.length ? byId("pair-words").textContent : "No alarm, so no examples are listed here. A point of a curve shows the command that lists them.";

function command(model, from, to, task) {
  return "ebbtide flips STUDY --model " + model + " --from " + from + " --to " + to + " --task " + task + " (STUDY: its configuration file)";
}

function showPair(index) {
  const pair = data.flips[index];
  chosen = pair ? { model: pair.model, task: pair.task, metric: pair.metric, checkpoint: pair.to } : {};
  mark();
  if (!pair) {
    byId("pair-words").textContent = START;
    return byId("flips").replaceChildren();
  }
  byId("pair-words").textContent = [pair.sentence, pair.groups, pair.note].filter(Boolean).map((text) => (/[.!?]$/.test(text) ? text : text + ".")).join(" ");
  byId("flips").replaceChildren(...pair.examples.map((example) => flip(example, pair)));
  const more = pair.lost + pair.gained - pair.examples.length;
  if (more > 0) byId("flips").append(element("p", more + (pair.examples.length ? " further examples changed less: " : " examples are not on the page: ") + command(pair.model, (pair.from_model === pair.model ? "" : pair.from_model + "/") + pair.from, pair.to, pair.task), { class: "note" }));
}

function flip(example, pair) {
  const box = element("article", undefined, { class: "flip" });
  const parts = ["Example " + example.example, example.flip];
  if (example.margin_lost !== null) parts.push("margin lost " + number(example.margin_lost));
  if (example.others) parts.push("also in " + example.also + " of " + example.others + " other models");
  for (const [name, level] of Object.entries(example.groups)) if (level) parts.push(name + ": " + level);
  if (example.shots) parts.push(example.shots + " examples before it");
  box.append(element("p", parts.join(" · "), { class: "head" }));
  let texts = box;
  if (data.blurred.includes(pair.task)) {
    texts = element("div", undefined, { class: "blurred", "aria-hidden": "true" });
    box.append(texts);
    blur(texts);
  }
  texts.append(element("pre", example.prompt));
  if (example.choices.length) {
    const table = element("table"), body = element("tbody"), head = element("tr");
    for (const name of ["choice", pair.from, pair.to]) head.append(element("th", name, { scope: "col", class: name === "choice" ? "" : "n" }));
    const top = element("thead");
    top.append(head);
    example.choices.forEach((choice, i) => {
      const row = element("tr");
      const marks = [example.right.includes(i) ? "right" : "", example.said === i ? "chosen before" : "", example.says === i ? "chosen now" : ""].filter(Boolean);
      row.append(element("td", choice + (marks.length ? "  (" + marks.join(", ") + ")" : ""), { class: example.right.includes(i) ? "gold" : "" }));
      for (const list of [example.before, example.after]) row.append(element("td", list.length ? probability(list[i]) : "", { class: "n" }));
      body.append(row);
    });
    table.append(top, body);
    texts.append(table);
  } else {
    box.append(element("p", pair.metric + " " + number(example.values[0]) + " → " + number(example.values[1])));
  }
  return box;
}

/* Vile texts are blurred until a reader asks for one; print blurs them again */

function blur(texts) {
  const button = element("button", "Show the text", { type: "button", class: "show", "aria-pressed": "false" });
  const turn = () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(shown));
    texts.setAttribute("aria-hidden", String(!shown));
    texts.className = shown ? "unblurred" : "blurred";
  };
  button.addEventListener("click", turn);
  texts.addEventListener("click", () => { if (!String(window.getSelection())) turn(); });
  texts.before(button);
}

document.querySelectorAll(".blurred").forEach(blur);

/* Tables: sort by a column, filter by words */

const order = new Intl.Collator("en", { numeric: true });
function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
}

function sortable(table) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const text = (row) => row.cells[column].textContent, blank = (row) => text(row) === "";  // which are last
    body.append(...[...body.rows].sort((a, b) => blank(a) - blank(b) || (up ? 1 : -1) * compare(text(a), text(b))));
  }));
}

document.querySelectorAll("table.data").forEach(sortable);
document.querySelectorAll("input.filter").forEach((input) => input.addEventListener("input", () => {
  const words = input.value.toLowerCase();
  for (const row of byId(input.dataset.table).tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(words);
}));

/* The documentation is a link where it is beside the page, and words in a copy that was sent elsewhere */

if (data.docs && decodeURI(window.location.pathname).endsWith("/" + data.place)) {
  for (const where of document.querySelectorAll(".where")) {
    const file = "docs/" + where.dataset.page, [before, after] = where.textContent.split(file);
    where.replaceChildren(before, element("a", file, { href: data.docs + "/" + where.dataset.page }), after);
  }
}

/* Start: a study without models has nothing to choose */

function start() {
  fill(byId("task"), tasks.map((task) => [task, data.titles[task] || task]));
  fill(byId("metric"), metricsOf(tasks[0]).map((name) => [name, name]));
  const single = models.every((model) => data.models[model].checkpoints.length === 1);
  if (single && models.length > 1) byId("axis").value = "compute";
  fill(byId("matrix-of"), [["", single ? "the values, by model" : "the last checkpoint with the first, by model"], ...models.filter((model) => data.changes.some((row) => row[0] === model)).map((model) => [model, "checkpoints of " + model])]);
  fill(byId("pair"), [["", "—"], ...data.flips.map((pair, index) => [String(index), nameOf(pair)])]);
  for (const model of models) {
    const label = element("label"), box = element("input", undefined, { type: "checkbox", value: model });
    box.checked = true;
    label.append(box, " " + model);
    byId("models").append(label);
  }
  byId("task").addEventListener("input", () => { fill(byId("metric"), metricsOf(byId("task").value).map((name) => [name, name])); draw(); });
  for (const id of ["metric", "axis", "bands", "marks", "means", "models"]) byId(id).addEventListener("input", draw);
  for (const id of ["matrix-of", "matrix-against"]) byId(id).addEventListener("input", matrix);
  byId("pair").addEventListener("input", () => showPair(byId("pair").value));
  byId("point").addEventListener("input", choosePoint);
  dark.addEventListener("change", draw);
  byId("means-label").hidden = !data.means.length;
  byId("examples").hidden = !data.changes.length;
  byId("point-label").hidden = !data.changes.length;
  byId("pair-label").hidden = !data.flips.length;
  byId("pair-words").textContent = START;
  axesKnown();
  matrix();
  draw();
}

if (tasks.length) start();
