// The app market: prices of all pairs, the order book and the trades of one, the portfolio.

import { attempt, clock, decimal, find, flash, make, notes, onSubmit, pushFront, showRoundTrip } from "./dom.js";
import { Namespace } from "./links.js";

/** The pairs of `--demo`: their newest prices come at once. */
const PAIRS = ["BTC-USDC", "ETH-USDC", "SOL-USDC", "LINK-USDC", "DOGE-USDC"];

/** Prices of a trend, levels of each side of the book, trades that are shown. */
const TREND = 60;
const LEVELS = 5;
const TRADES = 6;

/** How often the way to the broker is measured, milliseconds. */
const MEASURE = 10_000;

const SVG = "http://www.w3.org/2000/svg";

const card = find(".card.market");
const note = notes(card);
const rows = new Map();
/** Pairs that are subscribed to, in the order of their rows. */
const wanted = new Set(PAIRS);
let shown = PAIRS[0];

const market = new Namespace({ namespace: "/", app: "market", dot: "market", opened });

export function start() {
  find("#portfolio").textContent = "–";
  find("#pnl").textContent = "";
  market.start();
}

/** A new token, on the same connection. */
export function renew(token) {
  market.tell("authenticate", { token });
}

async function opened() {
  await attempt(note, async () => {
    const types = ["price_updates", "system_alerts", "portfolio_updates"];
    await market.ask("subscribe", { types });
    await Promise.all([...wanted].map((symbol) => market.ask("subscribe_price", { symbol })));
    await Promise.all([market.ask("subscribe_portfolio"), subscribePair(), measure()]);
  });
}

async function subscribePair() {
  find("#pair").textContent = `${shown} book`;
  await Promise.all([
    market.ask("subscribe_orderbook", { symbol: shown }),
    market.ask("subscribe_trades", { pair: shown }),
  ]);
}

/** Shows the book and the trades of another pair. */
async function show(symbol) {
  const before = shown;
  if (before === symbol) return;
  shown = symbol;
  for (const [pair, { choose }] of rows) choose.ariaPressed = String(pair === shown);
  find("#book").replaceChildren();
  find("#trades").replaceChildren();
  await Promise.all([
    market.ask("unsubscribe", { type: "orderbook", identifier: before }),
    market.ask("unsubscribe", { type: "trades", identifier: before }),
    subscribePair(),
  ]);
}

async function measure() {
  const sent = performance.now();
  await market.ask("ping", { timestamp: new Date().toISOString() });
  showRoundTrip(card, performance.now() - sent);
}
setInterval(() => market.socket.connected && measure().catch(() => {}), MEASURE);

function rowOf(symbol) {
  const known = rows.get(symbol);
  if (known) return known;
  const ariaPressed = String(symbol === shown);
  const choose = make("button", { type: "button", className: "link", textContent: symbol, ariaPressed });
  choose.addEventListener("click", () => attempt(note, () => show(symbol)));
  const [price, change, volume] = [make("td"), make("td"), make("td", { className: "spare" })];
  const line = document.createElementNS(SVG, "polyline");
  const trend = document.createElementNS(SVG, "svg");
  trend.setAttribute("viewBox", `0 0 ${TREND} 20`);
  trend.setAttribute("preserveAspectRatio", "none");
  trend.setAttribute("aria-hidden", "true");
  trend.append(line);
  const row = make("tr", { dataset: { symbol } });
  row.append(make("th", { scope: "row" }, choose), price, change, volume, make("td", { className: "spare" }, trend));
  find("#no-prices").hidden = true;
  const entry = { choose, price, change, volume, trend, line, prices: [] };
  rows.set(symbol, entry);
  // The pairs that are known first, in their order; then the others as they come.
  const place = (name) => [...wanted].indexOf(name) >>> 0;
  const body = find("#prices tbody");
  body.insertBefore(row, [...body.rows].find((other) => place(other.dataset.symbol) > place(symbol)) ?? null);
  return entry;
}

market.on("price_update", ({ symbol, price, change, volume }) => {
  if (typeof symbol !== "string" || typeof price !== "number") return;
  const entry = rowOf(symbol);
  const last = entry.prices.at(-1);
  entry.prices.push(price);
  if (entry.prices.length > TREND) entry.prices.shift();
  entry.price.textContent = decimal(price);
  if (last !== undefined && last !== price) flash(entry.price, price > last ? "up" : "down");
  entry.change.textContent = typeof change === "number" ? `${change > 0 ? "+" : ""}${change.toFixed(2)} %` : "–";
  entry.change.dataset.sign = Math.sign(change ?? 0);
  entry.volume.textContent = decimal(volume);
  const [low, high] = [Math.min(...entry.prices), Math.max(...entry.prices)];
  const height = (value) => (high === low ? 10 : 18 - ((value - low) / (high - low)) * 16);
  const from = TREND - entry.prices.length;
  entry.line.setAttribute("points", entry.prices.map((value, at) => `${from + at},${height(value)}`).join(" "));
  entry.trend.dataset.sign = Math.sign(price - entry.prices[0]);
});

market.on("order_book_update", ({ symbol, bids, asks }) => {
  if (symbol !== shown || !Array.isArray(bids) || !Array.isArray(asks)) return;
  const [best, worst] = [bids.slice(0, LEVELS), asks.slice(0, LEVELS)];
  const most = Math.max(...[...best, ...worst].map(([, amount]) => amount));
  const level = (side) => ([price, amount]) => {
    const bar = make("i");
    bar.style.width = `${(amount / most) * 100}%`;
    return make("div", { className: side }, bar, make("span", { textContent: decimal(price) }),
      make("span", { textContent: decimal(amount) }));
  };
  find("#book").replaceChildren(...worst.map(level("ask")).reverse(), ...best.map(level("bid")));
});

market.on("trade_notification", ({ symbol, price, amount, side, timestamp }) => {
  if (symbol !== shown) return;
  const item = make("li", { className: side === "sell" ? "ask" : "bid" },
    make("span", { textContent: decimal(price) }),
    make("span", { textContent: decimal(amount) }),
    make("time", { textContent: clock(timestamp) }));
  pushFront(find("#trades"), item, TRADES);
});

market.on("portfolio_update", ({ totalValue, pnl }) => {
  find("#portfolio").textContent = decimal(totalValue);
  flash(find("#portfolio"), "new");
  const change = find("#pnl");
  change.textContent = typeof pnl === "number" ? `${pnl > 0 ? "+" : ""}${decimal(pnl)}` : "";
  change.dataset.sign = Math.sign(pnl ?? 0);
});

market.on("system_alert", ({ level, message }) => {
  const alert = find("#alert");
  alert.hidden = false;
  alert.textContent = `${level ?? "alert"}: ${message}`;
});

market.on("error", ({ code, message }) => note(`${code}: ${message}`, true));
market.on("token_expired", () => note("The token has ended: sign in again.", true));

onSubmit(find("#subscribe"), note, async (form) => {
  const symbol = form.get("pair");
  await market.ask("subscribe_price", { symbol });
  wanted.add(symbol);
  if (rows.has(symbol)) await show(symbol);
  return `Subscribed to ${symbol}.`;
});
