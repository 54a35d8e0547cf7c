"use strict";
// Draws the runs. Either from the data inside a report, or from the server again and again. Whatever a model wrote goes
// into the page as text, never as markup.

const query = new URLSearchParams(location.search);
const inside = document.getElementById("data") && JSON.parse(document.getElementById("data").textContent);
const solo = location.pathname.includes("/d-solo/");
const COLOURS = {
  light: ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f"],
  dark: ["#5aa9e6", "#ffa94d", "#69db7c", "#ff8787", "#b197fc", "#c9a58f", "#faa2c1", "#66d9e8", "#d8d34f", "#b5bdc6"],
};
const DASHES = ["solid", "dash", "dot"];
const FEW = 12, MOST_IN_LEGEND = 60;
const EVERY_MS = 3000;
const byId = (id) => document.getElementById(id);

const state = { axis: "step", runs: [], shown: new Map(), chosen: null, detail: null, looks: new Map(), drawn: "" };

function dark() {
  const asked = query.get("theme");
  return asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const nats = (value) => (value == null ? "" : value.toFixed(3) + " nats");

const percent = (value) => (value == null ? "" : (100 * value).toFixed(1) + " %");

function lasted(seconds) {
  if (seconds < 90) return Math.round(seconds) + " s";
  return seconds < 5400 ? Math.round(seconds / 60) + " min" : (seconds / 3600).toFixed(1) + " h";
}

// What differs between the runs tells them apart; what they share only fills the legend.
function differing(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))];
  const values = (name) => runs.map((run) => JSON.stringify(run.settings[name])).filter((value) => value !== undefined);
  return names.filter((name) => new Set(values(name)).size > 1);
}

const settingsOf = (run, names) => names.filter((name) => name in run.settings).map((name) => name + " " + run.settings[name]).join(", ");

// In a legend the settings alone, where they tell the runs apart: names with dates in them are long.
function labels(runs) {
  const names = differing(runs), short = runs.map((run) => settingsOf(run, names));
  const enough = runs.length > 1 && new Set(short).size === runs.length;
  return runs.map((run, index) => (enough ? short[index] : run.id + (short[index] && " (" + short[index] + ")")));
}

function escaped(text) { // plotly reads a little markup in labels
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// Where there are many runs, those that differ in their seed alone look the same, and are one line of the legend.
const many = () => state.runs.length > FEW;
const kind = (run) => (many() ? JSON.stringify({ ...run.settings, seed: null }) : run.id);

// A colour and a kind of line for each, in the order in which they began, so that a new one changes nobody's.
function giveLooks() {
  const order = [...state.runs].sort((a, b) => a.started - b.started || (a.id < b.id ? -1 : 1));
  const kinds = [...new Set(order.map(kind))];
  const colours = COLOURS[dark() ? "dark" : "light"];
  state.looks = new Map(kinds.map((one, index) => [one, {
    color: colours[index % colours.length], dash: DASHES[Math.floor(index / colours.length) % DASHES.length],
  }]));
}

const look = (run) => state.looks.get(kind(run));

const visible = (run) => state.shown.get(run.id) ?? true;

function layout(more) {
  const style = getComputedStyle(document.documentElement);
  const line = style.getPropertyValue("--line").trim();
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 46, r: 10, t: 6, b: 36 },
    font: { color: style.getPropertyValue("--text").trim(), size: 12 }, hovermode: "closest", uirevision: state.axis,
    legend: { orientation: "h", y: 1, yanchor: "bottom", traceorder: "normal", font: { size: 11 } }, showlegend: true,
    ...more, xaxis: { ...axis, rangemode: "tozero", ...more.xaxis }, yaxis: { ...axis, rangemode: "tozero", ...more.yaxis },
    ...(more.yaxis2 && { yaxis2: { ...axis, overlaying: "y", side: "right", tickmode: "auto", rangemode: "tozero", showgrid: false, ...more.yaxis2 } }),
  };
}

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };

