"use strict";

// The result of the experiment that the service's feedback log holds: /admin/experiment, drawn.

const find = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const UNITS = { "click-through": "clicked rankings of 100", buyers: "buying sessions of 100", value: "value a session" };

function made(kind, text, ...children) {
  const element = document.createElement(kind);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function drawn(kind, attributes, text) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

const figure = (value) => (value === null ? "–" : value.toFixed(Math.abs(value) < 10 ? 3 : 2));
const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : "") + figure(value));
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)}%`);
const whole = (value) => Math.round(value).toLocaleString("en");

function row(body, texts, decided = false) {
  const line = body.insertRow();
  if (decided) line.className = "decided";
  for (const [index, text] of texts.entries()) {
    const cell = line.insertCell();
    if (typeof text === "object") {
      cell.className = "number";
      cell.textContent = text.number;
    } else cell.textContent = text;
    if (!index) cell.style.whiteSpace = "nowrap";
  }
}

// The differences of each day as lines with bands. Days without an interval are left out.
function chart(result) {
  const [width, height, left, bottom, top] = [Math.max(300, find("chart").clientWidth), 260, 52, 26, 10];
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "difference by day" });
  const arms = result.arms.slice(1).map((arm) => arm.name);
  const days = result.days.filter((day) => day.differences.some((one) => one.interval));
  if (!days.length) return made("p", "There are too few sessions for an interval yet.");
  const all = days.flatMap((day) => day.differences.flatMap((one) => one.interval ?? []));
  // The first days have wide intervals: the scale is that of the later half.
  const late = days.slice(Math.floor(days.length / 2)).flatMap((day) => day.differences.flatMap((one) => one.interval ?? []));
  const reach = Math.max(...late.map(Math.abs), 1e-9) * 1.6;
  const low = Math.max(Math.min(...all, 0), -reach), high = Math.min(Math.max(...all, 0), reach);
  const x = (at) => left + (width - left - 12) * (days.length > 1 ? at / (days.length - 1) : 0.5);
  const y = (value) => top + (height - top - bottom) * (1 - (Math.min(high, Math.max(low, value)) - low) / (high - low || 1));
  for (const value of [...new Set([low, 0, high])]) {
    svg.append(drawn("line", { class: "axis", x1: left, x2: width - 12, y1: y(value), y2: y(value) }));
    svg.append(drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, signed(value)));
  }
  for (const at of [...new Set([0, Math.floor((days.length - 1) / 2), days.length - 1])])
    svg.append(drawn("text", { x: x(at), y: height - 6, "text-anchor": at ? (at === days.length - 1 ? "end" : "middle") : "start" }, days[at].day));
  for (const [index, name] of arms.entries()) {
    const known = days.map((day, at) => [at, day.differences.find((one) => one.of === name)]).filter(([, one]) => one?.interval);
    const upper = known.map(([at, one]) => `${x(at)},${y(one.interval[1])}`), lower = known.map(([at, one]) => `${x(at)},${y(one.interval[0])}`);
    svg.append(drawn("polygon", { class: `band arm${index}`, points: [...upper, ...lower.reverse()].join(" ") }));
    svg.append(drawn("polyline", { class: `line arm${index}`, points: known.map(([at, one]) => `${x(at)},${y(one.difference)}`).join(" ") }));
    svg.append(drawn("text", { x: width - 14, y: top + 12 + 14 * index, "text-anchor": "end", class: `arm${index}`, "stroke-width": 0 }, name));
  }
  svg.append(drawn("line", { class: "zero", x1: left, x2: width - 12, y1: y(0), y2: y(0) }));
  return svg;
}

let drawnResult = null;

function drawChart() {
  if (drawnResult) find("chart").replaceChildren(chart(drawnResult));
}

function show(result) {
  const { metric } = result.question;
  find("result").hidden = false;  // the chart needs its width
  find("verdict").textContent = result.verdict;
  find("verdict").className = result.shares.ok ? "" : "broken";
  find("chart-title").textContent = `Difference in ${UNITS[metric]}, to ${result.arms[0].name}`;
  drawnResult = result;
  drawChart();
  const metrics = Object.keys(UNITS), head = find("arms").tHead, body = find("arms").tBodies[0];
  head.replaceChildren(made("tr", "", made("th", "arm"), ...["sessions", "share", "rankings", "clicked", "carted", "bought", ...metrics].map((name) => {
    const cell = made("th", name);
    cell.className = "number";
    return cell;
  })));
  body.replaceChildren();
  for (const arm of result.arms) {
    const estimates = metrics.map((name) => arm.metrics[name]).map(({ estimate, interval }) =>
      ({ number: figure(estimate) + (interval ? ` [${figure(interval[0])}, ${figure(interval[1])}]` : "") }));
    row(body, [arm.name, { number: whole(arm.sessions) }, { number: percent(result.shares.observed[arm.name]) }, { number: whole(arm.counted) },
               { number: whole(arm.clicked) }, { number: whole(arm.carted) }, { number: whole(arm.bought) }, ...estimates]);
  }
  const differences = find("differences").tBodies[0];
  differences.replaceChildren();
  for (const one of result.differences)
    row(differences, [`${one.metric}`, `${one.of} – ${one.against}`, { number: signed(one.difference) }, { number: percent(one.relative) },
                      { number: one.interval ? `${signed(one.interval[0])} to ${signed(one.interval[1])}` : "too early" },
                      one.decided ? "excludes zero" : ""], one.decided);
  find("split").className = result.shares.ok ? "" : "broken";
  find("split").textContent = result.split;
  find("power").textContent = result.power;
  find("notes").replaceChildren(...result.notes.map((text) => made("li", text)));
  document.body.dataset.shown = Number(document.body.dataset.shown ?? 0) + 1;
}

async function ask(event) {
  event?.preventDefault();
  const values = { metric: find("metric").value, planned: find("planned").value, effect: `${find("effect").value}%`, since: find("since").value.trim(),
                   control: find("control").value.trim(), placement: find("placement").value.trim(), arms: find("arms-are").value };
  const token = find("token").value.trim();
  sessionStorage.setItem("mtaw-token", token);
  find("notice").textContent = "Reading the log ..";
  try {
    const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
    const answer = await fetch(`admin/experiment?${query}`, { headers: { Authorization: `Bearer ${token}` } });
    const body = await answer.json();
    if (answer.status === 404) throw new Error("this service keeps no feedback; start it with --feedback");
    if (!answer.ok) throw new Error(body.error.message);
    find("notice").textContent = "";
    show(body);
  } catch (error) {
    find("notice").textContent = error.message;
    find("result").hidden = true;
  }
}

find("token").value = sessionStorage.getItem("mtaw-token") ?? "";
find("ask").addEventListener("submit", ask);
addEventListener("resize", drawChart);
document.body.dataset.ready = "yes";
if (find("token").value) ask();
