// The list of all that arrives, of every app: newest first, at most 200 rows, written once a frame.

import { clock, find, make } from "./dom.js";

/** Rows that are kept. */
const MOST = 200;

/** Characters of an event's data that are shown: the rest would be unreadable anyway. */
const LONGEST = 4_000;

const list = find("#events");
const filter = find("#filter");
const pause = filter.elements.pause;

let waiting = [];
let counted = 0;

/** Shows an event of an app. */
export function arrived(app, name, data) {
  counted += 1;
  if (pause.ariaPressed === "true" || !filter.elements[app].checked) return;
  waiting.push({ app, name, data, time: clock() });
  if (waiting.length > MOST) waiting.shift();
  if (waiting.length === 1) requestAnimationFrame(show);
}

function show() {
  const rows = waiting.map(row).reverse();
  waiting = [];
  list.prepend(...rows);
  while (list.children.length > MOST) list.lastChild.remove();
}

function row({ app, name, data, time }) {
  const json = data === undefined ? "" : JSON.stringify(data);
  const text = json.length > LONGEST ? `${json.slice(0, LONGEST)}…` : json;
  const summary = make(
    "summary",
    {},
    make("time", { textContent: time }),
    make("b", { textContent: app, dataset: { app } }),
    make("span", { className: "name", textContent: name }),
    make("span", { className: "data", textContent: text }),
  );
  return make("li", {}, make("details", {}, summary, make("pre", { textContent: text })));
}

pause.addEventListener("click", () => {
  pause.ariaPressed = String(pause.ariaPressed !== "true");
  pause.textContent = pause.ariaPressed === "true" ? "Go on" : "Pause";
});
filter.elements.clear.addEventListener("click", () => list.replaceChildren());
filter.addEventListener("submit", (event) => event.preventDefault());

setInterval(() => {
  find("#rate").textContent = `${counted}/s`;
  counted = 0;
}, 1_000);
