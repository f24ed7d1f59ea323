// What the three chats have in common: bubbles, ticks, who types, and saying so oneself.

import { clock, find, make, short } from "./dom.js";
import { identity } from "./identity.js";

/** Messages that are shown. */
const MOST = 200;

/** How long who has stopped typing counts as typing, milliseconds. */
const IDLE = 2_000;

/** How often the broker is told of typing that goes on, milliseconds: it takes it to have ended after 5 s. */
const AGAIN = 3_000;

/** How long a start of typing holds without another word, milliseconds. */
const HOLD = 5_500;

const TICKS = { sent: "✓", delivered: "✓✓", read: "✓✓" };
const ORDER = Object.keys(TICKS);

/** The chat of a card: its messages, its line of who types, its form. */
export class Chat {
  #bubbles = new Map();
  #typing = new Map();

  constructor(card) {
    this.list = find(".chat", card);
    this.line = find(".typing", card);
    this.form = find(".send", card);
  }

  /** Another chat, or none. */
  clear(isOpen) {
    this.#bubbles.clear();
    this.list.replaceChildren();
    for (const user of this.#typing.keys()) this.types(user, false);
    for (const element of this.form.elements) element.disabled = !isOpen;
  }

  /** Shows a message, once; `mark`: "sent", "delivered" or "read", for one's own. */
  put({ id, from, text, at, mark = "sent" }) {
    if (this.#bubbles.has(id)) return;
    const isOwn = String(from) === identity.id;
    const head = isOwn ? "" : `${short(from)} · `;
    const tick = make("span", { className: "tick", textContent: isOwn ? TICKS[mark] : "", dataset: { mark } });
    const bubble = make(
      "li",
      { className: isOwn ? "own" : "other", dataset: { id } },
      make("p", { textContent: text }),
      make("small", { textContent: `${head}${clock(at)} ` }, tick),
    );
    this.#bubbles.set(id, bubble);
    this.list.append(bubble);
    if (this.list.children.length > MOST) {
      this.#bubbles.delete(this.list.firstChild.dataset.id);
      this.list.firstChild.remove();
    }
    this.list.scrollTop = this.list.scrollHeight;
    if (!isOwn) this.types(from, false);
  }

  /** What has become of one's own message. It never gets less. */
  mark(id, mark) {
    const tick = this.#bubbles.has(id) ? find(".tick", this.#bubbles.get(id)) : null;
    if (!tick?.textContent || ORDER.indexOf(mark) <= ORDER.indexOf(tick.dataset.mark)) return;
    tick.dataset.mark = mark;
    tick.textContent = TICKS[mark];
    tick.title = mark;
  }

  /** The same of a message and all before it. */
  markUpTo(id, mark) {
    if (!this.#bubbles.has(id)) return;
    for (const known of this.#bubbles.keys()) {
      this.mark(known, mark);
      if (known === id) return;
    }
  }

  /** A message is gone. */
  remove(id) {
    this.#bubbles.get(id)?.remove();
    this.#bubbles.delete(id);
  }

  /** Somebody types, or has stopped. */
  types(user, isTyping) {
    clearTimeout(this.#typing.get(user));
    this.#typing.delete(user);
    if (isTyping) this.#typing.set(user, setTimeout(() => this.types(user, false), HOLD));
    const names = [...this.#typing.keys()].map(short);
    this.line.textContent = names.length > 0 ? `${names.join(", ")} is typing …` : "";
  }
}

/** Says that the user types, again and again while it lasts, and that he has stopped. */
export class Typing {
  #timer;
  #said = 0;

  constructor(input, say) {
    this.say = say;
    input.addEventListener("input", () => {
      if (this.#timer === undefined || Date.now() - this.#said > AGAIN) {
        this.#said = Date.now();
        say(true);
      }
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.stop(), IDLE);
    });
  }

  stop() {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.say(false);
  }
}
