// The page: looks at the controller every two seconds and shows the view that the address names.

import { follow, get, post } from "/page/client.js";
import { SHOWN, topology } from "/page/topology.js";
import { Rates, ago, badge, card, facts, h, mood, table, vnicLink } from "/page/views.js";
import { search, selection, turn } from "/page/search.js";

const PAUSE = 2000;
const PAIRS = 1000;
const main = document.getElementById("main");
const health = document.getElementById("health");
const total = new Rates();
const perVnic = new Map();
const events = [];
let shown = null;

const route = () => location.hash.slice(2).split("/").map(decodeURIComponent);

function showHealth(summary) {
  const [kind, text] = summary.error ? ["bad", "desired state refused"] : summary.converged ? ["good", "converged"] : ["busy", "not converged"];
  health.className = `badge ${kind}`;
  health.textContent = text;
}

/** Shows a view, named `key`: replaces its parts without touching those that have not changed, so that focus and selection stay. */
function show(key, parts) {
  const fresh = shown !== key;
  shown = key;
  if (fresh) {
    main.replaceChildren(...parts);
    return;
  }
  parts.forEach((part, index) => {
    const old = main.children[index];
    if (part.dataset.keep && old?.dataset.keep === part.dataset.keep) return;
    if (!old) return main.append(part);
    if (old.isEqualNode(part)) return;
    const place = [...old.querySelectorAll("a, button")].indexOf(document.activeElement);
    old.replaceWith(part);
    if (place >= 0) part.querySelectorAll("a, button")[place]?.focus();
  });
  while (main.children.length > parts.length) main.lastChild.remove();
}

const tile = (name, value, kind = "") => h("div", { class: `card tile ${kind}` }, h("b", {}, String(value)), h("span", {}, name));

async function overview(summary) {
  const [switches, vnics, networks, refusals] = await Promise.all([get("/v1/switches"), get(`/v1/vnics?limit=${SHOWN + 1}`), get("/v1/networks"), get("/v1/refusals")]);
  const count = (state) => summary.vnics[state] ?? 0;
  const troubled = count("diverged") + count("silent");
  const drops = Object.entries(summary.drops).filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]);
  return ["overview", [
    summary.error ? h("section", { class: "card error", role: "alert" }, summary.error) : h("div", { hidden: "" }),
    h("div", { class: "tiles" }, tile("switches", summary.switches.up ?? 0), tile("vNICs ready", count("ready"), "good"),
      tile("being changed", count("pushing") + count("verifying"), count("pushing") + count("verifying") ? "busy" : ""),
      tile("in trouble", troubled, troubled ? "bad" : ""), tile("absent", count("absent")),
      tile("not admitted", summary.refused, summary.refused ? "bad" : ""), tile("keys in use", summary.keys.encrypted ?? 0)),
    card("Topology", topology(switches, vnics, networks)),
    h("div", { class: "two" }, card("Throughput", total.chart("Throughput")),
      card("Drops and refusals, by reason", table("Drops by reason", ["reason", "count"], drops))),
    refusals.unknown.length + refusals.refused.length ? card("vNICs that were not let in", table("Refusals", ["vNIC", "switch", "port", "times", "heard", "reason"],
      [...refusals.refused.map((one) => refusalRow(one, one.times, one.seconds_ago)), ...refusals.unknown.map((one) => refusalRow(one, "–", one.since_seconds))])) : h("div", { hidden: "" }),
  ]];
}

const refusalRow = (one, times, seconds) => [h("span", { class: "mono" }, one.mac), one.switch, one.port, times, ago(seconds), one.reason];

const vnicRow = (vnic) => [vnicLink(vnic.mac), vnic.name, vnic.network ?? "QUARANTINE", badge(vnic.state), vnic.switch ?? "–",
  vnic.port_name ?? "–", vnic.mtu ?? "–", `${vnic.flows_confirmed}/${vnic.flows}`, keys(vnic), ago(vnic.last_contact_seconds)];

