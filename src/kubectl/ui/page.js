
"use strict";
// The page of `kubectl linkspan ui`: reads data.json again and again, and draws it. Whatever comes from clusters goes into
// the document as text, never as markup.

// === What is known ===

const VIEWS = ["map", "clusters", "links", "exports", "findings"];
const WORST = ["failed", "warning", "unknown", "ok"];
const SIGNS = { ok: "✓", warning: "!", failed: "✕", unknown: "?" };
const SIGHTS = { asked: "asked", unreachable: "unreachable", heardOf: "known from others" };
// Up to this many clusters are cards with numbers; more are marks on a ring.
const CARDS = 14;
// Links that are well are drawn for chosen clusters alone when there are more than this; and never more than the second.
const FEW = 300, MANY = 2000;
// From so many lines on, each is thin.
const DENSE = 100;
// Letters of a name on the ring.
const NAME = 20;
const ROWS = 200;
const POLL = 2000;

let data = { round: 0, clusters: [], links: [], exports: [], findings: [] };
let index = { clusters: new Map(), links: new Map() };
let shown = { view: "map", chosen: "", filter: "", bad: false, rows: ROWS };
let seen = { tag: "", at: 0, age: 0 };
let roving = "";

const at = (id) => document.getElementById(id);
const worst = (a, b) => WORST.indexOf(a.state) - WORST.indexOf(b.state);
const keyOf = {
  cluster: (cluster) => key("cluster", cluster.name),
  link: (link) => key("link", link.a, link.b),
  export: (one) => key("export", one.cluster, one.namespace, one.name),
};
function key(...parts) { return parts.map(encodeURIComponent).join("/"); }

function understand() {
  index = { clusters: new Map(), links: new Map() };
  for (const cluster of data.clusters) {
    index.clusters.set(cluster.name, cluster);
    index.links.set(cluster.name, []);
  }
  for (const link of data.links) {
    for (const name of [link.a, link.b]) index.links.get(name)?.push(link);
  }
  for (const list of [data.clusters, data.links, data.exports]) list.sort(worst);
}

// === Words ===

const some = (value) => value === null || value === undefined || value === "" ? "–" : String(value);
const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const ms = (value) => value == null ? "–" : value < 10 ? `${value.toFixed(2)} ms` : `${Math.round(value)} ms`;
const share = (value) => value === 0 ? "0 %" : value < 0.1 ? `${(value * 100).toFixed(1)} %` : `${Math.round(value * 100)} %`;
const age = (seconds) => seconds == null ? "never" : seconds < 120 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
function rate(bytes) {
  if (bytes == null) return "–";
  let bits = bytes * 8;
  for (const unit of ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]) {
    if (bits < 1000 || unit === "Gbit/s") return `${bits < 10 && unit !== "bit/s" ? bits.toFixed(1) : Math.round(bits)} ${unit}`;
    bits /= 1000;
  }
}

// What both ends of a link say together.
function numbers(link) {
  const end = (name) => link.ends.find((end) => end.cluster === name);
  const [a, b] = [end(link.a), end(link.b)];
  const times = link.ends.map((end) => end.rttMilliseconds).filter((time) => time != null);
  return {
    rtt: times.length ? Math.min(...times) : null,
    loss: link.ends.length ? Math.max(...link.ends.map((end) => end.loss)) : null,
    mtu: link.ends.length ? Math.min(...link.ends.map((end) => end.mtu)) : null,
    forth: a?.txRate ?? b?.rxRate ?? null,
    back: a?.rxRate ?? b?.txRate ?? null,
  };
}
const lossOf = (link) => { const loss = numbers(link).loss; return loss == null ? "–" : share(loss); };
const saysOf = (link) => data.findings[link.findings[0]]?.cause || link.ends.map((end) => end.reason).find((text) => text) || "";
function tally(name) {
  const links = index.links.get(name) ?? [];
  const up = links.filter((link) => link.state === "ok" || link.word === "up").length;
  return links.length ? `${up} of ${links.length} up` : "none";
}
function activeOf(cluster) {
  const active = cluster.gateways.find((gateway) => gateway.active);
  const more = cluster.gateways.length - (active ? 1 : 0);
  if (active) return more ? `${active.node} (+${more})` : active.node;
  return cluster.gateways.length ? "no active gateway" : "no gateway";
}

