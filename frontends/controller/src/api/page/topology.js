// The drawing of switches, vNICs and networks.

import { mood, s } from "/page/views.js";

const ROW = 30;
const TOP = 28;
const COLUMNS = { switches: 20, vnics: 330, networks: 640 };
/** vNICs that are drawn, at most. */
export const SHOWN = 200;

/** Switches on the left, vNICs in the middle, networks on the right; each vNIC is a link. */
export function topology(switches, vnics, networks) {
  const shown = [...vnics].sort((a, b) => (a.switch ?? "~").localeCompare(b.switch ?? "~") || (a.network ?? "").localeCompare(b.network ?? "")).slice(0, SHOWN);
  const height = TOP + ROW * Math.max(switches.length, shown.length, networks.length, 1) + 10;
  const spread = (list) => {
    const step = (height - TOP) / Math.max(list.length, 1);
    return (index) => TOP + step * (index + 0.5);
  };
  const [switchAt, vnicAt, networkAt] = [spread(switches), spread(shown), spread(networks)];
  const secret = new Set(networks.filter((network) => network.cipher).map((network) => network.name));
  const wires = [];
  const dots = shown.map((vnic, index) => {
    const [x, y] = [COLUMNS.vnics, vnicAt(index)];
    const place = switches.findIndex((one) => one.datapath_id === vnic.switch);
    const network = networks.findIndex((one) => one.name === vnic.network);
    if (place >= 0) wires.push(curve(COLUMNS.switches + 170, switchAt(place), x - 8, y, ""));
    if (network >= 0) wires.push(curve(x + 130, y, COLUMNS.networks, networkAt(network), secret.has(vnic.network) ? " secret" : ""));
    return s("a", { href: `#/vnic/${vnic.mac}`, class: mood(vnic.state), "aria-label": `vNIC ${vnic.name} in ${vnic.network ?? "quarantine"}: ${vnic.state}` },
      s("circle", { cx: x, cy: y, r: 7 }), s("text", { x: x + 14, y: y + 4 }, vnic.name));
  });
  const boxes = (list, x, at, name) => list.map((one, index) => [
    s("rect", { class: "box", x, y: at(index) - 12, width: 170, height: 24, rx: 5 }), s("text", { x: x + 8, y: at(index) + 4 }, name(one))]);
  const heading = (x, text) => s("text", { class: "soft", x, y: 14 }, text);
  return s("svg", { viewBox: `0 0 830 ${height}`, role: "group", "aria-label": "Topology: switches, vNICs and networks" },
    heading(COLUMNS.switches, "switches"), heading(COLUMNS.vnics - 8, vnics.length > SHOWN ? `vNICs (the first ${SHOWN})` : "vNICs"), heading(COLUMNS.networks, "networks (green: encrypted)"),
    wires, boxes(switches, COLUMNS.switches, switchAt, (one) => one.datapath_id || "handshake"),
    dots, boxes(networks, COLUMNS.networks, networkAt, (one) => `${one.name} (VNI ${one.vni})`));
}

function curve(x1, y1, x2, y2, kind) {
  const middle = (x1 + x2) / 2;
  return s("path", { class: `wire${kind}`, d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}