// Time counts from each run's own start, so that runs of different days can be compared.
const minutes = (run, time) => (time - run.started) / 60;
const horizontal = () => ({ title: { text: state.axis === "step" ? "training step" : "minutes since the run began", standoff: 8 } });

// A job's page asks for its own time span: the runs that were alive in it.
function inRange(run) {
  const from = Number(query.get("from")), to = Number(query.get("to"));
  return !(solo && query.get("panelId") === "24" && from) || (run.heard * 1000 >= from && !(to && run.started * 1000 > to + 60000));
}

const PLOTS = {
  accuracy: { curve: "curve", shown: percent, hover: "%{y:.1%}", better: 1 },
  loss: { curve: "loss", shown: nats, hover: "%{y:.4f} nats", better: -1 },
};

// A frame of Ray's has room for one plot: accuracy, unless its runs have nothing but log-loss.
function drawCurves() {
  const runs = state.runs.filter((run) => visible(run) && inRange(run));
  const having = (plot) => runs.filter((run) => run[PLOTS[plot].curve].length);
  const supervised = having("loss").length > 0, sampled = having("accuracy").length > 0;
  byId("loss-card").hidden = !supervised || (solo && sampled);
  byId("loss-title").textContent = having("loss").some((run) => run.kind === "serve") ? "Loss, nats a token: held out, or trained on through a server" : "Held-out log-loss, nats a token";
  byId("accuracy-card").hidden = supervised && !sampled;
  byId("empty").hidden = sampled || supervised;
  byId("accuracy").style.display = sampled ? "" : "none";
  for (const plot of ["accuracy", "loss"]) {
    if (having(plot).length && !byId(plot + "-card").hidden) drawCurve(plot, having(plot));
    else Plotly.purge(plot);
  }
}

function drawCurve(plot, runs) {
  const { curve, shown, hover } = PLOTS[plot], small = solo && innerHeight < 400, crowd = runs.length > FEW;
  const names = labels(runs), lines = crowd ? crowdLines(plot, runs) : runs.map((run, index) => ({ run, text: names[index] }));
  const labelled = runs.length > (small ? 2 : 4) ? new Set() : ends(plot, runs);
  const traces = lines.map(({ run, text, mean, faint }) => {
    const points = mean ?? run[curve], chosen = run.id === state.chosen && !solo && !mean;
    return {
      x: points.map(([step, time]) => (state.axis === "step" ? step : minutes(run, time))),
      y: points.map((point) => point[2]),
      name: escaped(text ?? ""), legendgroup: kind(run), showlegend: text != null, opacity: faint && !chosen ? 0.3 : 1,
      mode: (points.length > 60 || crowd ? "lines" : "lines+markers") + (labelled.has(run.id) ? "+text" : ""), // a dot for each would be a band
      text: points.map((point, i) => (i === points.length - 1 ? shown(point[2]) : "")), cliponaxis: false,
      textposition: points.length < 2 || early(runs, curve) ? "middle right" : plot === "accuracy" && points.at(-1)[2] > 0.95 ? "bottom left" : "top left",
      textfont: { color: look(run).color, size: 12 }, marker: { size: 5 },
      line: { ...look(run), width: chosen ? 3.5 : faint ? 1 : 2 },
      hovertemplate: hover + (state.axis === "step" ? " at step %{x}" : " after %{x:.1f} min")
        + "<extra>" + (mean ? "mean of the seeds" : escaped(run.id)) + "<br>" + escaped(mean ? text : names[runs.indexOf(run)]) + "</extra>",
    };
  });
  const wide = innerWidth >= 700, entries = lines.filter((one) => one.text != null).length;
  const legend = runs.length > 1 && (crowd ? wide && !small && entries <= MOST_IN_LEGEND : entries <= (small ? 6 : FEW));
  byId(plot).classList.toggle("crowd", legend && entries > 16);
  Plotly.react(plot, traces, layout({
    xaxis: { ...(!small && horizontal()), ...(early(runs, curve) && { dtick: 1, range: [0, 8] }) }, yaxis: vertical(plot, runs), showlegend: legend,
    ...(crowd && { legend: { orientation: "v", x: 1.01, xanchor: "left", y: 1, yanchor: "top", font: { size: 11 }, tracegroupgap: 0, itemwidth: 34 } }),
    ...(small && { margin: { l: 40, r: 8, t: 4, b: 22 } }),
  }), CONFIG);
}

