// Pieces of the page. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("td", { class: "number" }, "5")`. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An element of a drawing. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), ...children);

export function table(caption, head, rows) {
  const cell = (name) => (value) =>
    typeof value === "number" ? h(name, { class: "number" }, value.toLocaleString("en")) : h(name, {}, value ?? "–");
  if (rows.length === 0) return h("p", { class: "soft" }, "none");
  return h("table", { "aria-label": caption },
    h("thead", {}, h("tr", {}, head.map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell("td"))))));
}

export function facts(pairs) {
  return h("dl", {}, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]));
}

const MOODS = { ready: "good", encrypted: "good", up: "good", pushing: "busy", verifying: "busy", keying: "busy", handshake: "busy", diverged: "bad", silent: "bad", clear: "idle", absent: "idle", waiting: "idle", elsewhere: "idle" };
export const mood = (state) => MOODS[state] ?? "idle";
export const badge = (state) => h("span", { class: `badge ${mood(state)}` }, state);

export const vnicLink = (mac, text) => h("a", { href: `#/vnic/${mac}`, class: "mono" }, text ?? mac);

export function bits(bytesPerSecond) {
  let value = bytesPerSecond * 8;
  for (const unit of ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]) {
    if (value < 1000 || unit === "Gbit/s") return `${value < 10 && unit !== "bit/s" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
}

export const ago = (seconds) => (seconds === null || seconds === undefined ? "never" : `${seconds.toFixed(1)} s ago`);

/** Rates from counters that only grow, one sample after the other. */
export class Rates {
  constructor(kept = 60) {
    this.kept = kept;
    this.samples = [];
  }

  add(time, tx, rx) {
    const old = this.last;
    this.last = { time, tx, rx };
    if (!old || time <= old.time) return;
    const rate = (now, before) => Math.max(0, now - before) / ((time - old.time) / 1000);
    this.samples.push({ tx: rate(tx, old.tx), rx: rate(rx, old.rx) });
    if (this.samples.length > this.kept) this.samples.shift();
  }

  chart(label) {
    const [width, height] = [600, 140];
    const top = Math.max(1000, ...this.samples.flatMap((one) => [one.tx, one.rx])) * 1.1;
    const x = (index) => width - (this.samples.length - 1 - index) * (width / (this.kept - 1));
    const y = (value) => height - (value / top) * (height - 16);
    const line = (kind) => this.samples.map((one, index) => `${x(index).toFixed(1)},${y(one[kind]).toFixed(1)}`).join(" ");
    const now = this.samples.at(-1) ?? { tx: 0, rx: 0 };
    return h("div", {},
      s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label}: from vNICs ${bits(now.tx)}, to vNICs ${bits(now.rx)}` },
        s("line", { class: "axis", x1: 0, x2: width, y1: height - 1, y2: height - 1 }),
        s("text", { class: "soft", x: 4, y: 12 }, bits(top)),
        s("polyline", { class: "tx", points: line("tx") }), s("polyline", { class: "rx", points: line("rx") })),
      h("p", { class: "legend" }, h("span", { class: "tx" }, `— from vNICs ${bits(now.tx)}`), h("span", { class: "rx" }, `- - to vNICs ${bits(now.rx)}`)));
  }
}
