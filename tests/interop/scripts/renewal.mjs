// The test page with tokens that end soon: it gets new ones in time, and shows them on the connections it has. The broker gives
// tokens of a little more than the minute before whose end the page renews them.

import assert from "node:assert/strict";

import { Window, scenarios } from "./browser.mjs";

await scenarios({
  async "a token is renewed before it ends"() {
    const window = await Window.open();
    const { page } = window;
    await window.settled();
    const renewed = [];
    page.on("response", (answer) => answer.url().endsWith("/auth/refresh") && renewed.push(answer.status()));
    const until = await page.textContent("#token-until");
    await page.waitForFunction((until) => document.querySelector("#token-until").textContent !== until, until);
    // Market says so at the start too; mobile in each of its namespaces.
    for (const [app, count] of [["market", 2], ["account", 1], ["conversation", 1], ["mobile", 2]]) {
      const told = page.locator(`#events [data-app=${app}] + .name`, { hasText: "authenticated" });
      await told.nth(count - 1).waitFor();
    }
    await window.settled();
    assert.ok(renewed.length > 0 && renewed.every((status) => status === 200), renewed.join());
    await window.close();
  },
});