// Steps are whole, which Plotly does not know of the first few.
const early = (runs, curve) => state.axis === "step" && runs.every((run) => run[curve].at(-1)[0] < 8);

// For each setting, the best first, one line of the legend, and where it has several seeds their mean, with them faint.
function crowdLines(plot, runs) {
  const { curve, better } = PLOTS[plot], names = differing(runs).filter((name) => name !== "seed");
  const groups = [...Map.groupBy(runs, kind).values()].map((members) => ({
    members, mean: state.axis === "step" ? meanCurve(members.map((run) => run[curve])) : [],
    latest: members.reduce((sum, run) => sum + run[curve].at(-1)[2], 0) / members.length,
    text: cut(settingsOf(members[0], names) || members[0].id, 44) + (members.length > 1 ? ", " + members.length + " seeds" : ""),
  }));
  return groups.sort((a, b) => better * (b.latest - a.latest)).flatMap(({ members, mean, text }) => {
    const averaged = members.length > 1 && mean.length > 1;
    const each = members.map((run, index) => ({ run, faint: averaged, text: averaged || index ? null : text }));
    return averaged ? [{ run: members[0], mean, text }, ...each] : each;
  });
}

// Where all of them were measured.
function meanCurve(curves) {
  const known = curves.map((curve) => new Map(curve.map(([step, , value]) => [step, value])));
  const steps = curves[0].map(([step]) => step).filter((step) => known.every((values) => values.has(step)));
  return steps.map((step) => [step, 0, known.reduce((sum, values) => sum + values.get(step), 0) / known.length]);
}

// Runs whose latest value can be written at the end of its curve without standing on another's.
function ends(plot, runs) {
  const { curve } = PLOTS[plot], most = Math.max(...runs.flatMap((run) => run[curve].map((point) => point[2]))), taken = [], free = new Set();
  for (const run of runs) {
    const value = run[curve].at(-1)[2];
    if (taken.some((other) => Math.abs(other - value) < 0.06 * most)) continue;
    taken.push(value);
    free.add(run.id);
  }
  return free;
}

const cut = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

function vertical(plot, runs) {
  if (plot === "loss") return { rangemode: "tozero" };
  const best = Math.max(...runs.map((run) => run.best)), top = best > 0.4 ? 1.02 : Math.max(0.05, 1.3 * best);
  return { tickformat: top < 0.1 ? ".1%" : ".0%", range: [0, top] };
}

function drawRuns() {
  const names = differing(state.runs), wanted = byId("filter").value.toLowerCase();
  const rows = state.runs.filter((run) => (run.id + " " + JSON.stringify(run.settings) + run.state).toLowerCase().includes(wanted));
  byId("runs").tBodies[0].replaceChildren(...rows.map((run) => {
    const row = element("tr", undefined, run.id === state.chosen ? "chosen" : "");
    const swatch = element("button", undefined, "swatch" + (visible(run) ? "" : " off"));
    swatch.style.borderTop = "4px " + { solid: "solid", dash: "dashed", dot: "dotted" }[look(run).dash] + " " + look(run).color;
    swatch.title = "show or hide " + run.id;
    swatch.onclick = (event) => { event.stopPropagation(); state.shown.set(run.id, !visible(run)); draw(true); };
    const cell = (content, className) => { const made = element("td", undefined, className); made.append(content); row.append(made); };
    cell(swatch);
    cell(run.id, "name");
    cell(element("span", run.state, run.state));
    const [curve, best, shown] = run.loss.length && !run.curve.length ? [run.loss, run.least, nats] : [run.curve, run.best, percent];
    cell(shown(curve.at(-1)?.[2]));
    cell(shown(best), "wide");
    cell(run.step + (run.num_steps ? "/" + run.num_steps : "")); // a server's clients alone know how many there will be
    cell(lasted(run.heard - run.started), "wide");
    cell(settingsOf(run, names), "wide");
    row.onclick = () => choose(run.id);
    return row;
  }));
}