// === The document ===

const SVG = "http://www.w3.org/2000/svg";
// Makes an element: h("p.faint", { title: "x" }, "text", child, [children]).
function h(what, attributes, ...children) { return make(document.createElement(what.split(".")[0]), what, attributes, children); }
function s(what, attributes, ...children) { return make(document.createElementNS(SVG, what.split(".")[0]), what, attributes, children); }
function make(element, what, attributes, children) {
  const classes = what.split(".").slice(1).filter((name) => name).join(" ");
  if (classes) element.setAttribute("class", classes);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value !== null && value !== false) element.setAttribute(name, value);
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Makes `old` look like `fresh` without replacing what stays, so that focus, selection and scroll positions survive.
function morph(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  morphChildren(old, [...fresh.childNodes]);
}
function morphChildren(parent, fresh) {
  const keyed = new Map();
  for (const child of parent.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let old = parent.firstChild;
  for (const child of fresh) {
    const same = child.nodeType === 1 && child.dataset.key ? keyed.get(child.dataset.key) : null;
    if (same) {
      if (same !== old) parent.insertBefore(same, old); else old = old.nextSibling;
      morph(same, child);
    } else if (old && old.nodeName === child.nodeName && !(old.dataset?.key || child.dataset?.key)) {
      if (child.nodeType === 1) morph(old, child); else if (old.data !== child.data) old.data = child.data;
      old = old.nextSibling;
    } else {
      parent.insertBefore(child, old);
    }
  }
  while (old) { const next = old.nextSibling; old.remove(); old = next; }
}
function put(place, ...children) {
  const focused = document.activeElement;
  morphChildren(place, children.flat(3).filter((child) => child));
  // An element that was moved has lost it.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus();
}

const badge = (state, word) => h(`span.state.${state}`, null, `${SIGNS[state]} ${word ?? state}`);
const choose = (target, text) => h("button.choose", { type: "button", "data-choose": target }, text);

// === Filter ===

function holds(...texts) {
  const wanted = shown.filter.trim().toLowerCase();
  return !wanted || texts.flat().some((text) => String(text ?? "").toLowerCase().includes(wanted));
}
function listed() {
  const passes = (item) => !shown.bad || item.state !== "ok";
  const ofCluster = (cluster) => holds(cluster.name, cluster.context, cluster.kubernetes, cluster.version, cluster.gateways.map((gateway) => gateway.node));
  const clusters = data.clusters.filter((cluster) => ofCluster(cluster) && (passes(cluster) || (index.links.get(cluster.name) ?? []).some(passes)));
  return {
    clusters,
    links: data.links.filter((link) => passes(link) && holds(link.a, link.b)),
    exports: data.exports.filter((one) => passes(one) && holds(one.cluster, `${one.namespace}/${one.name}`, one.kind)),
    findings: data.findings.filter((one) => holds(one.cluster, one.object, one.check, one.reason, one.cause, one.evidence)),
  };
}

// === Map ===

// The shape tells the state as the colour does.
function mark(state, r) {
  const shape = {
    ok: () => s("circle.mark", { r }),
    unknown: () => s("circle.mark", { r }),
    warning: () => s("path.mark", { d: `M0 ${-r * 1.2}L${r * 1.15} ${r * 0.85}H${-r * 1.15}Z` }),
    failed: () => s("path.mark", { d: `M0 ${-r * 1.25}L${r * 1.25} 0L0 ${r * 1.25}L${-r * 1.25} 0Z` }),
  }[state]();
  return s("g.symbol", null, shape, r > 7 ? s("text.sign", { y: 5 }, SIGNS[state]) : null);
}

function places(clusters) {
  const n = clusters.length, cards = n <= CARDS;
  const [rx, ry] = cards ? [n < 3 ? 260 : Math.max(300, n * 33), n < 3 ? 0 : Math.max(190, n * 22)] : [0, 0].fill(Math.max(250, n * 13.5 / (2 * Math.PI)));
  const begin = n === 2 ? Math.PI : -Math.PI / 2;
  const found = new Map();
  clusters.forEach((cluster, i) => {
    const angle = begin + i * 2 * Math.PI / n;
    found.set(cluster.name, n === 1 ? { x: 0, y: 0, angle: 0 } : { x: rx * Math.cos(angle), y: ry * Math.sin(angle), angle });
  });
  const names = Math.max(...clusters.map((cluster) => Math.min(cluster.name.length, NAME)));
  const [wide, high] = cards ? [rx + 110, ry + 60] : [rx + 30 + names * 7, ry + 30 + names * 7];
  return { found, cards, wide, high };
}

function map() {
  const clusters = listed().clusters.sort((a, b) => a.name < b.name ? -1 : 1);
  if (!clusters.length) return [h("p.faint", null, data.round ? "No cluster matches." : "")];
  const where = places(clusters);
  const all = data.links.filter((link) => where.found.has(link.a) && where.found.has(link.b));
  const chosen = (link) => shown.chosen === keyOf.link(link) || [link.a, link.b].some((name) => shown.chosen === key("cluster", name));
  // All lines of a cluster that is cut off would hide the others, and tell nothing more.
  const cut = new Set(all.length <= FEW ? [] : clusters.map((cluster) => cluster.name).filter(isCutOff));
  const tells = (link) => link.state !== "ok" && !cut.has(link.a) && !cut.has(link.b);
  const drawn = (all.length <= FEW ? all : all.filter((link) => tells(link) || chosen(link))).slice(0, MANY);
  const left = all.length - drawn.length;
  if (![...clusters.map(keyOf.cluster), ...drawn.map(keyOf.link)].includes(roving)) roving = keyOf.cluster(clusters[0]);
  const box = { viewBox: `${-where.wide} ${-where.high} ${2 * where.wide} ${2 * where.high}`, role: "group", "aria-label": "Map of clusters and tunnels", "aria-describedby": "keys" };
  if (!where.cards) Object.assign(box, { width: 2 * where.wide, height: 2 * where.high });
  const svg = s(`svg.map.${where.cards ? "cards" : "ring"}${drawn.length > DENSE ? ".dense" : ""}`, box,
    s("g", null, drawn.map((link) => tie(link, where, clusters.length))),
    s("g", null, clusters.map((cluster) => where.cards ? card(cluster, where) : dot(cluster, where))));
  return [
    legend(),
    h("p.faint", { id: "keys" }, "Left and right arrow keys go from cluster to cluster, up and down from tunnel to tunnel; Enter tells more, Escape closes it.",
      left > 0 ? ` ${count(left, "tunnel is", "tunnels are")} not drawn, because ${left === 1 ? "it is up" : "they are up"}${cut.size ? " or all of a cluster are down" : ""}: choose a cluster to see its own.` : ""),
    svg,
  ];
}

function legend() {
  const node = (state, word) => h("span", null, s("svg", { width: 22, height: 20, viewBox: "-11 -11 22 22", "aria-hidden": "true" }, s(`g.${state}`, null, mark(state, 8))), word);
  const line = (state, word) => h("span", null, s("svg", { width: 40, height: 12, viewBox: "0 0 40 12", "aria-hidden": "true" }, s(`g.tie.${state}`, null, s("path.drawn", { d: "M1 6H39" }))), word);
  return h("div.legend", null, node("ok", "ok"), node("warning", "warning"), node("failed", "failed"), node("unknown", "unknown"),
    line("ok", "tunnel up"), line("warning", "with a warning"), line("failed", "down"), line("unknown", "unknown"), h("span", null, "⊘ all tunnels down"));
}

function point(of, classes, label) {
  const target = of.name ? keyOf.cluster(of) : keyOf.link(of);
  const chosen = shown.chosen === target;
  return [`g.${classes}.${of.state}${chosen ? ".chosen" : ""}`, {
    "data-key": target, "data-choose": target, tabindex: roving === target ? 0 : -1, role: "button", "aria-pressed": String(chosen), "aria-label": label,
  }];
}

const labelOf = (cluster) => [`Cluster ${cluster.name}: ${cluster.state}`, cluster.sight === "asked" ? "" : SIGHTS[cluster.sight], `gateway ${activeOf(cluster)}`,
  `tunnels: ${tally(cluster.name)}`, count(cluster.exports, "export", "exports"), cluster.note].filter((text) => text).join(", ");

function card(cluster, where) {
  const { x, y } = where.found.get(cluster.name);
  const [what, attributes] = point(cluster, `node.${cluster.sight}`, labelOf(cluster));
  const second = cluster.sight === "asked" ? `⇄ ${activeOf(cluster)}` : SIGHTS[cluster.sight];
  return s(what, { ...attributes, transform: `translate(${x} ${y})` },
    s("title", null, labelOf(cluster)),
    s("rect.ringed", { x: -104, y: -41, width: 208, height: 82, rx: 12 }),
    s("rect.card", { x: -98, y: -35, width: 196, height: 70, rx: 8 }),
    s("g", { transform: "translate(-76 0)" }, mark(cluster.state, 11)),
    s("text", { x: -54, y: -12, "font-weight": 600 }, short(cluster.name, 19)),
    s("text.small", { x: -54, y: 7 }, short(second, 24)),
    s("text.small", { x: -54, y: 24 }, short(`${count(cluster.exports, "export", "exports")} · ${tally(cluster.name)}`, 24)));
}

function dot(cluster, where) {
  const { x, y, angle } = where.found.get(cluster.name);
  const [what, attributes] = point(cluster, `node.${cluster.sight}`, labelOf(cluster));
  const left = Math.cos(angle) < -1e-9, turn = angle * 180 / Math.PI + (left ? 180 : 0);
  return s(what, { ...attributes, transform: `translate(${x} ${y}) rotate(${turn})` },
    s("title", null, labelOf(cluster)),
    s("rect.ringed", { x: left ? -140 : -9, y: -7.5, width: 149, height: 15, rx: 4 }),
    s("g", { transform: `rotate(${-turn})` }, mark(cluster.state, 5)),
    s("text.radial", { x: left ? -10 : 10, y: 4, "text-anchor": left ? "end" : "start" },
      cluster.state === "ok" ? null : `${SIGNS[cluster.state]} `, short(cluster.name, NAME), isCutOff(cluster.name) ? " ⊘" : null));
}

function tie(link, where, n) {
  const [a, b] = [where.found.get(link.a), where.found.get(link.b)];
  const d = where.cards ? `M${a.x} ${a.y}L${b.x} ${b.y}` : `M${a.x} ${a.y}Q${(a.x + b.x) * 0.2} ${(a.y + b.y) * 0.2} ${b.x} ${b.y}`;
  const { rtt, forth, back } = numbers(link);
  const label = [`Tunnel ${link.a} – ${link.b}: ${link.word}`, `round trip ${ms(rtt)}`, `loss ${lossOf(link)}`,
    `${link.a} to ${link.b} ${rate(forth)}`, `back ${rate(back)}`, saysOf(link)].filter((text) => text).join(", ");
  const [what, attributes] = point(link, "tie", label);
  return s(what, attributes, s("title", null, label), s("path.hit", { d }), s("path.drawn", { d }), where.cards ? words(link, a, b, n) : null);
}

// Beside the line: everything where there is room for it or it is asked for.
function words(link, a, b, n) {
  const all = n <= 3 || shown.chosen === keyOf.link(link);
  if (n > 6 && !all && link.state === "ok") return null;
  // Diagonals cross in the middle.
  const t = n <= 3 || Math.hypot(a.x - b.x, a.y - b.y) < 380 ? 0.5 : 0.37, { rtt, forth, back } = numbers(link);
  const [right, left] = a.x <= b.x ? [forth, back] : [back, forth];
  const more = link.state !== "failed" && all;
  return s("g", { transform: `translate(${a.x + (b.x - a.x) * t} ${a.y + (b.y - a.y) * t})`, "text-anchor": "middle" },
    s("text.halo.word", { y: all ? -8 : 5 }, `${SIGNS[link.state]} ${all || link.state !== "ok" ? link.word : ms(rtt)}`, more ? ` · ${ms(rtt)} · ${lossOf(link)} loss` : null),
    more && (forth != null || back != null) ? s("text.halo.small", { y: 19 }, `→ ${rate(right)} · ← ${rate(left)}`) : null);
}

function isCutOff(name) {
  const links = index.links.get(name) ?? [];
  return links.length > 1 && links.every((link) => link.state === "failed");
}
const short = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;

// === Tables ===

function table(label, items, columns, target) {
  const rows = items.slice(0, shown.rows);
  const cell = (item, [title, value, kind], first) => {
    const content = value(item);
    return first ? h("th", { scope: "row" }, content) : h(kind ? `td.${kind}` : "td", null, typeof content === "string" ? some(content) : content);
  };
  const head = h("thead", null, h("tr", null, columns.map(([title]) => h("th", { scope: "col" }, title))));
  const row = (item) => {
    const of = target ? target(item) : null;
    return h("tr", { "data-key": of, "aria-current": of && of === shown.chosen ? "true" : null }, columns.map((column, i) => cell(item, column, i === 0)));
  };
  if (!items.length) return [h("p.faint", null, data.round ? "Nothing matches." : "")];
  return [
    h("table", { "aria-label": label }, head, h("tbody", null, rows.map(row))),
    items.length > rows.length ? h("p", null, `${rows.length} of ${count(items.length, "row", "rows")} are shown. `, h("button.close", { type: "button", "data-more": "" }, "Show more")) : null,
  ];
}

const tables = {
  clusters: (items) => table("Clusters", items, [
    ["Cluster", (one) => choose(keyOf.cluster(one), one.name)],
    ["State", (one) => badge(one.state)],
    ["Known", (one) => SIGHTS[one.sight]],
    ["Active gateway", activeOf],
    ["Tunnels", (one) => tally(one.name), "number"],
    ["Exports", (one) => String(one.exports), "number"],
    ["Linkspan", (one) => one.version],
    ["Kubernetes", (one) => one.kubernetes],
    ["Note", (one) => one.note],
  ], keyOf.cluster),
  links: (items) => table("Tunnels", items, [
    ["Tunnel", (one) => choose(keyOf.link(one), `${one.a} – ${one.b}`)],
    ["State", (one) => badge(one.state, one.word)],
    ["Round trip", (one) => ms(numbers(one).rtt), "number"],
    ["Loss", lossOf, "number"],
    ["Forth", (one) => rate(numbers(one).forth), "number"],
    ["Back", (one) => rate(numbers(one).back), "number"],
    ["MTU", (one) => some(numbers(one).mtu), "number"],
    ["Why", saysOf],
  ], keyOf.link),
  exports: (items) => table("Exported services", items, [
    ["Service", (one) => choose(keyOf.export(one), `${one.namespace}/${one.name}`)],
    ["State", (one) => badge(one.state)],
    ["Exported by", (one) => one.cluster],
    ["Type", (one) => one.kind],
    ["Imported by", (one) => one.importers.length > 4 ? count(one.importers.length, "cluster", "clusters") : one.importers.join(", ")],
    ["Note", (one) => data.findings[one.findings[0]]?.cause || one.note],
  ], keyOf.export),
  findings: (items) => table("Findings", items, [
    ["Object", (one) => choose(key("cluster", one.cluster), `${one.cluster}: ${one.object}`)],
    ["State", (one) => badge(one.state)],
    ["Check", (one) => one.check],
    ["Cause", (one) => one.cause],
    ["Seen", (one) => one.evidence],
    ["What to do", (one) => one.fix ?? ""],
  ], null),
};

// === Details ===

function facts(...pairs) {
  return h("dl", null, pairs.filter((pair) => pair).map(([name, value]) => [h("dt", null, name), h("dd", null, typeof value === "object" ? value : some(value))]));
}
function why(found) {
  const one = (finding) => h(`article.${finding.state}`, null,
    h("h4", null, `${SIGNS[finding.state]} ${finding.reason}`),
    h("p", null, finding.cause || finding.evidence),
    facts(["seen", finding.evidence], finding.fix ? ["to do", finding.fix] : null, ["about", `${finding.object} in ${finding.cluster}`], ["check", finding.check]));
  return found.length ? found.map((at) => one(data.findings[at])) : [h("p.faint", null, "No finding.")];
}
function linksOf(name) {
  const links = [...index.links.get(name) ?? []].sort(worst), most = 40;
  const item = (link) => h("li", null, badge(link.state, link.word), " ", choose(keyOf.link(link), link.a === name ? link.b : link.a), ` ${ms(numbers(link).rtt)}, ${lossOf(link)} loss`);
  return [h("ul", null, links.slice(0, most).map(item)), links.length > most ? h("p.faint", null, `and ${links.length - most} more, in the view Tunnels`) : null];
}
const panels = {
  cluster: (one) => [
    h("h2", null, badge(one.state), ` Cluster ${one.name}`), why(one.findings),
    facts(["known", SIGHTS[one.sight]], ["context", one.context], ["Kubernetes", one.kubernetes], ["Linkspan", one.version], ["nodes", one.nodes],
      ["pods' addresses", one.podCIDRs.join(", ")], ["exports", one.exports], ["imports", one.imports]),
    h("h3", null, "Gateways"),
    one.gateways.length ? h("ul", null, one.gateways.map((gateway) => h("li", null, badge(gateway.state, gateway.active ? "active" : "stands by"), ` ${gateway.node} `,
      h("span.faint", null, `${count(gateway.lanes, "lane", "lanes")}; ${gateway.endpoints.join(", ") || "no endpoint"}`)))) : h("p.faint", null, "none"),
    h("h3", null, `Tunnels: ${tally(one.name)}`), linksOf(one.name),
    h("h3", null, "Exports"),
    h("ul", null, data.exports.filter((item) => item.cluster === one.name).map((item) => h("li", null, badge(item.state), " ", choose(keyOf.export(item), `${item.namespace}/${item.name}`)))),
  ],
  link: (one) => [
    h("h2", null, badge(one.state, one.word), " Tunnel ", choose(key("cluster", one.a), one.a), " – ", choose(key("cluster", one.b), one.b)), why(one.findings),
    one.ends.map((end) => [h("h3", null, `As ${end.cluster} sees it`), facts(["state", end.state], ["says", end.reason], ["gateway", end.gateway], ["sends to", end.endpoint],
      ["round trip", ms(end.rttMilliseconds)], ["loss", share(end.loss)], ["sends", rate(end.txRate)], ["receives", rate(end.rxRate)], ["MTU", `${end.mtu} bytes`],
      ["handshake", age(end.handshakeSeconds)])]),
    one.ends.length ? null : h("p.faint", null, "Neither end could be asked."),
  ],
  export: (one) => [
    h("h2", null, badge(one.state), ` Service ${one.namespace}/${one.name}`), why(one.findings),
    facts(["exported by", choose(key("cluster", one.cluster), one.cluster)], ["type", one.kind], ["name", `${one.name}.${one.namespace}.svc.clusterset.local`],
      ["imported by", one.importers.join(", ")], one.note ? ["note", one.note] : null),
  ],
};
function details() {
  const kind = shown.chosen.split("/")[0];
  const lists = { cluster: data.clusters, link: data.links, export: data.exports };
  const found = lists[kind]?.find((item) => keyOf[kind](item) === shown.chosen);
  at("details").hidden = !shown.chosen;
  if (!shown.chosen) return put(at("details"));
  put(at("details"), h("button.close", { type: "button", "data-close": "" }, "Close"),
    h("div", { "data-key": shown.chosen }, found ? panels[kind](found) : h("p", null, data.round ? "It is not there any more." : "Looking …")));
}

// === Drawing ===

function summary() {
  const told = (items, one, many) => {
    const parts = WORST.map((state) => [items.filter((item) => item.state === state).length, state]).filter(([n, state]) => n && state !== "ok");
    return count(items.length, one, many) + (parts.length ? ` (${parts.map(([n, state]) => `${n.toLocaleString("en")} ${state}`).join(", ")})` : items.length ? ", all ok" : "");
  };
  if (!data.round) return "Looking at the clusters …";
  return [told(data.clusters, "cluster", "clusters"), told(data.links, "tunnel", "tunnels"), told(data.exports, "export", "exports")].join("; ");
}

function draw() {
  for (const view of VIEWS) {
    const tab = at(`tab-${view}`), chosen = view === shown.view;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  at("view").setAttribute("aria-labelledby", `tab-${shown.view}`);
  const text = summary();
  if (at("summary").textContent !== text) at("summary").textContent = text;
  put(at("view"), h("div", { "data-key": shown.view }, shown.view === "map" ? map() : tables[shown.view](listed()[shown.view])));
  details();
}

function show(change) {
  Object.assign(shown, change);
  const hash = new URLSearchParams();
  for (const name of ["view", "chosen", "filter"]) if (shown[name]) hash.set(name, shown[name]);
  if (shown.bad) hash.set("bad", "1");
  history.replaceState(null, "", `#${hash}`);
  draw();
}

function restore() {
  const hash = new URLSearchParams(location.hash.slice(1));
  shown.view = VIEWS.includes(hash.get("view")) ? hash.get("view") : "map";
  shown.chosen = hash.get("chosen") ?? "";
  shown.filter = at("filter").value = hash.get("filter") ?? "";
  shown.bad = at("bad").checked = hash.has("bad");
  draw();
}

// === What the person does ===

function open(target) {
  const from = document.activeElement;
  show({ chosen: target });
  // What was chosen from may be gone with the panel that held it.
  if (!from.isConnected) at("details").querySelector("button")?.focus();
}

document.addEventListener("click", (event) => {
  const on = (name) => event.target.closest(`[data-${name}]`);
  if (on("choose")) open(on("choose").dataset.choose);
  else if (on("close")) close();
  else if (on("more")) show({ rows: shown.rows + 500 });
  else if (event.target.closest('[role="tab"]')) show({ view: event.target.closest('[role="tab"]').id.slice(4), rows: ROWS });
});
function close() {
  const was = shown.chosen;
  show({ chosen: "" });
  at("view").querySelector(`[data-choose="${CSS.escape(was)}"]`)?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape" && shown.chosen) return close();
  const tab = event.target.closest('[role="tab"]'), node = event.target.closest("svg [data-choose]");
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], along = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (tab && step) {
    const view = VIEWS[(VIEWS.indexOf(shown.view) + step + VIEWS.length) % VIEWS.length];
    show({ view, rows: ROWS });
    at(`tab-${view}`).focus();
  } else if (node && (event.key === "Enter" || event.key === " ")) {
    open(node.dataset.choose);
  } else if (node && (step || along || event.key === "Home" || event.key === "End")) {
    const all = [...node.closest("svg").querySelectorAll(along ? ".tie" : ".node")];
    if (!all.length) return;
    const here = all.indexOf(node);
    const next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : here < 0 ? 0 : (here + (step ?? along) + all.length) % all.length;
    all[next].focus();
  } else return;
  event.preventDefault();
});
document.addEventListener("focusin", (event) => {
  const node = event.target.closest("svg [data-choose]");
  if (!node) return;
  roving = node.dataset.choose;
  for (const other of node.closest("svg").querySelectorAll('[tabindex="0"]')) other.setAttribute("tabindex", "-1");
  node.setAttribute("tabindex", "0");
});
at("filter").addEventListener("input", () => show({ filter: at("filter").value, rows: ROWS }));
at("bad").addEventListener("change", () => show({ bad: at("bad").checked, rows: ROWS }));
window.addEventListener("hashchange", restore);

// === Reading ===

async function read() {
  try {
    const answer = await fetch("data.json", { cache: "no-store", headers: seen.tag ? { "If-None-Match": seen.tag } : {} });
    if (!answer.ok && answer.status !== 304) throw new Error(`HTTP ${answer.status}`);
    seen = { tag: answer.headers.get("ETag"), age: Number(answer.headers.get("Age")), at: performance.now() };
    if (answer.status !== 304) {
      data = await answer.json();
      understand();
      draw();
    }
    at("lost").hidden = true;
  } catch (error) {
    at("lost").textContent = `kubectl linkspan ui does not answer (${error.message}): what follows is old. Has it ended?`;
    at("lost").hidden = false;
  }
  setTimeout(read, POLL);
}
function tick() {
  if (data.round) at("age").textContent = `seen ${Math.round(seen.age + (performance.now() - seen.at) / 1000)} s ago`;
}
restore();
read();
setInterval(tick, 1000);
