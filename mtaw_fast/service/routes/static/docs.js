"use strict";

// The routes in /openapi.json, each with a form to send a request.

const find = (id) => document.getElementById(id);
const JSON_TYPE = "application/json";
let schemas = {};

function made(kind, text, ...children) {
  const element = document.createElement(kind);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

const named = (schema) => schema.$ref?.split("/").pop();
const resolved = (schema) => schemas[named(schema)] ?? schema;

function typeOf(schema) {
  const name = named(schema);
  if (name) return name;
  if (schema.oneOf || schema.anyOf) return (schema.oneOf ?? schema.anyOf).map(typeOf).join(" | ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${typeOf(schema.items ?? {})}]`;
  if (schema.additionalProperties && schema.type === "object") return `{..: ${typeOf(schema.additionalProperties)}}`;
  return [schema.type ?? "any"].flat().join(" | ");
}

function boundsOf(schema) {
  const signs = { minimum: "≥", maximum: "≤", minLength: "characters ≥", maxLength: "characters ≤", minItems: "entries ≥",
                 maxItems: "entries ≤" };
  const found = Object.entries(signs).filter(([name]) => name in schema).map(([name, sign]) => `${sign} ${schema[name]}`);
  if ("default" in schema && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found.join(", ");
}

function table(rows) {
  const element = made("table"), body = element.createTBody();
  for (const [name, schema, needed, description] of rows) {
    const row = body.insertRow();
    row.insertCell().append(made("code", name));
    row.insertCell().append(made("code", typeOf(schema)));
    const cell = row.insertCell();
    if (needed) {
      const mark = made("span", "required ");
      mark.className = "needed";
      cell.append(mark);
    }
    cell.append([description ?? schema.description, boundsOf(schema)].filter(Boolean).join(" · "));
  }
  return element;
}

// The fields of a schema, followed by those of the schemas that it refers to.
function fields(schema, into, done = new Set()) {
  const name = named(schema), whole = resolved(schema);
  if (!whole.properties || done.has(name)) return;
  done.add(name);
  const needed = new Set(whole.required ?? []);
  into.append(made("h3", name + (whole.description ? `: ${whole.description}` : "")));
  into.append(table(Object.entries(whole.properties).map(([one, its]) => [one, its, needed.has(one)])));
  const inner = (part) => {
    if (part.$ref) fields(part, into, done);
    for (const more of [part.items, ...(part.oneOf ?? []), ...(part.anyOf ?? [])].filter(Boolean)) inner(more);
  };
  Object.values(whole.properties).forEach(inner);
}

const exampleIn = (content) => Object.values(content?.[JSON_TYPE]?.examples ?? {})[0]?.value;
const shown = (value) => JSON.stringify(value, null, 1).replace(/\n\s*/g, " ").replace(/(.{100}[^,]*,) /g, "$1\n ");

function tryIt(method, path, route) {
  const form = made("form");
  form.className = "try";
  const inputs = (route.parameters ?? []).map((parameter) => {
    const input = made("input");
    input.type = "text";
    input.dataset.name = parameter.name;
    input.required = parameter.required;
    form.append(made("label", "", made("code", parameter.name), input));
    return [parameter, input];
  });
  let body;
  if (route.requestBody) {
    body = made("textarea");
    body.rows = 4;
    body.setAttribute("aria-label", "the body");
    body.value = shown(exampleIn(route.requestBody.content) ?? {});
    form.append(body);
  }
  const answer = made("pre");
  answer.hidden = true;
  answer.tabIndex = 0;
  form.append(made("button", "Send"), answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    let target = path.slice(1);
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.append(parameter.name, input.value);
    }
    const headers = {};
    if (body) headers["content-type"] = JSON_TYPE;
    if (route.security) headers.authorization = `Bearer ${find("token").value}`;
    try {
      const response = await fetch(target + (query.size ? `?${query}` : ""), { method, headers, body: body?.value });
      answer.textContent = `${response.status}\n${await response.text()}`;
    } catch (error) {
      answer.textContent = error.message;
    }
    answer.hidden = false;
  });
  return form;
}

function routeOf(method, path, route) {
  const element = made("details");
  element.id = route.operationId;
  const badge = made("span", method.toUpperCase());
  badge.className = "method";
  element.append(made("summary", "", badge, made("code", path), made("span", route.description ?? route.summary)));
  if (route.parameters?.length) {
    element.append(made("h3", "Parameters"));
    element.append(table(route.parameters.map((one) => [one.name, one.schema, one.required, one.description])));
  }
  if (route.requestBody) fields(route.requestBody.content[JSON_TYPE].schema, element);
  for (const [status, response] of Object.entries(route.responses)) {
    element.append(made("h3", `${status}: ${status === "200" ? "the answer" : response.description}`));
    const example = exampleIn(response.content);
    if (example !== undefined) element.append(made("pre", shown(example)));
    if (status === "200" && response.content?.[JSON_TYPE]) fields(response.content[JSON_TYPE].schema, element);
  }
  element.append(made("h3", "Try it"), tryIt(method.toUpperCase(), path, route));
  return element;
}

async function start() {
  const text = await (await fetch("openapi.json")).text();
  // Bounds of 64 bits stay text.
  const document_ = JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") ? context.source : value);
  schemas = document_.components.schemas;
  find("about").textContent = `${document_.info.version} · ${document_.info.description}`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const group = route.tags?.[0] ?? "other";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(routeOf(method, path, route));
      if (route.security) find("token-line").hidden = false;
    }
  }
  for (const [group, routes] of groups) find("routes").append(made("h2", group), ...routes);
  const wanted = location.hash.length > 1 && find(location.hash.slice(1));
  if (wanted?.tagName === "DETAILS") {
    wanted.open = true;
    wanted.scrollIntoView();
  }
  document.body.dataset.routes = groups.size;
}

find("token-line").addEventListener("submit", (event) => event.preventDefault());
start().catch((error) => { find("notice").textContent = error.message; });