function series(run, name, metric, more) {
  const known = state.detail.rows.filter((row) => row[metric] != null);
  return {
    x: known.map((row) => (state.axis === "step" ? row.step : minutes(run, row.time))),
    y: known.map((row) => row[metric]), name, mode: "lines", line: { width: 1.8 }, ...more,
  };
}

const isPolicys = (turn) => turn.role === "assistant";

function said(turn) {
  const shown = element("pre", turn.content, isPolicys(turn) ? "" : "environment");
  if (!isPolicys(turn)) shown.dataset.role = turn.name ? turn.role + " " + turn.name : turn.role;
  return shown;
}

// Of each source of problems and of each set that evaluations look at, by its metric.
function accuracies(rows) {
  const names = new Set(rows.flatMap((row) => Object.keys(row)));
  return [...names].map((name) => [name, name.match(/^eval\/([^/]+)\/accuracy$/)?.[1]]).filter(([, set]) => set).slice(0, 8);
}

function drawDetail() {
  byId("detail").hidden = !state.detail;
  if (!state.detail || solo) return;
  const run = state.runs.find((other) => other.id === state.chosen), rows = state.detail.rows;
  byId("detail-name").textContent = run.id;
  const settings = Object.entries(run.settings).map(([name, value]) => name + " " + value).join(", ");
  const job = run.submission_id ? ", job " + run.submission_id : "";
  const means = state.detail.each > 1 ? "; each point below is the mean of " + state.detail.each + " steps" : "";
  byId("links").replaceChildren(element("span", settings + job + means + "  "));
  if (!inside) for (const [file, text] of [["adapter.zip", "best adapter"], ["metrics.jsonl", "metrics"]]) {
    if (run.kind === "serve" && file === "adapter.zip") continue; // its client saves it where it wants
    const link = element("a", text);
    link.href = "/rankone/runs/" + encodeURIComponent(run.id) + "/" + file;
    byId("links").append(link);
  }
  const plot = (id, traces, more = {}) => {
    const known = traces.filter((trace) => trace.x.length); // an axis without a point has no numbers
    byId(id).closest(".card").hidden = rows.length > 0 && !known.length; // such as the phases of a server's client
    const { yaxis2, ...rest } = more, right = known.some((trace) => trace.yaxis === "y2") && { yaxis2 };
    Plotly.react(id, known, layout({ margin: { l: 46, r: right ? 46 : 10, t: 6, b: 22 }, ...rest, ...right }), CONFIG);
  };
  const line = (name, metric, more) => series(run, name, metric, more);
  const dotted = { line: { width: 1.2, dash: "dot" } };
  const supervised = run.loss.length > 0;
  byId("reward-title").textContent = supervised ? "Loss, nats a token" : "Reward and answers";
  if (supervised) plot("reward", [line("of each step's completions", "update/loss"), line("held out", "eval/log_loss", { mode: "lines+markers" })]);
  else plot("reward", [
    ...accuracies(rows).map(([metric, name]) => line(name, metric, { mode: "lines+markers", line: { width: 1.2 } })),
    line("mean reward", "reward/mean"),
    line("groups without signal", "group/no_signal_fraction"),
    line("no answer", "reward/outcome/no_answer", dotted),
    line("truncated", "completion/truncated_fraction", dotted),
  ], { yaxis: { range: [0, 1.02], tickformat: ".0%" } });
  plot("policy", [line("entropy", "update/entropy"), line("KL, right axis", "update/kl_sampler_learner", { yaxis: "y2" })],
    { yaxis2: { exponentformat: "e", nticks: 5, rangemode: "normal" } });
  plot("phases", ["sample", "grade", "update", "publish", "evaluate", "liveness", "checkpoint"].map((phase) =>
    line(phase, "time/" + phase + "_s", { stackgroup: "all", line: { width: 0.5 } })));
  const few = rows.every((row) => !(row["rollout/workers"] > 6)); // plotly would write "1" beside several halves
  plot("workers", [
    line("sampled", "throughput/sample_tokens_per_s"),
    line("learned from", "throughput/update_tokens_per_s"),
    line("workers serving, right axis", "rollout/workers", { yaxis: "y2", line: { shape: "hv", dash: "dot" } }),
  ], { yaxis2: { nticks: 4, tickformat: "d", ...(few && { dtick: 1 }) } });
  byId("samples").replaceChildren(...[...state.detail.samples].reverse().map((sample) => {
    const item = element("li"), head = element("div", undefined, "head");
    head.append("step " + sample.step + ", " + sample.split.replace("_", " ") + ": " + sample.question + "  (" + sample.answer + ")  ");
    head.append(element("span", sample.outcome + " " + sample.reward, sample.outcome));
    const turns = Array.isArray(sample.turns) ? sample.turns : [{ role: "assistant", content: sample.completion }];
    if (sample.ending) head.append(" (" + (sample.ending === "done" ? "done" : "ended: " + sample.ending) + " after " + turns.filter(isPolicys).length + " turns)");
    item.append(head, ...turns.map(said));
    return item;
  }));
}