/** How a vNIC sends: in clear, or on how many ways of all with a key in use. */
function keys({ encryption }) {
  const ways = Object.values(encryption).reduce((sum, count) => sum + count, 0);
  if (ways === 0) return badge("clear");
  return h("span", { class: `badge ${encryption.encrypted === ways ? "good" : "busy"}` }, `encrypted ${encryption.encrypted ?? 0}/${ways}`);
}
const VNIC_HEAD = ["vNIC", "name", "network", "state", "switch", "port", "MTU", "flows", "sends", "heard"];

async function vnics() {
  const list = await get(`/v1/vnics?${selection("vnics")}`);
  return ["vnics", [search("vnics", loop), card("vNICs", table("vNICs", VNIC_HEAD, list.map(vnicRow)), turn("vnics", list, loop))]];
}

function traceCard(mac) {
  const result = h("pre", { role: "status", id: "trace-result" });
  const frame = h("textarea", { name: "frame", rows: 3, required: "", spellcheck: "false" });
  const direction = h("select", { name: "direction" }, h("option", { value: "tx" }, "tx: from the VM"), h("option", { value: "rx" }, "rx: from the network"));
  const from = h("input", { name: "from", spellcheck: "false", placeholder: "02:00:00:00:01:02" });
  const run = async (event) => {
    event.preventDefault();
    const sender = from.value.trim() ? { from: from.value.trim() } : {};
    try {
      result.textContent = await post(`/v1/vnics/${mac}/trace`, { direction: direction.value, frame: frame.value, ...sender });
    } catch (error) {
      result.textContent = error.message;
    }
  };
  const form = h("form", { onsubmit: run }, h("label", {}, "Direction", direction),
    h("label", {}, "With rx: the vNIC whose VM sends it", from),
    h("label", { class: "wide" }, "Frame, in hexadecimal, from the Ethernet destination on", frame), h("button", {}, "Trace"));
  const section = card("What would happen to a frame", form, result);
  section.dataset.keep = `trace-${mac}`;
  return section;
}

const names = (list) => list.join(", ") || "none";

/** What a vNIC says is in force, or why it does not say. */
const inForce = (one, told) => told ?? (one.protocol === 2 ? "unknown (protocol version 2 has no message that tells)" : "unknown");

/** What is wanted of a vNIC's offloads, and what it says is in force. */
function offloads(one) {
  const refused = Object.entries(one.offloads_refused).map(([name, why]) => `, ${name} refused: ${why}`).join("");
  return `${names(one.offloads ?? [])}, in force ${inForce(one, one.offloads_effective && names(one.offloads_effective))}${refused}`;
}

async function vnic(mac) {
  const [one, flows] = await Promise.all([get(`/v1/vnics/${mac}`), get(`/v1/vnics/${mac}/flows`)]);
  const pairs = one.network ? await get(`/v1/networks/${encodeURIComponent(one.network)}/pairs?sender=${encodeURIComponent(one.name)}`) : [];
  if (!perVnic.has(mac)) perVnic.set(mac, new Rates());
  const rates = perVnic.get(mac);
  if (one.traffic) rates.add(Date.now() - one.traffic.age_seconds * 1000, one.traffic.tx_bytes, one.traffic.rx_bytes);
  const place = one.switch ? `switch ${one.switch}, port ${one.port} (${one.port_name})` : null;
  const drops = Object.entries(one.counters?.drops ?? {}).filter(([, value]) => value > 0);
  const flow = (state) => (entry) => [badge(state ?? (entry.confirmed ? "ready" : "pushing")), entry.kind, h("code", {}, entry.flow)];
  return [`vnic-${mac}`, [
    h("div", { class: "two" },
      card(`${one.name} (${mac})`, facts([["state", badge(one.state)], ["network", one.network], ["place", place], ["MTU", `${one.mtu ?? "–"}, sent ${one.mtu_sent ?? "–"}, in force ${inForce(one, one.mtu_effective)}`],
        ["offloads", offloads(one)], ["protocol", one.protocol ? `version ${one.protocol}${one.authenticated ? ", authenticated" : ""}` : null],
        ["heard", ago(one.last_contact_seconds)], ["registrations", String(one.registrations)], ["errors", one.errors.join("; ") || "none"]])),
      card("Throughput at its port", rates.chart("Throughput"),
        drops.length ? table("Drops by reason", ["reason", "count"], drops) : h("p", { class: "soft" }, `dropped by the switch: ${(one.traffic?.tx_dropped ?? 0) + (one.traffic?.rx_dropped ?? 0)}`))),
    traceCard(mac),
    card("Flows", table("Flows", ["state", "kind", "flow"], [...flows.flows.map(flow()), ...flows.surplus.map(flow("diverged"))])),
    card("What it sends to whom", table("Pairs", ["to", "state", "suite"],
      pairs.map((pair) => [pair.receiver ?? "(group)", badge(pair.state), pair.suite]))),
  ]];
}

