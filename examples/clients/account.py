"""The app account: what happens to a user, over a plain WebSocket.

    python3 account.py
"""

import json
import os
import random
import time
import urllib.request

import websocket

URL = os.environ.get("BROKER_URL", "http://127.0.0.1:8080")
# Seconds between pings: what the app's clients do.
PING = 15


def call(path, token=None, body=None):
    """POSTs to the broker; returns what it answers."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(URL + path, json.dumps(body or {}).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def connect():
    """Signs in, asks for a token for one connection, and connects."""
    credentials = {
        "email": os.environ.get("EMAIL", "user@example.com"),
        "password": os.environ.get("PASSWORD", "password123"),
    }
    access = call("/api/auth/login", body=credentials)["access_token"]
    token = call("/api/websocket/token", token=access)["token"]
    address = URL.replace("http", "ws", 1)
    return websocket.create_connection(
        f"{address}/ws?token={token}&platform=ios&version=1.0.0&device=iPhone15,2", timeout=PING
    )


def listen(connection):
    """Prints what comes until the connection ends."""
    while True:
        try:
            text = connection.recv()
        except websocket.WebSocketTimeoutException:
            connection.send(json.dumps({"type": "ping"}))
            continue
        if not text:
            return
        message = json.loads(text)
        print(message.pop("type"), json.dumps(message), flush=True)


def main():
    failures = 0
    while True:
        try:
            connection = connect()
            print("connected", flush=True)
            failures = 0
            connection.send(json.dumps({"type": "ping"}))
            listen(connection)
        except (OSError, websocket.WebSocketException) as error:
            print("error", error, flush=True)
        # 1 s, 2 s, 4 s …, at most 30 s, each with some chance in it: not all clients come at the same moment.
        time.sleep(min(30, 2**failures) * random.uniform(0.5, 1))
        failures += 1


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
