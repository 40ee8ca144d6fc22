"use strict";

// What a shop watches, from /metrics: every few seconds, with the changes since this page was opened.

const find = (id) => document.getElementById(id);
const EVERY = 5000, WINDOW = 5 * 60 * 1000, KEPT = 720;
const history = [];
const lines = new Map();

// The series of a text in Prometheus' format: name -> [[labels, value], ..].
function parsed(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value.replace(/\\(.)/g, "$1");
    if (!found.has(match[1])) found.set(match[1], []);
    found.get(match[1]).push([labels, Number(match[3])]);
  }
  return found;
}

function total(series, name, wanted = {}) {
  let sum = 0;
  for (const [labels, value] of series.get(name) ?? [])
    if (Object.entries(wanted).every(([label, text]) => labels[label] === text)) sum += value;
  return sum;
}

const most = (series, name) => Math.max(0, ...(series.get(name) ?? []).map(([, value]) => value));
// A service that was started again counts from 0.
const added = (name, wanted) => (now, then) => {
  const value = total(now, name, wanted), before = then ? total(then, name, wanted) : 0;
  return value < before ? value : value - before;
};
const share = (over, under) => (now, then) => {
  const below = under(now, then);
  return below > 0 ? over(now, then) / below : null;
};

const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 2 : 1)}%`;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 });
const duration = (seconds) => seconds < 90 ? `${number(seconds)} s` : seconds < 5400 ? `${number(seconds / 60)} min`
  : seconds < 172800 ? `${number(seconds / 3600)} h` : `${number(seconds / 86400)} days`;

const learns = (now) => total(now, "mtaw_events_total") + total(now, "mtaw_learned_clicks") > 0;
const worstDrift = (now) => {
  let worst = null;
  for (const [{ feature }, value] of now.get("mtaw_drift") ?? []) {
    const level = total(now, "mtaw_drift_threshold", { feature });
    if (!worst || value / level > worst.ratio) worst = { feature, value, ratio: value / level };
  }
  return worst;
};
// Arms may share items, so their numbers do not add up: the arm that covers most.
const widest = (now) => {
  let most = null;
  for (const [{ version, bundle }] of now.get("mtaw_bundle_info") ?? []) {
    const covered = total(now, "mtaw_covered_items", { version }), items = total(now, "mtaw_catalog_items", { version });
    if (items && (!most || covered / items > most.share)) most = { bundle, covered, items, share: covered / items };
  }
  return most;
};
// What a bundle knows ends with its last clicks; without times, with its training.
const known = (now, version) => total(now, "mtaw_last_click_seconds", { version }) || total(now, "mtaw_bundle_trained_seconds", { version });
const oldest = (now) => Math.min(...(now.get("mtaw_bundle_info") ?? []).map(([{ version }]) => known(now, version)).filter((value) => value > 0));

const TILES = [
  { title: "Rankings a second", value: (now, then, seconds) => (then ? added("mtaw_answers_total")(now, then) / seconds : null),
    text: number, note: (now) => `${number(total(now, "mtaw_answers_total"))} since the start` },
  { title: "Without a known click", value: share(added("mtaw_fallback_answers_total"), added("mtaw_answers_total")), text: percent,
    note: () => "answered by popularity", alarm: (value) => value > 0.5 },
  { title: "Unknown clicks", value: share(added("mtaw_unknown_clicks_total"), added("mtaw_clicks_total")), text: percent,
    note: () => "not in the catalog", alarm: (value) => value > 0.2 },
  { title: "Freshness lag", value: (now) => (learns(now) ? most(now, "mtaw_learning_lag_seconds") : null),
    text: duration, note: (now) => (learns(now) ? `${number(most(now, "mtaw_learning_lag_events"))} events wait` : "no event to learn yet"), alarm: (value, now) => value > 60 || most(now, "mtaw_learning_stopped") > 0 || most(now, "mtaw_clock_jump_seconds") > 0 },
  { title: "Clicked items", value: share(added("mtaw_feedback_items_total", { what: "clicked" }), added("mtaw_feedback_items_total", { what: "shown" })),
    text: percent, note: () => "of the items shown; /experiment counts rankings" },
  { title: "P@20 of live clicks", value: share(added("mtaw_hit_clicks_total"), added("mtaw_scored_clicks_total")), text: percent,
    note: (now) => `${number(total(now, "mtaw_scored_clicks_total"))} clicks scored` },
  { title: "New items shown", value: share(added("mtaw_new_ranked_items_total"), added("mtaw_ranked_items_total")), text: percent,
    note: () => "unknown to the training" },
  { title: "Coverage", value: (now) => widest(now)?.share ?? null, text: percent,
    note: (now) => (widest(now) ? `${number(widest(now).covered)} of ${number(widest(now).items)} items in 24 h, by ${widest(now).bundle}` : "no list yet") },
  { title: "Largest drift", value: (now) => worstDrift(now)?.value ?? null, text: (value) => value.toFixed(3),
    note: (now) => (worstDrift(now) ? `of ${worstDrift(now).feature}` : "too few clicks yet"), alarm: (_, now) => (worstDrift(now)?.ratio ?? 0) > 1 },
  { title: "Age of the learned clicks", value: (now) => (Number.isFinite(oldest(now)) ? Date.now() / 1000 - oldest(now) : null), text: duration,
    note: () => "learned; without times, of the training", alarm: (value) => value > 86400 },
];

function made(kind, text, ...children) {
  const element = document.createElement(kind);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function spark(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const known = values.filter((value) => value !== null);
  if (known.length > 1) {
    const low = Math.min(...known), high = Math.max(...known), line = document.createElementNS(svg.namespaceURI, "polyline");
    const points = known.map((value, at) => `${(100 * at) / (known.length - 1)},${high > low ? 28 - (26 * (value - low)) / (high - low) : 15}`);
    line.setAttribute("points", points.join(" "));
    svg.append(line);
  }
  return svg;
}

function drawTiles(now, then, seconds) {
  find("tiles").replaceChildren(...TILES.map((tile) => {
    const value = tile.value(now, then, seconds), values = lines.get(tile.title) ?? [];
    values.push(value);
    lines.set(tile.title, values.slice(-KEPT));
    const element = made("div", "", made("h3", tile.title), made("strong", value === null ? "–" : tile.text(value)),
                         made("p", tile.note?.(now) ?? ""), spark(values));
    const alarm = value !== null && (tile.alarm?.(value, now) ?? false);
    element.className = alarm ? "tile alarm" : "tile";
    return element;
  }));
}

function row(body, alarm, ...cells) {
  const line = body.insertRow();
  if (alarm) line.className = "alarm";
  for (const [index, content] of cells.entries()) {
    const cell = line.insertCell();
    if (index) cell.className = "number";
    cell.append(content);
  }
  return line;
}

function drawArms(now) {
  const body = find("arms").tBodies[0];
  body.replaceChildren();
  for (const [{ version, bundle }] of now.get("mtaw_bundle_info") ?? []) {
    const of = (name, more) => total(now, name, { version, ...more });
    const part = (over, under) => (under > 0 ? percent(over / under) : "–");
    const until = known(now, version);
    row(body, false, made("span", "", `${bundle} `, made("small", version)), number(of("mtaw_bundle_answers_total")),
        part(of("mtaw_feedback_items_total", { what: "clicked" }), of("mtaw_feedback_items_total", { what: "shown" })),
        number(of("mtaw_feedback_items_total", { what: "bought" })), number(of("mtaw_feedback_value_total")),
        part(of("mtaw_hit_clicks_total"), of("mtaw_scored_clicks_total")), part(of("mtaw_new_ranked_items_total"), of("mtaw_ranked_items_total")),
        part(of("mtaw_covered_items"), of("mtaw_catalog_items")), until ? duration(Date.now() / 1000 - until) : "–");
  }
}

function drawDrift(now) {
  const body = find("drift").tBodies[0];
  body.replaceChildren();
  for (const [{ feature }, level] of now.get("mtaw_drift_threshold") ?? []) {
    const value = total(now, "mtaw_drift", { feature }), clicks = total(now, "mtaw_drift_clicks", { feature });
    const line = row(body, value > level, feature, value ? value.toFixed(3) : "–", level.toFixed(3), "", number(clicks));
    const bar = made("i");
    bar.style.width = `${Math.min(100, (100 * value) / (2 * level))}%`;
    line.cells[3].className = "bar";
    line.cells[3].append(bar);
  }
}

async function look() {
  try {
    const answer = await fetch("metrics");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const now = parsed(await answer.text()), at = Date.now();
    history.push([at, now]);
    while (history.length > KEPT) history.shift();
    const before = history.length > 1 ? history.find(([moment]) => at - moment <= WINDOW) : null;
    drawTiles(now, before && before[1] !== now ? before[1] : null, before ? (at - before[0]) / 1000 : 0);
    drawArms(now);
    drawDrift(now);
    find("notice").textContent = "";
    find("since").textContent = `rates of the last ${duration(Math.min(WINDOW, at - history[0][0]) / 1000)}, looked at every ${EVERY / 1000} s`;
    document.body.dataset.looks = Number(document.body.dataset.looks ?? 0) + 1;
  } catch (error) {
    find("notice").textContent = `The service does not answer (${error.message}); trying again.`;
  }
}

look();
setInterval(look, EVERY);