async function networks() {
  const list = await get("/v1/networks");
  const link = (name) => h("a", { href: `#/network/${encodeURIComponent(name)}` }, name);
  return ["networks", [card("Networks", table("Networks", ["network", "VNI", "MTU", "group", "cipher", "members"],
    list.map((one) => [link(one.name), String(one.vni), String(one.mtu ?? "auto"), one.group, one.cipher ?? badge("clear"), one.members])))]];
}

async function network(name) {
  const path = encodeURIComponent(name);
  const key = `network-${name}`;
  const [list, pairs] = await Promise.all([get(`/v1/vnics?network=${path}&${selection(key)}`), get(`/v1/networks/${path}/pairs?limit=${PAIRS}`)]);
  return [key, [
    search(key, loop),
    card(`Network ${name}`, table("Members", VNIC_HEAD, list.map(vnicRow)), turn(key, list, loop)),
    card(pairs.length === PAIRS ? `Encrypted and clear pairs (the first ${PAIRS}; each vNIC shows its own)` : "Encrypted and clear pairs", table("Pairs", ["from", "to", "state", "suite"],
      pairs.map((pair) => [pair.sender, pair.receiver ?? "(group)", badge(pair.state), pair.suite]))),
  ]];
}

function eventText(event) {
  const { id, unix_ms, type, ...rest } = event;
  return Object.entries(rest).map(([key, value]) => `${key} ${value ?? "–"}`).join(", ");
}

function eventList() {
  const rows = events.slice(-200).reverse().map((event) => [new Date(event.unix_ms).toLocaleTimeString("en-GB"), event.type, eventText(event)]);
  return ["events", [card("Events, the latest first", table("Events", ["time", "type", "what"], rows))]];
}

const VIEWS = { overview, vnics, vnic: (_, mac) => vnic(mac), networks, network: (_, name) => network(name), events: eventList };

let looks = 0;

async function look() {
  looks += 1;
  const own = looks;
  // Whoever asked for another view meanwhile does not want this one any more.
  const showOwn = (parts) => own === looks && show(...parts);
  const [name, argument] = route();
  const view = VIEWS[name] ?? overview;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${VIEWS[name] ? name : "overview"}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    const summary = await get("/v1/summary");
    showHealth(summary);
    total.add(Date.now(), summary.traffic.tx.bytes, summary.traffic.rx.bytes);
    showOwn(await view(summary, argument));
  } catch (error) {
    health.className = `badge ${mood("silent")}`;
    health.textContent = "no answer";
    showOwn(["error", [h("section", { class: "card error", role: "alert" }, error.message)]]);
  }
}

let timer;
async function loop() {
  clearTimeout(timer);
  await look();
  clearTimeout(timer);
  timer = setTimeout(loop, PAUSE);
}

addEventListener("hashchange", () => {
  main.focus();
  loop();
});
follow((event) => {
  events.push(event);
  if (events.length > 1000) events.shift();
});
loop();
