"use strict";
// Data from peers is shown as text only: this script never parses text as HTML.

const REFRESH = 2000;
const LONGEST = 900, SHORTEST = 120; // seconds of the graph
const NOT_READY = 30; // seconds of lag
const DASHES = ["", "7 4", "2 4", "12 4 2 4", "4 2", "1 3", "14 5", "6 2 2 2"];
const byId = (id) => document.getElementById(id);
// The marks and severities of states, from zc.zrs.status.states.
const STATES = JSON.parse(document.querySelector("meta[name=states]").content);
const SVG = "http://www.w3.org/2000/svg";
const chosen = new URLSearchParams(location.search).get("storage");
const query = (name) => name === null ? "" : `?storage=${encodeURIComponent(name)}`;
let last = null;

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function drawn(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const number = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en");

function bytes(value) {
  if (value === undefined || value === null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${at && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (seconds < 0.05) return "0 s";
  if (seconds < 10) return `${seconds.toFixed(seconds % 1 ? 1 : 0)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function shortPeer(peer) {
  const found = /^IPv([46])Address\(\w+, '([^']*)', (\d+)\)$/.exec(peer);
  if (found) return found[1] === "6" ? `[${found[2]}]:${found[3]}` : `${found[2]}:${found[3]}`;
  return peer.replace(/^\('([^']*)', (\d+)\)$/, "$1:$2");
}

function address(value) {
  if (!Array.isArray(value)) return value;
  if (!Array.isArray(value[0])) return `${value[0] || "all interfaces"}:${value[1]}`;
  return value.map(address).join(", ");
}

function state(name) {
  const [mark, kind] = STATES[name] || ["?", "warn"];
  return element("p", `state ${kind}`, `${mark} ${name}`);
}

// Paths of files are long; the heading shows the full path.
const fileName = (path) => path.slice(path.lastIndexOf("/") + 1) || path;

function node(className, what, who, stateName, facts) {
  const made = element("div", `node ${className}`, element("p", "what", what));
  const row = element("div", "row", element("p", "who", who));
  if (stateName) row.append(state(stateName));
  made.append(row);
  if (facts) made.append(element("p", "facts", facts));
  return made;
}

function arrow(broken) {
  const picture = drawn("svg", { viewBox: "0 0 64 16", "aria-hidden": "true", preserveAspectRatio: "xMaxYMid slice" });
  picture.append(
    drawn("path", { d: "M2 8H60", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": broken ? "4 5" : "none" }),
    drawn("path", { d: "M54 2L61 8L54 14", stroke: "currentColor", "stroke-width": 2, fill: "none" }),
  );
  if (broken) picture.append(drawn("path", { d: "M36 2L48 14M48 2L36 14", stroke: "currentColor", "stroke-width": 2.5 }));
  return element("div", broken ? "arrow broken" : "arrow", picture);
}

function peerFacts(peer) {
  const lacks = peer.lag_transactions;
  const facts = [`lag ${span(peer.lag_seconds)}`];
  if (lacks) facts.push(`${number(lacks)} transaction${lacks === 1 ? "" : "s"} to send`);
  else if (peer.lag_bytes) facts.push(`${bytes(peer.lag_bytes)} to send`);
  if (peer.bytes !== undefined) facts.push(`${bytes(peer.bytes)} sent`);
  if (peer.tls) facts.push("TLS");
  return facts.join(" · ");
}

function peers(serving) {
  const group = element("div", "group");
  for (const peer of serving.peers.slice(0, 12)) {
    const facts = peer.lag_seconds === undefined ? "" : peerFacts(peer);
    const address = shortPeer(peer.peer);
    const [who, where] = peer.name ? [peer.label, ` · ${address}`] : [address, ""];
    group.append(node("", "secondary", who, peer.state, facts + where));
  }
  const more = serving.peers.length - 12;
  if (more > 0) group.append(node("none", "", `and ${more} more`));
  if (!serving.peers.length) group.append(node("none", "secondaries", "no secondaries connected"));
  return group;
}

function topology(status) {
  const parts = [];
  const serving = status.role === "primary" ? status : status.primary;
  if (status.role === "secondary") {
    const where = status.peer ? shortPeer(status.peer) : address(status.address) || "no address yet";
    const silent = status.state === "silent";
    const quiet = status.state === "quiet";
    const how = silent ? "connected, but no data received" : quiet ? "connected, no data received yet" : status.connected ? "connected" : "not connected";
    parts.push(node("", "primary", where, null, how + (status.connected && status.tls ? ", TLS" : "")));
    parts.push(arrow(silent || !status.connected));
    const lacks = status.lag_transactions;
    const facts = [`lag ${status.lag_seconds === null ? "unknown" : (status.lag_seconds ? "up to " : "") + span(status.lag_seconds)}`];
    if (lacks) facts.push(`${number(lacks)} transaction${lacks === 1 ? "" : "s"} to receive`);
    if (serving) facts.push(`listens on ${address(serving.address)}`);
    parts.push(node("here", serving ? "this cascading secondary" : "this secondary", fileName(status.name), status.state, facts.join(" · ")));
  } else {
    parts.push(node("here", "this primary", fileName(status.name), status.state, `listens on ${address(status.address)}`));
  }
  if (serving) parts.push(arrow(false), peers(serving));
  byId("topology").replaceChildren(...parts);
}

function niceTop(value) {
  for (const top of [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 10800, 43200, 86400]) {
    if (value <= top) return top;
  }
  return Math.ceil(value / 86400) * 86400;
}

function series(samples, role) {
  const found = new Map();
  const add = (name, at, lag) => {
    if (!found.has(name)) found.set(name, []);
    found.get(name).push([at, lag]);
  };
  for (const [at, lag, , lags] of samples) {
    if (role === "secondary") add("this secondary", at, lag);
    for (const [name, peerLag] of Object.entries(lags)) add(name, at, peerLag);
  }
  return [...found].slice(0, DASHES.length);
}

function path(points, x, y) {
  // Gaps mean that the lag is unknown, or that no secondary was connected.
  let text = "", before = null;
  for (const [at, lag] of points) {
    if (lag === null) { before = null; continue; }
    text += `${before === null || at - before > 5 ? "M" : "L"}${x(at).toFixed(1)} ${y(lag).toFixed(1)}`;
    before = at;
  }
  return text;
}

function graph(samples, role, now) {
  const box = byId("graph");
  const width = box.clientWidth, height = box.clientHeight;
  const left = 50, right = 12, top = 14, bottom = 24;
  const length = samples.length ? Math.min(LONGEST, Math.max(SHORTEST, now - samples[0][0])) : SHORTEST;
  const begin = now - length;
  const shown = samples.filter(([at]) => at >= begin);
  const lines = series(shown, role);
  const highest = Math.max(0, ...lines.flatMap(([, points]) => points.map(([, lag]) => lag || 0)));
  const most = niceTop(highest * 1.05);
  const x = (at) => left + (width - left - right) * Math.max(0, (at - begin) / length);
  const y = (lag) => height - bottom - (height - top - bottom) * lag / most;
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  picture.append(drawn("title", {}, `Lag over the last ${span(length)}, at most ${span(highest)}`));
  for (const part of [0, 0.5, 1]) {
    const at = y(most * part);
    picture.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }));
    picture.append(drawn("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, span(most * part)));
  }
  const step = [30, 60, 120, 180, 300].find((one) => length / one < (width - left) / 80) || 300;
  for (let ago = step; ago <= length; ago += step) {
    const label = length <= 120 ? `−${ago} s` : `−${ago / 60} min`;
    if (x(now - ago) > left + 20) picture.append(drawn("text", { x: x(now - ago), y: height - 6, "text-anchor": "middle" }, label));
  }
  picture.append(drawn("text", { x: width - right, y: height - 6, "text-anchor": "end" }, "now"));
  if (role === "secondary" && NOT_READY < most) {
    picture.append(drawn("line", { class: "limit", x1: left, x2: width - right, y1: y(NOT_READY), y2: y(NOT_READY) }));
    picture.append(drawn("text", { x: left + 6, y: y(NOT_READY) - 5 }, `not ready above ${NOT_READY} s`));
  }
  lines.forEach(([, points], at) => {
    const d = path(points, x, y);
    picture.append(drawn("path", { class: "trace", d, "stroke-dasharray": DASHES[at] || "none" }));
    const [when, lag] = points[points.length - 1];
    if (lag === null || now - when > 5) return;
    picture.append(drawn("circle", { class: "dot", cx: x(when), cy: y(lag), r: 3.5 }));
  });
  if (!lines.length) {
    picture.append(drawn("text", { x: (left + width) / 2, y: height / 2 - 8, "text-anchor": "middle" }, "no secondaries connected"));
  }
  const lags = lines.map(([, points]) => points[points.length - 1]).filter(([at, lag]) => lag !== null && now - at <= 5).map(([, lag]) => lag);
  const figure = lags.length ? [`${span(Math.max(...lags))} `, element("small", "", `now, at most ${span(highest)} in ${span(length)}`)] : [];
  byId("lag").replaceChildren(...figure);
  box.replaceChildren(picture);
  byId("legend").replaceChildren(...lines.map(([name], at) => {
    const key = drawn("svg", { width: 30, height: 10, "aria-hidden": "true" });
    key.append(drawn("path", { class: "trace", d: "M0 5H30", "stroke-dasharray": DASHES[at] || "none" }));
    return element("li", "", key, name);
  }));
}

function content(status) {
  const blobs = status.blob_files;
  const small = blobs ? `${number(blobs.files)} blobs, ${bytes(blobs.bytes)}, at ${clock(blobs.time)}` : "";
  return ["Data.fs", bytes(status.file_bytes), small];
}

function counters(status) {
  const received = status.role === "secondary";
  const rows = [
    [received ? "Transactions applied" : "Transactions sent", number(status.transactions), `${number(status.transactions_per_second)} per second`],
    [received ? "Bytes received" : "Bytes sent", bytes(status.bytes), `${bytes(status.bytes_per_second)} per second`],
    ["Last transaction", status.tid_time === null ? "–" : `${span(Math.max(0, status.time - status.tid_time))} ago`, status.tid || ""],
    ["Started", status.started ? clock(status.started) : "–", status.started ? `${new Date(status.started * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" })}, ${span(status.time - status.started)} ago` : ""],
  ];
  if (status.file_bytes !== undefined) rows.push(content(status));
  const serving = received ? status.primary : status;
  if (serving && serving.commits !== undefined) rows.push(["Commits", number(serving.commits), ""]);
  if (received) {
    rows.push(["Reconnects", number(status.reconnects), `${number(status.failed_attempts)} failed attempts`]);
  } else {
    const refused = Object.values(status.connections_refused || {}).reduce((sum, count) => sum + count, 0);
    rows.push(["Connections", number(status.connections), `${number(status.connections_accepted)} taken, ${number(refused)} refused`]);
  }
  const kinds = Object.entries(status.errors_by_kind || {}).map(([kind, count]) => `${kind} ${count}`);
  rows.push(["Errors", number(status.errors), kinds.join(", ")]);
  byId("counters").replaceChildren(...rows.map(([name, value, small]) => {
    const shown = element("dd", "", value);
    if (small) shown.append(element("small", "", small));
    return element("div", "", element("dt", "", name), shown);
  }));
}

function events(found) {
  const items = found.slice(0, 30).map((event) => {
    const time = element("time", "", clock(event.time));
    time.dateTime = new Date(event.time * 1000).toISOString();
    const text = element("span", "text", (event.kind === "error" ? "⚠ " : "") + event.text);
    if (event.count > 1) text.append(element("small", "", ` ${event.count} times`));
    return element("li", event.kind === "error" ? "error" : "", time, text);
  });
  byId("events").replaceChildren(...(items.length ? items : [element("li", "", "", "no events yet")]));
}

const isBad = (status) => status.state === "diverged" || status.state === "stopped";

function verdict(status, kind, title) {
  const badge = byId("verdict");
  badge.className = `badge ${kind}`;
  badge.textContent = status.ready ? "✓ ready" : "! not ready";
  document.title = `${status.ready ? "" : "! "}${title}`;
  const reasons = byId("reasons");
  reasons.hidden = status.ready;
  reasons.className = `note ${kind}`;
  reasons.replaceChildren(...status.reasons.map((reason) => element("li", "", reason)));
}

const kindOf = (status) => status.ready ? "good" : isBad(status) ? "bad" : "warn";

function worstLag(status) {
  if (status.role === "secondary") return status.lag_seconds;
  const lags = (status.peers || []).map((peer) => peer.lag_seconds).filter((lag) => typeof lag === "number");
  return lags.length ? Math.max(...lags) : null;
}

function storage(name, status) {
  const link = element("a", "", name);
  link.href = `/${query(name)}`;
  const lag = worstLag(status);
  const facts = [status.role, ...(lag === null || lag === undefined ? [] : [`lag ${span(lag)}`]), ...status.reasons];
  return element("li", "", link, state(status.state), element("span", "facts", facts.join(" · ")));
}

function showAll(status) {
  const found = Object.entries(status.storages);
  byId("role").textContent = "storages";
  byId("name").textContent = `${found.length} storages`;
  byId("about").textContent = `zrs ${status.version} · ${clock(status.time)}`;
  const kind = status.ready ? "good" : found.some(([, one]) => isBad(one)) ? "bad" : "warn";
  verdict(status, kind, `${found.length} storages`);
  byId("storages").replaceChildren(...found.map(([name, one]) => storage(name, one)));
}

function show(answer) {
  const { status } = answer;
  byId("all").hidden = !status.storages;
  byId("one").hidden = Boolean(status.storages);
  if (status.storages) showAll(status);
  else showOne(answer);
}

function showOne(answer) {
  const { status } = answer;
  byId("role").textContent = status.role === "secondary" && status.primary ? "cascading secondary" : status.role;
  byId("name").textContent = chosen === null || chosen === status.name ? status.name : `${chosen}: ${status.name}`;
  byId("about").textContent = `zrs ${status.version} · ${clock(status.time)}`;
  verdict(status, kindOf(status), `${status.role} ${chosen || status.name}`);
  topology(status);
  graph(answer.samples, status.role, status.time);
  counters(status);
  events(answer.events);
}

async function refresh() {
  const silent = byId("silent");
  try {
    const response = await fetch(`/history${query(chosen)}`, { cache: "no-store" });
    if (response.status === 404) throw new Error((await response.text()).trim());
    if (!response.ok) throw new Error(`status ${response.status}`);
    last = await response.json();
    silent.hidden = true;
    show(last);
  } catch (error) {
    silent.textContent = `No answer from the storage's process${last ? ` since ${clock(last.status.time)}` : ""}: ${error.message}`;
    silent.hidden = false;
  }
  setTimeout(refresh, REFRESH);
}

if (chosen !== null) {
  byId("up").hidden = false;
  for (const link of byId("answers").children) link.search = query(chosen);
}
addEventListener("resize", () => { if (last) show(last); });
refresh();
