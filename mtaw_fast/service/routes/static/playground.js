"use strict";

const STAGES = ["queue", "lookup", "encode", "retrieve", "memory", "assemble", "total"];
const FOUND = 12; // most items that a search shows
const TITLES = ["title", "name"], IMAGES = ["image", "image_url"]; // columns of the item table, if they are public
const find = (id) => document.getElementById(id);
let idsAreNumbers = false;
let latestRanking = 0; // number of the latest request: answers to earlier ones are dropped
let latestSearch = 0;
let similarTo; // the item whose similar items are shown
let titleColumn, imageColumn;
let returnTo; // the element that gets the focus back

// Integer ids have 64 bits, more than a JavaScript number holds, so that they are read and written as text.
function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? BigInt(context.source)
      : value);
}

async function request(path, options) {
  const response = await fetch(path, options);
  const answer = parse(await response.text());
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

function sessionAsJson() {
  const lines = find("session").value.split("\n").map((line) => line.replace(/\r$/, "")).filter((line) => line.trim());
  if (!idsAreNumbers) return lines.map((line) => JSON.stringify(line));
  return lines.map((line) => {
    if (!/^\s*-?\d+\s*$/.test(line)) throw new Error(`the item ids of this bundle are integers, not "${line}"`);
    return BigInt(line.trim()).toString();
  });
}

function clickOn(item) {
  const box = find("session");
  box.value = `${box.value.replace(/\n*$/, "")}\n${item}`.replace(/^\n/, "");
  return rank();
}

// Tables

function cell(row, kind, text) {
  const made = row.insertCell();
  made.className = kind;
  made.textContent = text;
  return made;
}

// The cell of an item: its picture and title if they are known, and its id.
function itemCell(row, item, values) {
  const made = cell(row, "id", "");
  const picture = String(values?.[imageColumn] ?? "");
  if (/^https?:\/\//.test(picture)) {
    const image = made.appendChild(document.createElement("img"));
    image.src = picture;
    image.alt = "";
    image.loading = "lazy";
  }
  const title = values?.[titleColumn];
  if (title !== undefined) {
    const text = made.appendChild(document.createElement("span"));
    text.className = "title";
    text.textContent = String(title);
  }
  made.append(String(item));
}

const shownFields = () => [titleColumn, imageColumn].filter((name) => name !== undefined);

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

// A row with an item. Tab reaches one row of a table, the arrow keys the others.
function itemRow(body, item) {
  const row = body.insertRow();
  row.dataset.item = String(item);
  row.tabIndex = body.rows.length === 1 ? 0 : -1;
  row.title = "Enter: add to the session; S: similar items";
  row.onclick = () => clickOn(item);
  row.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = [...body.rows];
    const to = { ArrowDown: rows.indexOf(row) + 1, ArrowUp: rows.indexOf(row) - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to !== undefined) focusRow(rows, Math.min(rows.length - 1, Math.max(0, to)));
    else if (event.key === "Enter") clickOn(item).then(() => body.rows[0] && focusRow([...body.rows], 0));
    else if (event.key.toLowerCase() === "s") showSimilar(item, row);
    else return;
    event.preventDefault();
  };
  return row;
}

function focusRow(rows, index) {
  rows.forEach((row, at) => { row.tabIndex = at === index ? 0 : -1; });
  rows[index].focus();
}

function why(mark, reason, seen) {
  if (seen) {
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.textContent = "in session";
    mark.append(badge);
  } else if (reason?.kind === "together") {
    mark.textContent = `seen together with ${reason.items.join(", ")}`;
  } else if (reason) {
    mark.textContent = "like the session as a whole";
  }
}

