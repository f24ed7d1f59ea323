// The exchanges that are compared with the reference server: a name, and what a peer does. Whatever the peer is answered
// becomes the transcript. More can be added by a line here.
//
// `quick`: on a server that is short of patience (connectTimeout 400 ms, pingInterval 300 ms, pingTimeout 200 ms).
// `differs`: why fanfare answers otherwise on purpose.

const ORIGIN = "http://client.test";

const REFUSAL_AFTER_UPGRADE = "the reference server upgrades, and then writes its HTTP refusal into the WebSocket";

const SUITE = "the official test suite asks for this";
const STRICT = "the reference server's decoder passes over what is not base64";

/** Both servers take messages of this many bytes. */
const MAXIMUM = 32_768;

const polling = "?EIO=4&transport=polling";
const websocket = "?EIO=4&transport=websocket";

/** One request that opens nothing. */
const one = (name, method, query, options) => [name, (peer) => peer.request(method, query, options).answer()];

/** A WebSocket that is refused. */
const refused = (name, query, options = {}) => [name, (peer) => peer.socket(query), options];

/** A post to a session that has its namespace, and what comes of it. */
const posted = (name, body, { headers, ...options } = {}) => [
  name,
  async (peer) => {
    await peer.open({ connect: true });
    await peer.post(body, { headers });
    await peer.reaction();
  },
  options,
];

/** Messages over a WebSocket that has its namespace, and what comes of them. */
const sent = (name, ...messages) => [
  name,
  async (peer) => {
    const socket = await peer.direct({ connect: true });
    for (const message of messages) socket.send(message);
    await socket.reaction();
  },
];

/** The first packet of a WebSocket, what comes of it, and whether the namespace can still be had. */
const first = (name, packet) => [
  name,
  async (peer) => {
    const socket = await peer.direct();
    socket.send(packet);
    await socket.connect();
  },
];

