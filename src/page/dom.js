// What the parts of the page share: finding and making elements, the dots of connections, notes, times.

/** The first element of a selector. */
export const find = (selector, within = document) => within.querySelector(selector);

/** An element with properties and children. A text is only ever a text. */
export function make(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** Runs an animation of the style sheet again. */
export function flash(element, name) {
  element.classList.remove("up", "down", "new");
  // Without a look at the layout both changes would be taken as none.
  void element.offsetWidth;
  element.classList.add(name);
}

/** The dot of a connection: `state` is "up", "wait" or "down". */
export function status(name) {
  const output = find(`[data-status="${name}"]`);
  return (state, text) => {
    output.dataset.state = state;
    output.value = output.dataset.label ? `${output.dataset.label}: ${text}` : text;
    summarise();
  };
}

function summarise() {
  const all = [...document.querySelectorAll("[data-status]")];
  const up = all.filter((output) => output.dataset.state === "up").length;
  const text = `${up} of ${all.length} connections up`;
  const summary = find("#summary");
  // A screen reader is told of changes only.
  if (summary.textContent !== text) summary.textContent = text;
  summary.dataset.state = up === all.length ? "up" : up > 0 ? "wait" : "down";
}

/** How long it takes to the broker and back, milliseconds: beside the endpoint, where no screen reader reads it each time. */
export function showRoundTrip(card, time) {
  find("header code", card).dataset.roundTrip = `${time.toFixed(1)} ms`;
}

/** What a card has to say of the last thing that was asked for. */
export function notes(card) {
  const note = find(".note", card);
  return (text, isError = false) => {
    note.textContent = text;
    note.classList.toggle("error", isError);
  };
}

/** Does `work` when a form is sent; what goes wrong is noted. */
export function onSubmit(form, note, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await attempt(note, () => work(new FormData(form, event.submitter), form));
  });
}

/** Does `work`; what goes wrong is noted. */
export async function attempt(note, work) {
  try {
    note((await work()) ?? "");
  } catch (error) {
    note(error.message, true);
  }
}

/** A time of the broker, of which some have no zone: UTC is meant. */
export function clock(time) {
  const zoned = typeof time === "string" && !/(Z|[+-]\d\d:\d\d)$/.test(time) ? `${time}Z` : time;
  const date = time === undefined ? new Date() : new Date(zoned);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString([], { hour12: false });
}

/** A price or an amount, with as many digits as its size asks for. */
export function decimal(value) {
  if (typeof value !== "number") return String(value ?? "–");
  const size = Math.abs(value);
  const digits = size === 0 || size >= 100 ? 2 : size >= 1 ? 3 : 5;
  return value.toLocaleString("en-US", { minimumFractionDigits: Math.min(digits, 2), maximumFractionDigits: digits });
}

/** The first characters of an id: enough to tell users apart. */
export function short(id) {
  const text = String(id);
  return text.length > 14 ? `${text.slice(0, 4)}…${text.slice(-6)}` : text;
}

/** Tiles of currencies and what there is of each. */
export class Balances {
  #tiles = new Map();

  constructor(list) {
    this.list = list;
  }

  put(currency, balance) {
    let tile = this.#tiles.get(currency);
    if (!tile) {
      tile = make("div", {}, make("span", { textContent: currency }), make("strong"));
      this.#tiles.set(currency, tile);
      this.list.append(tile);
    }
    find("strong", tile).textContent = decimal(typeof balance === "string" ? Number(balance) : balance);
    flash(tile, "new");
  }

  clear() {
    this.#tiles.clear();
    this.list.replaceChildren();
  }
}

/** Puts an item at the front of a list that has at most `most`. */
export function pushFront(list, item, most) {
  list.prepend(item);
  while (list.children.length > most) list.lastChild.remove();
}