function showResults(answer) {
  const body = emptied("results");
  const low = Math.min(...answer.scores), span = Math.max(...answer.scores) - low || 1;
  answer.items.forEach((item, index) => {
    const row = itemRow(body, item), score = answer.scores[index], seen = answer.repeats[index];
    row.classList.toggle("seen", seen);
    cell(row, "number", index + 1);
    itemCell(row, item, answer.fields?.[index]);
    cell(row, "number", answer.fallback ? score : score.toFixed(4));
    bar(row, 0.05 + 0.95 * (score - low) / span);
    why(cell(row, "why", ""), answer.reasons?.[index], seen);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.tabIndex = -1; // S on the row does the same
    button.textContent = "similar";
    button.onclick = (event) => { event.stopPropagation(); showSimilar(item, row); };
    cell(row, "", "").append(button);
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

// Requests

async function rank() {
  const question = ++latestRanking;
  const say = (text) => { if (question === latestRanking) find("notice").textContent = text; };
  try {
    const visitor = find("visitor").value ? `"session_id": ${JSON.stringify(find("visitor").value)}, ` : "";
    const body = `{"session": [${sessionAsJson()}], "k": ${find("k").valueAsNumber || 20}, ${visitor}` +
      `"exclude_seen": ${find("exclude-seen").checked}, "timings": true, "repeats": true, "reasons": true, ` +
      `"fields": ${JSON.stringify(shownFields())}}`;
    const answer = await request("v1/recommend", { method: "POST", body });
    if (question !== latestRanking) return;
    showResults(answer);
    if (answer.timings) showStages(answer.timings);
    const from = answer.bundle ? `By ${answer.bundle}. ` : "";
    const unknown = answer.unknown.length ? `Not in the catalog: ${answer.unknown.join(", ")}. ` : "";
    say(from + unknown + (answer.fallback ? "No known click: these are the most clicked items." : ""));
    document.body.dataset.answered = question;
  } catch (error) {
    say(error.message);
  }
}

async function showSimilar(item, from) {
  similarTo = item;
  returnTo = from ?? returnTo;
  const by = document.querySelector("input[name=by]:checked").value;
  find("similar").hidden = false;
  find("similar-to").textContent = `Similar to ${item}`;
  find("similar-notice").textContent = "";
  find("neighbors").hidden = true;
  if (from) find("similar").focus();
  try {
    const query = new URLSearchParams({ item: String(item), by, k: find("k").valueAsNumber || 20 });
    for (const name of shownFields()) query.append("fields", name);
    if (find("visitor").value) query.set("session_id", find("visitor").value);
    const answer = await request(`v1/similar?${query}`);
    if (item !== similarTo) return;
    const body = emptied("neighbors");
    answer.items.forEach((one, index) => {
      const row = itemRow(body, one);
      cell(row, "number", index + 1);
      itemCell(row, one, answer.fields?.[index]);
      cell(row, "number", answer.scores[index].toFixed(4));
      bar(row, Math.max(0, answer.scores[index]));
    });
    if (!answer.items.length) find("similar-notice").textContent = "No session of the memory contains it with another item.";
    document.body.dataset.similarTo = String(item);
  } catch (error) {
    if (item === similarTo) find("similar-notice").textContent = error.message;
  }
}

function closeSimilar() {
  if (find("similar").hidden) return;
  find("similar").hidden = true;
  (returnTo?.isConnected ? returnTo : find("session")).focus();
}

// The search: a WAI-ARIA combobox; the focus stays in the field.

function closeSearch() {
  find("found").hidden = true;
  find("search").setAttribute("aria-expanded", "false");
  find("search").removeAttribute("aria-activedescendant");
}

function choose(index) {
  const options = [...find("found").children];
  options.forEach((one, at) => one.setAttribute("aria-selected", at === index));
  if (options[index]) {
    find("search").setAttribute("aria-activedescendant", options[index].id);
    options[index].scrollIntoView({ block: "nearest" });
  }
}

async function search() {
  const question = ++latestSearch, text = find("search").value;
  if (!text) return closeSearch();
  try {
    const k = Math.min(FOUND, find("k").max || FOUND);
    const answer = await request(`v1/items?${new URLSearchParams({ search: text, k })}`);
    if (question !== latestSearch) return;
    find("found").replaceChildren(...answer.items.map((item, index) => {
      const option = document.createElement("li");
      option.id = `found-${index}`;
      option.setAttribute("role", "option");
      option.textContent = String(item);
      option.onmousedown = (event) => { event.preventDefault(); take(item); };
      return option;
    }));
    find("found").hidden = !answer.items.length;
    find("search").setAttribute("aria-expanded", String(answer.items.length > 0));
    find("notice").textContent = answer.items.length ? "" : `No item id contains "${text}".`;
    choose(0);
  } catch (error) {
    if (question === latestSearch) find("notice").textContent = error.message;
  }
}

function take(item) {
  latestSearch++;
  find("search").value = "";
  closeSearch();
  clickOn(item);
}

function searchKey(event) {
  const options = [...find("found").children], open = !find("found").hidden;
  const at = options.findIndex((one) => one.getAttribute("aria-selected") === "true");
  if (event.key === "Enter" && !(event.ctrlKey || event.metaKey)) {
    if (open && at >= 0) take(options[at].textContent);
  } else if (event.key === "ArrowDown" && open) choose((at + 1) % options.length);
  else if (event.key === "ArrowUp" && open) choose((at + options.length - 1) % options.length);
  else if (event.key === "Escape" && open) { closeSearch(); event.stopPropagation(); }
  else return;
  event.preventDefault();
}

function anyKey(event) {
  const typing = event.target.matches("textarea, input[type=text], input[type=number]");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) rank();
  else if (event.key === "Escape") closeSimilar();
  else if (event.key === "/" && !typing) find("search").focus();
  else return;
  event.preventDefault();
}

async function start() {
  const bundle = await request("v1/bundle");
  idsAreNumbers = bundle.ids === "int";
  titleColumn = TITLES.find((name) => bundle.fields?.includes(name));
  imageColumn = IMAGES.find((name) => bundle.fields?.includes(name));
  find("k").max = bundle.limits.k;
  find("visitor-label").hidden = !bundle.bundles;
  const served = bundle.bundles
    ? bundle.bundles.map((one) => `${one.name} ${Math.round(100 * one.share)}% (${one.version})`).join(" · ")
    : `bundle ${bundle.version}`;
  find("bundle").textContent =
    `${bundle.items.toLocaleString("en")} items · ${bundle.encoder} encoder · ${bundle.index} index · ${served}`;
  // #sku-9,sku-4 in the address ranks at once.
  if (location.hash.length > 1) {
    find("session").value = location.hash.slice(1).split(",").map(decodeURIComponent).join("\n");
    rank();
  }
}

find("ask").addEventListener("submit", (event) => { event.preventDefault(); rank(); });
find("search").addEventListener("input", search);
find("search").addEventListener("keydown", searchKey);
find("search").addEventListener("blur", closeSearch);
find("close-similar").addEventListener("click", closeSimilar);
for (const choice of document.querySelectorAll("input[name=by]")) choice.addEventListener("change", () => showSimilar(similarTo));
document.addEventListener("keydown", anyKey);
start().catch((error) => { find("notice").textContent = error.message; });
