// The test page: signs in, and starts the five apps. Each has a file of its own; `links` has their connections.

import * as account from "./account.js";
import * as conversation from "./conversation.js";
import { attempt, find, make } from "./dom.js";
import { idOf, identity } from "./identity.js";
import * as market from "./market.js";
import * as mobile from "./mobile.js";
import * as support from "./support.js";

const apps = [market, account, conversation, support, mobile];
const form = find("#sign-in");
const { user, password } = form.elements;
/** Users of `--dev`, by e-mail address. */
const others = [...find("#users").options].map((option) => option.value);

const say = (text, isError) => {
  if (!text) return;
  find("#summary").textContent = text;
  find("#summary").dataset.state = isError ? "down" : "wait";
};

async function signIn() {
  await identity.enter(user.value.trim(), password.value);
  await offerOther();
}

/** Another user of `--dev` to talk to: in a second window, and as who is suggested here. */
async function offerOther() {
  const other = others.find((email) => email !== identity.email);
  const anchor = find("#other-window");
  anchor.hidden = identity.email === null || !other;
  if (anchor.hidden) return;
  anchor.href = `?as=${encodeURIComponent(other)}`;
  find("span", anchor).textContent = other;
  const id = await idOf(other, password.value);
  find("#partners").replaceChildren(make("option", { value: id, label: other }));
  for (const input of document.querySelectorAll("[list=partners]")) input.value ||= id;
}

function showIdentity() {
  find("#user-id").textContent = identity.id;
  for (const element of document.querySelectorAll(".own-id")) element.textContent = identity.id;
  find("#token-until").textContent = new Date(identity.expires * 1_000).toLocaleTimeString([], { hour12: false });
}

identity.addEventListener("changed", () => {
  showIdentity();
  for (const input of document.querySelectorAll("[list=partners]")) input.value = "";
  for (const app of apps) app.start();
});
identity.addEventListener("renewed", () => {
  showIdentity();
  for (const app of apps) app.renew(identity.token);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(say, signIn);
});

user.value = new URLSearchParams(location.search).get("as") ?? others[0];
attempt(say, signIn);
