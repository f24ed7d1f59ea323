"""The apps market and mobile as python-socketio sees them, on every transport: connecting, events, acks, refusals,
coming back.

Reads the same environment as the other scripts (harness.mjs), and prints a line of JSON for each scenario.
"""

import base64
import hashlib
import hmac
import itertools
import json
import os
import queue
import socket
import sys
import threading
import time
import traceback

import engineio
import socketio

# By default the client gives up where a poll's answer holds more than 16 packets, whatever the server.
engineio.payload.Payload.max_decode_packets = 1_000

ADDRESS = (os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]))
INGEST = (ADDRESS[0], int(os.environ["INGEST_PORT"]))
TRANSPORTS = os.environ["TRANSPORTS"].split(",")

# How long anything that must come is waited for, seconds. Only a failing scenario waits so long.
DEADLINE = 30

numbers = itertools.count()


def user(name):
    return f"{name}-{os.getpid()}-{next(numbers):04}"


def token(name):
    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = encode(json.dumps({"sub": name, "exp": int(time.time()) + 3600}).encode())
    key = os.environ["SECRET"].encode()
    return f"{head}.{body}.{encode(hmac.digest(key, f'{head}.{body}'.encode(), hashlib.sha256))}"


def until(what, condition):
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.005)
    return value


class Client:
    """A connected client with all that it was told, in order."""

    def __init__(self, name, at=ADDRESS, auth=None, namespaces=None, **options):
        self.name = name
        self.events = queue.Queue()
        self.states = []
        self.socket = socketio.Client(**{"reconnection": False, **options})
        self.socket.on("*", lambda event, *data: self.events.put((event, data)))
        self.socket.on("connect", lambda: self.states.append(("connect",)))
        self.socket.on("disconnect", lambda reason: self.states.append(("disconnect", reason)))
        self.socket.on("connect_error", lambda *data: self.states.append(("connect_error", *data)))
        self.at = at
        self.auth = {"token": token(name)} if auth is None else auth
        self.namespaces = namespaces

    def connect(self):
        self.socket.connect(
            f"http://{self.at[0]}:{self.at[1]}",
            transports=TRANSPORTS,
            auth=self.auth,
            namespaces=self.namespaces,
            wait_timeout=DEADLINE,
        )
        return self

    def event(self, name):
        event, data = self.events.get(timeout=DEADLINE)
        assert event == name, (event, data)
        assert len(data) == 1, (event, data)
        return data[0]

    def welcome(self):
        assert "connectionId" in self.event("connected")
        assert self.event("authenticated")["user"]["id"] == self.name
        return self

    def ask(self, name, data):
        return self.socket.call(name, data, timeout=DEADLINE)

    def confirmed(self, name, data, confirmation):
        ack = self.ask(name, data)
        assert self.event(confirmation) == ack
        return ack

    def state(self, kind, after=0):
        return until(
            f"{kind} of {self.name}; only {self.states}",
            lambda: next((state for state in self.states[after:] if state[0] == kind), None),
        )

    def nothing(self):
        self.confirmed("ping", {}, "pong")
        assert self.events.empty(), self.events.get()

    def close(self):
        self.socket.disconnect()


class Publisher:
    """A connection to the ingest port."""

    def __init__(self):
        self.stream = socket.create_connection(INGEST, DEADLINE).makefile("rw", encoding="utf-8", newline="\n")

    def ask(self, **line):
        self.stream.write(json.dumps(line) + "\n")
        self.stream.flush()
        return json.loads(self.stream.readline())

    def publish(self, **line):
        answer = self.ask(id=f"python-{os.getpid()}-{next(numbers)}", **line)
        assert answer["ok"] is True, answer
        return answer["subscribers"]


