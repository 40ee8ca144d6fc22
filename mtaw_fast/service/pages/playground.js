"use strict";

const STAGES = ["queue", "lookup", "encode", "retrieve", "memory", "assemble", "total"];
const find = (id) => document.getElementById(id);
let idsAreNumbers = false;
let newest = 0; // of several answers under way the one to the latest question is shown

// Integer ids have 64 bits, more than a JavaScript number holds: they are read and written as text.
function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? BigInt(context.source)
      : value);
}

function sessionAsJson() {
  const lines = find("session").value.split("\n").map((line) => line.replace(/\r$/, "")).filter((line) => line.trim());
  if (!idsAreNumbers) return lines.map((line) => JSON.stringify(line));
  return lines.map((line) => {
    if (!/^\s*-?\d+\s*$/.test(line)) throw new Error(`the item ids of this bundle are integers, "${line}" is none`);
    return BigInt(line.trim()).toString();
  });
}

function cell(row, kind, text) {
  const made = row.insertCell();
  made.className = kind;
  made.textContent = text;
  return made;
}

function bar(row, share) {
  const fill = document.createElement("i");
  fill.style.width = `${Math.max(1, 100 * share)}%`;
  cell(row, "bar", "").append(fill);
}

function emptied(id) {
  const body = find(id).tBodies[0];
  body.replaceChildren();
  find(id).hidden = false;
  return body;
}

function showResults(answer) {
  const body = emptied("results");
  const low = Math.min(...answer.scores), span = Math.max(...answer.scores) - low || 1;
  answer.items.forEach((item, place) => {
    const row = body.insertRow(), score = answer.scores[place], seen = answer.repeats[place];
    row.classList.toggle("seen", seen);
    row.title = "make it the next click";
    cell(row, "number", place + 1);
    cell(row, "id", String(item));
    cell(row, "number", answer.fallback ? score : score.toFixed(4));
    bar(row, 0.05 + 0.95 * (score - low) / span);
    const mark = cell(row, "", "");
    if (seen) {
      const badge = document.createElement("span");
      badge.className = "badge";
      badge.textContent = "in session";
      mark.append(badge);
    }
    row.onclick = () => {
      const box = find("session");
      box.value = `${box.value.replace(/\n*$/, "")}\n${item}`.replace(/^\n/, "");
      rank();
    };
  });
}

function showStages(timings) {
  const body = emptied("stages");
  for (const stage of STAGES.filter((one) => one in timings)) {
    const row = body.insertRow();
    cell(row, "", stage);
    bar(row, timings[stage] / (timings.total + timings.queue || 1));
    cell(row, "number", `${timings[stage].toFixed(1)} µs`);
  }
  body.lastChild.style.fontWeight = 600;
}

async function rank() {
  const question = ++newest;
  const say = (text) => { if (question === newest) find("notice").textContent = text; };
  try {
    const body = `{"session": [${sessionAsJson()}], "k": ${find("k").valueAsNumber || 20}, ` +
      `"exclude_seen": ${find("exclude-seen").checked}, "timings": true, "repeats": true}`;
    const response = await fetch("v1/recommend", { method: "POST", body });
    const answer = parse(await response.text());
    if (!response.ok) throw new Error(answer.error.message);
    if (question !== newest) return;
    showResults(answer);
    if (answer.timings) showStages(answer.timings);
    const unknown = answer.unknown.length ? `Not in the catalog: ${answer.unknown.join(", ")}. ` : "";
    say(unknown + (answer.fallback ? "No known click: these are the most popular items, by clicks." : ""));
    document.body.dataset.answered = question;
  } catch (error) {
    say(error.message);
  }
}

async function start() {
  const bundle = parse(await (await fetch("v1/bundle")).text());
  idsAreNumbers = bundle.ids === "int";
  find("k").max = bundle.limits.k;
  find("bundle").textContent =
    `${bundle.items.toLocaleString("en")} items · ${bundle.encoder} encoder · ${bundle.index} index · bundle ${bundle.version}`;
  // #sku-9,sku-4 in the address asks at once.
  if (location.hash.length > 1) {
    find("session").value = location.hash.slice(1).split(",").map(decodeURIComponent).join("\n");
    rank();
  }
}

find("ask").addEventListener("submit", (event) => { event.preventDefault(); rank(); });
find("session").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) rank();
});
start().catch((error) => { find("notice").textContent = error.message; });
