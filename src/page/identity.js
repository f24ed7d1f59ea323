// Who is signed in: signing in, renewing the token before it ends, and requests in the user's name.

/** How long before its end a token is renewed, seconds; and how long a timer can be, milliseconds. */
const EARLY = 60;
const LONGEST = 2 ** 31 - 1;

/** What a token says, without checking it: the broker does. `null`: it is none. */
function claims(token) {
  const parts = token.split(".");
  if (parts.length !== 3) return null;
  try {
    const base64 = parts[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))));
  } catch {
    return null;
  }
}

async function request(method, path, token, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new Error(`${response.status} ${answer.detail ?? answer.error?.message ?? response.statusText}`);
}

/** The user with an e-mail address: id and tokens. */
async function signIn(email, password) {
  const answer = await request("POST", "/api/v1/auth/login", null, { email, password });
  return { email, id: String(claims(answer.accessToken).sub), token: answer.accessToken, refresh: answer.refreshToken };
}

/** Tells "changed" when another user has signed in, and "renewed" when the same has a new token. */
class Identity extends EventTarget {
  #timer;
  #refresh;
  /** The user's id, a text; `null`: nobody has signed in. */
  id = null;
  email = null;
  token = null;
  /** When the token ends, Unix time in seconds. */
  expires = 0;

  /** Signs in with an e-mail address, or with a token in its place. */
  async enter(user, password) {
    const found = claims(user) === null
      ? await signIn(user, password)
      : { email: null, id: String(claims(user).sub), token: user, refresh: null };
    this.#take(found);
    this.dispatchEvent(new Event("changed"));
  }

  #take({ email = this.email, id = this.id, token, refresh }) {
    Object.assign(this, { email, id, token });
    this.expires = claims(token).exp;
    this.#refresh = refresh;
    clearTimeout(this.#timer);
    const wait = (this.expires - EARLY) * 1_000 - Date.now();
    if (refresh && wait < LONGEST) this.#timer = setTimeout(() => this.#renew(), Math.max(wait, 1_000));
  }

  async #renew() {
    try {
      const answer = await request("POST", "/api/v1/auth/refresh", this.#refresh);
      this.#take({ token: answer.accessToken, refresh: answer.refreshToken });
      this.dispatchEvent(new Event("renewed"));
    } catch (error) {
      console.warn("the token was not renewed:", error.message);
      this.#timer = setTimeout(() => this.#renew(), 10_000);
    }
  }

  /** Asks the broker in the user's name. */
  call(method, path, body) {
    return request(method, path, this.token, body);
  }
}

export const identity = new Identity();

/** The id of another user whose password is known. */
export async function idOf(email, password) {
  return (await signIn(email, password)).id;
}