function draw(again) {
  const now = JSON.stringify([state.runs, state.chosen, state.axis, state.detail && state.detail.rows.length]);
  if (now === state.drawn && !again) return;
  state.drawn = now;
  document.documentElement.classList.toggle("dark", dark());
  byId("count").textContent = state.runs.length + (state.runs.length === 1 ? " run" : " runs");
  giveLooks();
  drawCurves();
  if (!solo) drawRuns();
  drawDetail();
}

async function ask(path) {
  const response = await fetch("/rankone/" + path, { cache: "no-cache" });
  if (!response.ok) throw new Error(response.status + " for " + path);
  return response.json();
}

async function choose(id) {
  state.chosen = id;
  await refresh(true);
}

async function refresh(again) {
  try {
    state.runs = inside ? inside.runs : await ask("runs.json");
    if (!solo) {
      state.chosen ??= state.runs.length ? state.runs[0].id : null;
      if (state.chosen) state.detail = inside ? inside.details[state.chosen] : await ask("runs/" + encodeURIComponent(state.chosen) + ".json");
    }
    byId("live").textContent = inside ? "a report of " + new Date(Math.max(...state.runs.map((run) => run.heard)) * 1000).toLocaleString() : "live";
    byId("live").className = "";
  } catch (error) {
    byId("live").textContent = "no answer from the cluster; trying again";
    byId("live").className = "lost";
    return;
  }
  draw(again === true);
}

async function watch() {
  await refresh();
  if (!inside) setTimeout(watch, EVERY_MS);
}

document.body.classList.toggle("solo", solo);
document.documentElement.classList.toggle("dark", dark());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));
byId("filter").oninput = () => drawRuns();
addEventListener("resize", () => draw(true));
byId("axis").onclick = (event) => {
  if (!event.target.dataset.axis) return;
  state.axis = event.target.dataset.axis;
  for (const button of byId("axis").children) button.setAttribute("aria-pressed", String(button.dataset.axis === state.axis));
  draw(true);
};
watch();
