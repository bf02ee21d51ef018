// Lists of vNICs: searched, filtered, and turned over page by page.

import { h } from "/page/views.js";

const PAGE = 100;
const STATES = ["", "ready", "pushing", "verifying", "diverged", "silent", "absent"];
const kept = new Map();

/** What is looked for in a list, and the last entries of the pages before. */
const of = (key) => kept.get(key) ?? kept.set(key, { search: "", state: "", before: [] }).get(key);

/** The query of a list. */
export function selection(key) {
  const { search, state, before } = of(key);
  const query = new URLSearchParams({ limit: PAGE });
  if (search) query.set("search", search);
  if (state) query.set("state", state);
  if (before.length) query.set("after", before.at(-1));
  return query;
}

/** The form that a list is searched with; `look` looks again. */
export function search(key, look) {
  const wanted = of(key);
  const text = h("input", { type: "search", name: "search", value: wanted.search, autocomplete: "off" });
  const state = h("select", { name: "state" }, STATES.map((one) => h("option", { value: one, selected: one === wanted.state ? "" : null }, one || "any state")));
  const run = (event) => {
    event.preventDefault();
    Object.assign(wanted, { search: text.value.trim(), state: state.value, before: [] });
    look();
  };
  const form = h("form", { onsubmit: run, onchange: run, role: "search" }, h("label", { class: "wide" }, "Address or name", text), h("label", {}, "State", state), h("button", {}, "Search"));
  form.dataset.keep = `search-${key}`;
  return form;
}

/** Buttons for the page before and the next one, if there are such. */
export function turn(key, list, look) {
  const { before } = of(key);
  const go = (change) => () => {
    change();
    look();
  };
  const buttons = [
    before.length ? h("button", { type: "button", onclick: go(() => before.pop()) }, "Back") : null,
    list.length === PAGE ? h("button", { type: "button", onclick: go(() => before.push(list.at(-1).mac)) }, "More") : null,
  ];
  return h("p", { class: "turn", "data-page": before.length }, before.length ? `from ${before.at(-1)} on ` : null, buttons);
}