export const exchanges = [
  // Handshakes that are refused.
  one("a bad sid", "GET", `${polling}&sid=nonsense`),
  one("a bad sid in a post", "POST", `${polling}&sid=nonsense`, { body: "40" }),
  one("a sid that looks real", "GET", `${polling}&sid=AAAAAAAAAAAAAAAAAAAA`),
  one("a sid from the prototype", "GET", `${polling}&sid=constructor`),
  one("an empty sid", "GET", `${polling}&sid=&t=1`),
  one("an unknown transport", "GET", "?EIO=4&transport=pigeon"),
  one("a transport from the prototype", "GET", "?EIO=4&transport=constructor"),
  one("WebTransport by GET", "GET", "?EIO=4&transport=webtransport"),
  one("no transport", "GET", "?EIO=4"),
  one("no query", "GET", ""),
  one("an empty transport", "GET", "?EIO=4&transport="),
  one("EIO=3", "GET", "?EIO=3&transport=polling"),
  one("EIO=5", "GET", "?EIO=5&transport=polling"),
  one("no EIO", "GET", "?transport=polling"),
  one("EIO=3 and an unknown transport", "GET", "?EIO=3&transport=pigeon"),
  one("EIO=3 and a bad sid", "GET", "?EIO=3&transport=polling&sid=nonsense"),
  one("a handshake by POST", "POST", polling, { body: "" }),
  one("a handshake by POST with a body", "POST", polling, { body: "40" }),
  one("a handshake by PUT", "PUT", polling, { body: "" }),
  one("a handshake by DELETE", "DELETE", polling),
  one("a handshake by HEAD", "HEAD", polling),
  one("WebSocket by plain GET", "GET", websocket),
  refused("a WebSocket with a bad sid", `${websocket}&sid=nonsense`),
  refused("a WebSocket with an unknown transport", "?EIO=4&transport=pigeon"),
  refused("a WebSocket with EIO=3", "?EIO=3&transport=websocket", { differs: REFUSAL_AFTER_UPGRADE }),
  refused("a WebSocket without EIO", "?transport=websocket", { differs: REFUSAL_AFTER_UPGRADE }),

  // Sessions by polling.
  ["a session by polling", async (peer) => {
    await peer.open({ connect: true });
    await peer.post('420["ping",{"timestamp":"t"}]');
    await peer.post('42["ping",{"timestamp":1}]\u001e42["ping",{"timestamp":2}]\u001e421["ping"]');
    await peer.reaction();
  }],
  ["parameters that nobody knows", async (peer) => {
    await peer.get(`${polling}&t=abc&b64=1&supportsBinary=0&x=%20%22&y`);
  }],
  ["a poll waits for a packet", async (peer) => {
    await peer.open({ connect: true });
    const poll = peer.poll();
    await peer.settle();
    // One event without an ack: one packet.
    await peer.post('42["ping",{"timestamp":1}]');
    await poll.answer();
  }],
  ["a second poll while one is open", async (peer) => {
    await peer.open({ connect: true });
    const poll = peer.poll("the first poll");
    await peer.settle();
    await peer.poll("the second poll").answer();
    await poll.answer();
    await peer.poll("a third poll").answer();
  }],
  ["a second post while one is open", async (peer) => {
    await peer.open({ connect: true });
    const post = peer.slowPost(10);
    await peer.settle();
    await peer.post("3", { name: "the second post" });
    await post.answer();
    await peer.reaction();
  }],
  ["PUT to a session", async (peer) => {
    await peer.open();
    await peer.request("PUT", peer.session, { name: "PUT", body: "40" }).answer();
    await peer.join();
  }],
  ["a body of the largest size", async (peer) => {
    await peer.open({ connect: true });
    const [head, tail] = ['420["ping",{"timestamp":"', '"}]'];
    await peer.post(head + "x".repeat(MAXIMUM - head.length - tail.length) + tail);
    await peer.reaction();
  }],
  ["a body that is too large", async (peer) => {
    await peer.open({ connect: true });
    await peer.post(`42["ping","${"x".repeat(MAXIMUM)}"]`);
    await peer.reaction();
  }],
  ["a body that is too large, in chunks", async (peer) => {
    await peer.open({ connect: true });
    const body = `42["ping","${"x".repeat(MAXIMUM)}"]`;
    await peer.post(body, { headers: { "Transfer-Encoding": "chunked" } });
    await peer.reaction();
  }],
  posted("a body in chunks", '420["ping",{"timestamp":1}]', { headers: { "Transfer-Encoding": "chunked" } }),
  posted("a body of bytes", '420["ping"]', { headers: { "Content-Type": "application/octet-stream" } }),
  posted("a body of another type", '420["ping",{"timestamp":1}]', { headers: { "Content-Type": "application/json" } }),
  posted("an empty body", "", { differs: SUITE }),
  posted("a body that is no packet", "abc", { differs: SUITE }),
  posted("an unknown packet type", "9", { differs: SUITE }),
  posted("an unknown packet type after a good packet", '420["ping",{"timestamp":1}]\u001e9', { differs: SUITE }),
  posted("an open packet from the client", "0"),
  posted("a ping from the client", "2"),
  posted("a ping from the client with data", "2probe"),
  posted("an upgrade packet by polling", "5"),
  posted("a noop from the client", '6\u001e420["ping",{"timestamp":1}]'),
  posted("a pong that nobody asked for", '3\u001e420["ping",{"timestamp":1}]'),
  posted("close", "1"),
  posted("close after a packet", '420["ping",{"timestamp":1}]\u001e1'),
  posted("packets after close", '1\u001e420["ping",{"timestamp":1}]'),
  ["close while a poll is open", async (peer) => {
    await peer.open({ connect: true });
    const poll = peer.poll();
    await peer.settle();
    await peer.post("1");
    await poll.answer();
    await peer.poll("poll after it").answer();
  }],
  ["a client that disconnects its namespace", async (peer) => {
    await peer.open({ connect: true });
    await peer.post("41");
    await peer.join();
  }],
  ["a session of another transport", async (peer) => {
    const socket = await peer.socket(websocket);
    const [open] = await socket.receive(1);
    peer.session = `${polling}&sid=${JSON.parse(open.slice(1)).sid}`;
    await peer.poll().answer();
    await peer.post("3");
    await socket.connect();
  }],

  // Binary by polling.
  posted("binary of an unknown event", '451-["binary",{"_placeholder":true,"num":0}]\u001ebAQIDBA=='),
  posted("binary with an ack", '451-7["binary",{"_placeholder":true,"num":0}]\u001ebAQIDBA=='),
  posted("binary without its attachment", '451-["binary",{"_placeholder":true,"num":0}]\u001e42["ping"]'),
  posted("an attachment that nobody announced", "bAQIDBA=="),
  posted("an attachment that is not base64", '451-["binary",{"_placeholder":true,"num":0}]\u001eb!!!', { differs: STRICT }),

  // Packets that are not Socket.IO. Over WebSocket, where the end shows.
  sent("an event that is no array", '42{"a":1}'),
  sent("an event without a name", "42[]"),
  sent("an event whose name is a list", "42[[]]"),
  sent("an event that is a reserved name", '42["connect"]'),
  sent("an event that is cut off", '42["ping"'),
  sent("an event with text after it", '42["ping"]x'),
  sent("an event without data", "42"),
  sent("an unknown type", "47"),
  sent("a type that is no digit", "4x"),
  sent("an empty message", "4"),
  sent("an ack that is no array", '431{"a":1}'),
  sent("a second CONNECT of the namespace", "40"),
  sent("a CONNECT_ERROR from the client", "44"),
  sent("a disconnect with data", '41{"a":1}'),
  sent("a binary event without a number", '45-["x"]'),
  sent("a binary event with a bad number", '45x-["x"]'),
  sent("more attachments than are allowed", `4511-[${'"x"'}]`),
  sent("a text where an attachment is awaited", '451-["x",{"_placeholder":true,"num":0}]', '42["ping"]'),
  sent("an attachment that nobody announced, over WebSocket", Buffer.from([1, 2, 3])),
  sent("a placeholder out of range", '451-["x",{"_placeholder":true,"num":7}]', Buffer.from([1])),
  sent("a namespace that is not connected", '42/other,["ping"]'),
  sent("an event whose name is a number", "42[7]"),
  sent("an ack that nobody waits for", '435["x"]', "436[]"),
  sent("an event with several arguments and an ack", '4212["nothing",1,[2],{"three":3}]'),
  sent("an event for the namespace by its name", '42/,1["ping",{"timestamp":"t"}]'),
  sent("binary over WebSocket", '451-["x",{"_placeholder":true,"num":0}]', Buffer.from([1, 2, 3])),
  sent("a binary ack that nobody waits for", '461-3[{"_placeholder":true,"num":0}]', Buffer.from([1])),
  sent("binary without attachments", '450-["x"]'),

  // The first packet.
  first("an event before CONNECT", '42["ping"]'),
  first("a disconnect before CONNECT", "41"),
  first("an unknown namespace", "40/nowhere,"),
  first("an unknown namespace with data", '40/nowhere,{"token":"x"}'),
  first("an unknown namespace with a query", '40/nowhere?a=b,{"token":"x"}'),
  first("CONNECT with a namespace without its comma", "40/nowhere"),
  first("CONNECT without a token", "40"),
  first("CONNECT with an empty object", "40{}"),
  first("CONNECT with a bad token", '40{"token":"x"}'),
  first("CONNECT with a token that is a number", '40{"token":7}'),
  first("CONNECT with data that is no object", '40"x"'),
  first("CONNECT with a list", "40[]"),
  first("CONNECT with data that is cut off", '40{"token":'),
  first("CONNECT with null", "40null"),
  ["CONNECT after one that was refused", async (peer) => {
    const socket = await peer.direct();
    socket.send("40");
    await socket.receive(1);
    await socket.connect();
  }],
  ["several namespaces", async (peer) => {
    const socket = await peer.direct({ connect: true });
    socket.send("40/nowhere,{}");
    await socket.receive(1);
    await socket.reaction();
  }],

  // Sessions over WebSocket.
  ["a session over WebSocket", async (peer) => {
    const socket = await peer.direct({ connect: true });
    await socket.reaction();
  }],
  ["a disconnect, and CONNECT again", async (peer) => {
    const socket = await peer.direct({ connect: true });
    socket.send("41");
    await socket.settle();
    await socket.connect();
  }],
  ["close over WebSocket", async (peer) => {
    const socket = await peer.direct({ connect: true });
    socket.send("1");
    await socket.reaction();
  }, { differs: SUITE }],
  sent("a ping from the client over WebSocket", "2"),
  sent("an unknown packet type over WebSocket", "9"),
  sent("an empty frame", ""),
  sent("a message that is too large", `42["ping","${"x".repeat(MAXIMUM)}"]`),
  ["a close frame from the client", async (peer) => {
    const socket = await peer.direct({ connect: true });
    socket.close();
    await socket.end();
  }],

  // The upgrade.
  ["an upgrade", async (peer) => {
    await peer.open({ connect: true });
    const poll = peer.poll("the poll under way");
    await peer.settle();
    const socket = await peer.socket();
    socket.send("2probe");
    await socket.receive(1);
    await poll.answer();
    socket.send("5");
    await socket.reaction();
    await peer.poll("a poll after the upgrade").answer();
    await peer.post('42["ping"]', { name: "a post after the upgrade" });
    await socket.reaction();
  }],
  ["what comes between probe and upgrade", async (peer) => {
    await peer.open({ connect: true });
    const socket = await peer.socket();
    socket.send("2probe");
    await socket.receive(1);
    await peer.poll("a poll after the probe").answer();
    await peer.post('420["ping",{"timestamp":1}]');
    socket.send("5");
    await socket.receive(2);
  }],
  ["a probe with another word", async (peer) => {
    await peer.open({ connect: true });
    const socket = await peer.socket();
    socket.send("2other");
    await socket.end();
    await peer.reaction();
  }],
  ["an upgrade without a probe", async (peer) => {
    await peer.open({ connect: true });
    const socket = await peer.socket();
    socket.send("5");
    await socket.end();
    await peer.reaction();
  }],
  ["a message before the upgrade is done", async (peer) => {
    await peer.open({ connect: true });
    const socket = await peer.socket();
    socket.send('42["ping"]');
    await socket.end();
    await peer.reaction();
  }],
  ["a second upgrade while one is under way", async (peer) => {
    await peer.open({ connect: true });
    const socket = await peer.socket();
    socket.send("2probe");
    await socket.receive(1);
    const second = await peer.socket();
    await second.end();
    await peer.poll("a poll after the probe").answer();
    socket.send("5");
    await socket.reaction();
  }],
  ["a second upgrade after the first", async (peer) => {
    await peer.open({ connect: true });
    const socket = await peer.socket();
    socket.send("2probe");
    await socket.receive(1);
    socket.send("5");
    const second = await peer.socket();
    await second.end();
    await socket.reaction();
  }],
  ["an upgrade that the client gives up", async (peer) => {
    await peer.open({ connect: true });
    const socket = await peer.socket();
    socket.send("2probe");
    await socket.receive(1);
    socket.close();
    await socket.end();
    await peer.reaction();
  }],
  ["an upgrade before CONNECT", async (peer) => {
    await peer.open();
    const socket = await peer.socket();
    socket.send("2probe");
    await socket.receive(1);
    socket.send("5");
    await socket.connect();
  }],

  // Other origins.
  one("a handshake of an allowed origin", "GET", polling, { headers: { Origin: ORIGIN } }),
  one("a refusal to an allowed origin", "GET", `${polling}&sid=nonsense`, { headers: { Origin: ORIGIN } }),
  one("a preflight of an allowed origin", "OPTIONS", polling, {
    headers: { Origin: ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type" },
  }),
  one("a preflight without a request for headers", "OPTIONS", polling, {
    headers: { Origin: ORIGIN, "Access-Control-Request-Method": "GET" },
  }),
  ["a session of an allowed origin", async (peer) => {
    await peer.open();
    await peer.post(peer.connect, { name: "POST connect", headers: { Origin: ORIGIN } });
    await peer.request("GET", peer.session, { name: "poll", headers: { Origin: ORIGIN } }).answer();
  }],
  ["a WebSocket of an allowed origin", (peer) => peer.direct({ connect: true, origin: ORIGIN })],

  // Servers without patience.
  ["no CONNECT, by polling", async (peer) => {
    await peer.open();
    await peer.end();
  }, { quick: true }],
  ["no CONNECT, over WebSocket", async (peer) => {
    const socket = await peer.direct();
    await socket.end("2");
  }, { quick: true }],
  ["CONNECT that was refused, and no other", async (peer) => {
    const socket = await peer.direct();
    socket.send("40");
    await socket.end("2");
  }, { quick: true }],
  ["pings, by polling", async (peer) => {
    await peer.open({ connect: true });
    for (let n = 0; n < 3; n++) {
      await peer.poll().answer();
      await peer.post("3");
    }
  }, { quick: true }],
  ["pings, over WebSocket", async (peer) => {
    const socket = await peer.direct({ connect: true });
    for (let n = 0; n < 3; n++) {
      await socket.receive(1);
      socket.send("3");
    }
  }, { quick: true }],
  ["pings that are not answered, by polling", async (peer) => {
    await peer.open({ connect: true });
    await peer.poll("a poll for the ping").answer();
    await peer.poll("a poll after the ping").answer();
    await peer.poll("a poll after the end").answer();
  }, { quick: true }],
  ["pings that are not answered, over WebSocket", async (peer) => {
    const socket = await peer.direct({ connect: true });
    await socket.end();
  }, { quick: true }],
];