class Proxy:
    """A TCP proxy whose connections can be cut."""

    def __init__(self):
        self.closed = False
        self.sockets = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.at = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            with self.lock:
                if self.closed:
                    client.close()
                    continue
                server = socket.create_connection(ADDRESS)
                self.sockets += [client, server]
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    @staticmethod
    def pump(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        with self.lock:
            self.closed = True
            sockets, self.sockets = self.sockets, []
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def open(self):
        self.closed = False


publisher = Publisher()


def the_welcome_comes_first_and_the_transport_is_the_last():
    ada = Client(user("ada")).connect().welcome()
    until("the transport", lambda: ada.socket.transport() == TRANSPORTS[-1])
    ada.nothing()
    assert ada.socket.transport() == TRANSPORTS[-1]
    ada.close()


def rooms_events_and_acks():
    ada = Client(user("ada")).connect().welcome()
    room = "trade:PYTHON-USDC"
    assert ada.confirmed("join_room", {"room": room}, "room_joined") == {"room": room}
    for data in [None, 0, "ü 🦀 \u2028", [1, [2]], {"a": {"b": []}}, "x" * 50_000]:
        assert publisher.publish(room=room, event="trade_notification", data=data) == 1
        assert ada.event("trade_notification") == data
    answers = queue.Queue()
    ada.socket.emit("leave_room", {"roomId": room}, callback=answers.put)
    assert answers.get(timeout=DEADLINE) == {"room": room}
    assert ada.event("room_left") == {"room": room}
    assert publisher.publish(room=room, event="trade_notification", data=1) == 0
    assert publisher.publish(user=ada.name, event="notification", data=2) == 1
    assert ada.event("notification") == 2
    ada.nothing()
    ada.close()


def many_events_arrive_in_order():
    ada = Client(user("ada")).connect().welcome()
    room = "trade:MANY-USDC"
    ada.confirmed("join_room", {"room": room}, "room_joined")
    for n in range(500):
        assert publisher.publish(room=room, event="tick", data=n) == 1
    assert [ada.event("tick") for _ in range(500)] == list(range(500))
    ada.nothing()
    ada.close()


def messages_between_users():
    ada, bob = (Client(user(name)).connect().welcome() for name in ("ada", "bob"))
    assert ada.ask("direct_message", {"to": bob.name, "message": {"n": 1}}) == {"delivered": 1}
    message = bob.event("direct_message")
    assert (message["from"], message["message"]) == (ada.name, {"n": 1}), message
    ada.nothing()
    ada.close()
    bob.close()


def errors_say_what_is_wrong():
    ada = Client(user("ada")).connect().welcome()
    assert ada.ask("join_room", {"room": "nothing:X"})["error"]["code"] == "ROOM_NOT_FOUND"
    while not ada.events.empty():
        assert ada.event("error")["code"] == "ROOM_NOT_FOUND"
    ada.socket.emit("no_such_event", (b"binary", {"and": b"more"}))
    assert ada.event("error")["code"] == "INVALID_MESSAGE"
    ada.nothing()
    ada.close()


def refused(client, message, code=None):
    try:
        client.connect()
    except socketio.exceptions.ConnectionError:
        pass
    else:
        raise AssertionError("it is connected")
    error = client.state("connect_error")[1]
    assert error["message"].startswith(message), error
    assert code is None or error["data"]["code"] == code, error


def a_connect_without_a_good_token_is_refused():
    refused(Client(user("ada"), auth={"token": "nonsense"}), "401", "AUTH_REQUIRED")
    refused(Client(user("ada"), auth={}), "401", "AUTH_REQUIRED")


def an_unknown_namespace_is_refused():
    client = Client(user("ada"), namespaces=["/nowhere"])
    client.socket.on(
        "connect_error", lambda *data: client.states.append(("connect_error", *data)), namespace="/nowhere"
    )
    refused(client, "Invalid namespace")


def a_backends_disconnect_is_seen():
    ada = Client(user("ada")).connect().welcome()
    answer = publisher.ask(op="disconnect", user=ada.name, code=4001, reason="account locked")
    assert answer == {"ok": True, "connections": 1}, answer
    assert ada.state("disconnect") == ("disconnect", socketio.Client.reason.SERVER_DISCONNECT)
    until("the end", lambda: not ada.socket.connected)


def a_cut_connection_comes_back():
    proxy = Proxy()
    ada = Client(user("ada"), proxy.at, reconnection=True, reconnection_delay=0.05, reconnection_delay_max=0.1)
    ada.connect().welcome()
    room = "trade:BACK-USDC"
    for _ in range(3):
        ada.confirmed("join_room", {"room": room}, "room_joined")
        # A session that was cut between two polls may still be counted.
        assert publisher.publish(room=room, event="tick", data=1) >= 1
        assert ada.event("tick") == 1
        before = len(ada.states)
        proxy.cut()
        assert ada.state("disconnect", before) == ("disconnect", socketio.Client.reason.TRANSPORT_ERROR)
        proxy.open()
        ada.state("connect", before)
        ada.welcome()
    ada.nothing()
    ada.close()


def chat_and_wallet_share_a_connection():
    name, other = user("ada"), user("bob")
    events = queue.Queue()
    client = socketio.Client(reconnection=False)
    for namespace in ["/chat", "/wallet"]:
        record = lambda event, data, namespace=namespace: events.put((namespace, event, data))
        client.on("*", record, namespace=namespace)

    def event(namespace, name):
        of, found, data = events.get(timeout=DEADLINE)
        assert (of, found) == (namespace, name), (of, found, data)
        return data

    client.connect(
        f"http://{ADDRESS[0]}:{ADDRESS[1]}",
        transports=TRANSPORTS,
        auth={"token": token(name)},
        namespaces=["/chat", "/wallet"],
        wait_timeout=DEADLINE,
    )
    welcomes = sorted(events.get(timeout=DEADLINE)[:2] for _ in range(2))
    assert welcomes == [("/chat", "chat:connected"), ("/wallet", "wallet:connected")], welcomes
    sent = client.call("message:send", {"recipientId": other, "content": "hi"}, namespace="/chat", timeout=DEADLINE)
    assert event("/chat", "message:received") == sent
    assert (sent["senderId"], sent["recipientId"], sent["content"]) == (name, other, "hi"), sent
    error = client.call("message:send", {"recipientId": other}, namespace="/chat", timeout=DEADLINE)["error"]
    assert event("/chat", "message:error") == error and error["code"] == "VALIDATION_ERROR", error
    data = {"currency": "BTC", "balance": 0.5}
    assert publisher.publish(user=name, event="balance:updated", data=data) == 1
    assert event("/wallet", "balance:updated") == data
    beat = client.call("heartbeat", {}, namespace="/wallet", timeout=DEADLINE)
    assert event("/wallet", "heartbeat:ack") == beat
    client.disconnect()


def main():
    scenarios = [
        the_welcome_comes_first_and_the_transport_is_the_last,
        rooms_events_and_acks,
        many_events_arrive_in_order,
        messages_between_users,
        errors_say_what_is_wrong,
        a_connect_without_a_good_token_is_refused,
        an_unknown_namespace_is_refused,
        a_backends_disconnect_is_seen,
        a_cut_connection_comes_back,
        chat_and_wallet_share_a_connection,
    ]
    for scenario in scenarios:
        result = {"scenario": scenario.__name__.replace("_", " "), "ok": True}
        try:
            scenario()
        except Exception:
            result |= {"ok": False, "error": traceback.format_exc()}
        print(json.dumps(result), flush=True)
    print(json.dumps({"done": len(scenarios)}), flush=True)
    # Clients of scenarios that failed would keep the process.
    sys.stdout.flush()
    os._exit(0)


main()
