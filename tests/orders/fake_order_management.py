"""An order management system of ours: it keeps keys and signatures, cancels for itself, and fails on demand."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

SECRET = "whsec_" + "b3JkZXJkZXNrLXRlc3RzLW9ubHktc2VjcmV0LTMyYnl0ZXM="
GATEWAY = "orders.gateways.HttpOrderManagement"


class FakeOrderManagement:
    """Its orders, its faults and its notices.

    fault(what, where)  the next call whose "METHOD path" contains `where` goes wrong:
        slow         it answers after the desk's patience is over; what it was asked it has done
        slow_deaf    the same, and it has done nothing
        500          it has done it and says that something broke
        500_deaf     it has done nothing and says that something broke
        drop         it has done it, and the connection is cut
        pending      it says 202, and does nothing yet
        refuse       it says 409
        lie          it says that it is done, and has not done it
        busy         503 with Retry-After: 0
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.let_go = threading.Event()
        self.orders, self.requests, self.faults, self.calls, self.bad = {}, {}, [], [], []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                fake.answer(self, "GET")

            def do_POST(self):
                fake.answer(self, "POST")

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass  # a cut connection is meant

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()

    def fault(self, what, where="POST", times=1):
        self.faults += [(what, where)] * times

    def posts(self):
        return [key for method, _path, key in self.calls if method == "POST"]

    def cancelled(self, number):
        """SKU → units cancelled here."""
        return {sku: units for sku, units in self.orders.get(number, {}).items() if units}

    # --- the wire -------------------------------------------------------------------------------------------------

    def answer(self, wire, method):
        path = wire.path
        sent = wire.rfile.read(int(wire.headers.get("Content-Length") or 0))
        try:
            Webhook(SECRET).verify(sent, dict(wire.headers), json_parse=False)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.bad.append(f"{method} {path}: {error}")
            return self.say(wire, 401, {"message": "bad signature"})
        with self.lock:
            fault = next((f for f in self.faults if f[1] in f"{method} {path}"), ("", ""))
            if fault[0]:
                self.faults.remove(fault)
            key = wire.headers.get("Idempotency-Key", "")
            self.calls.append((method, path, key))
            deaf = fault[0] in {"slow_deaf", "500_deaf", "pending", "refuse", "lie", "busy"}
            status, body = (200, {"status": "done"}) if deaf else self.act(method, path, key, sent)
            if fault[0] in {"pending", "refuse"}:
                self.requests[key] = (fault[0] if fault[0] == "pending" else "refused", json.loads(sent))
        if fault[0].startswith("slow"):
            self.let_go.wait(5)
        if fault[0] == "drop":
            with suppress(OSError):
                wire.connection.shutdown(2)
            wire.close_connection = True
            return None
        if fault[0].startswith("500"):
            return self.say(wire, 500, {"message": "Something broke."})
        if fault[0] == "pending":
            return self.say(wire, 202, {"status": "pending"})
        if fault[0] == "refuse":
            return self.say(wire, 409, {"status": "refused", "message": "It is packed already."})
        if fault[0] == "busy":
            return self.say(wire, 503, {"message": "Later."}, {"Retry-After": "0"})
        return self.say(wire, status, body)

    def say(self, wire, status, body, more=None):
        text = json.dumps(body).encode()
        with suppress(OSError):
            wire.send_response(status)
            wire.send_header("Content-Type", "application/json")
            wire.send_header("Content-Length", str(len(text)))
            for name, value in (more or {}).items():
                wire.send_header(name, value)
            wire.end_headers()
            wire.wfile.write(text)

    # --- what it does ---------------------------------------------------------------------------------------------

    def act(self, method, path, key, sent):
        parts = path.strip("/").split("/")
        if method == "GET" and parts[0] == "orders":
            return 200, {"number": parts[1], "status": "open"}
        if method == "GET":
            known = self.requests.get(parts[1])
            return (404, {"message": "never heard of it"}) if known is None else (200, {"status": known[0]})
        if key not in self.requests:
            self.do(key, json.loads(sent))
        return 200, {"status": self.requests[key][0]}

    def do(self, key, body):
        """Do what a request asks for, for good."""
        for item in body.get("items", []):
            order = self.orders.setdefault(body["order"], {})
            order[item["sku"]] = order.get(item["sku"], 0) + item["units"]
        self.requests[key] = ("done", body)

    def confirm(self, key):
        """Do now what it had only accepted."""
        self.do(key, self.requests[key][1])


def notice(kind, *, event_id="", secret=SECRET, at=None, **data):
    """A signed notice: body and headers."""
    event_id, at = event_id or f"msg_{uuid.uuid4().hex}", at or datetime.now(tz=UTC)
    text = json.dumps({"type": kind, "timestamp": at.isoformat(), "data": data})
    return text, {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, at, text),
    }


def tell(client, kind, **more):
    """The fake tells the desk something by itself."""
    text, headers = notice(kind, **more)
    return client.post("/orders/management/webhook/", text, content_type="application/json", headers=headers)
