"""A Stripe of ours: a server that keeps keys, limits and signatures as Stripe documents them, and fails on demand."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

SECRET_KEY = "sk_test_fake"
WEBHOOK_SECRET = "whsec_fake"


class Refuse(Exception):
    def __init__(self, status, code, message, *, kind="invalid_request_error", **more):
        self.status = status
        self.error = {"type": kind, "code": code, "message": message, **more}


class FakeStripe:
    """Its books, its faults, and what people do in its dashboard.

    fault(what, where)  the next call whose path contains `where` goes wrong:
        drop_before, drop_after  the connection is cut before or after it acts
        500_before, 500_after, 403, 429, slow, decline (of a card)
        500_kept  it began and failed, and Stripe keeps the 500 under its key: every repetition gets it again
        lock_timeout, key_in_use  somebody else has the object, or the key, just now
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.at_work = AtWork()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, or each call takes 40 ms
            disable_nagle_algorithm = True

            def do_GET(self):
                with fake.at_work:
                    fake.answer(self, "GET")

            def do_POST(self):
                with fake.at_work:
                    fake.answer(self, "POST")

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a cut connection is meant

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.reset()
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def reset(self):
        self.at_work.wait()  # what nobody waited for is not to act in the next test's books
        self.intents, self.charges, self.refunds, self.disputes, self.events = {}, {}, {}, {}, []
        self.replies, self.faults, self.calls = {}, [], []
        self.numbers = itertools.count(1)
        self.account = "acct_fake"
        self.slow_seconds = 0.3

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def fault(self, what, where="", times=1):
        self.faults += [(what, where)] * times

    # --- the wire -------------------------------------------------------------------------------------------------

    def answer(self, wire, method):
        path = urlsplit(wire.path)
        sent = wire.rfile.read(int(wire.headers.get("Content-Length") or 0)).decode()
        params = nested(parse_qsl(sent or path.query, keep_blank_values=True))
        with self.lock:
            fault = next((f for f in self.faults if f[1] in f"{method} {path.path}"), ("", ""))
            if fault[0]:
                self.faults.remove(fault)
        if fault[0] == "drop_before":
            return cut(wire)
        if fault[0] == "slow":
            time.sleep(self.slow_seconds)
        if wire.headers.get("Authorization") != f"Bearer {SECRET_KEY}":
            status, body, replayed = 401, {"error": {"type": "invalid_request_error", "message": "No such key."}}, False
        elif fault[0] == "403":
            status, body, replayed = 403, {"error": {"type": "invalid_request_error", "message": "Not yours."}}, False
        elif fault[0] == "500_kept":
            status, body, replayed = 500, {"error": {"type": "api_error", "message": "Something broke."}}, False
            same = json.dumps([method, path.path, params], sort_keys=True)
            self.replies[wire.headers.get("Idempotency-Key")] = same, status, json.dumps(body)
        elif fault[0] == "lock_timeout":
            error = {"type": "invalid_request_error", "code": "lock_timeout", "message": "In use by another request."}
            status, body, replayed = 429, {"error": error}, False
        elif fault[0] == "key_in_use":
            error = {"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "Still going through."}
            status, body, replayed = 409, {"error": error}, False
        elif fault[0] in {"429", "500_before"}:
            status, body, replayed = int(fault[0][:3]), {"error": {"type": "api_error", "message": "Not now."}}, False
        else:
            with self.lock:
                self.card_says_no = fault[0] == "decline"
                status, body, replayed = self.keyed(method, path.path, params, wire.headers.get("Idempotency-Key"))
        if fault[0] == "drop_after":
            return cut(wire)
        if fault[0] == "500_after":
            status, body = 500, {"error": {"type": "api_error", "message": "Something broke."}}
        text = json.dumps(body).encode()
        wire.send_response(status)
        wire.send_header("Content-Type", "application/json")
        wire.send_header("Content-Length", str(len(text)))
        if replayed:
            wire.send_header("Idempotent-Replayed", "true")
        wire.end_headers()
        with suppress(OSError):
            wire.wfile.write(text)

    def keyed(self, method, path, params, key):
        """The same key gives the same answer, and is refused with anything else."""
        self.calls.append((method, path, key))
        same = json.dumps([method, path, params], sort_keys=True)
        if method == "POST" and key in self.replies:
            before, status, body = self.replies[key]
            if before != same:
                words = "Keys for idempotent requests can only be used with the same parameters."
                return 400, {"error": {"type": "idempotency_error", "message": words}}, False
            return status, json.loads(body), True
        try:
            status, body = 200, self.act(method, path.strip("/").split("/")[1:], params)
        except Refuse as no:
            status, body = no.status, {"error": no.error}
        if method == "POST" and key:
            self.replies[key] = same, status, json.dumps(body)
        return status, body, False

    def act(self, method, parts, params):
        match method, parts:
            case "POST", ["payment_intents"]:
                return self.create(params)
            case "POST", ["payment_intents", reference, "capture"]:
                return self.capture(self.get(self.intents, reference), params)
            case "POST", ["payment_intents", reference, "cancel"]:
                return self.cancel(self.get(self.intents, reference))
            case "POST", ["refunds"]:
                return self.refund(params)
            case "GET", ["account"]:
                return {"id": self.account, "object": "account"}
            case "GET", [name]:
                return self.listed(name, params)
            case "GET", [name, reference]:
                return self.shown(self.get(getattr(self, TABLES[name]), reference), params.get("expand", {}).values())
        raise Refuse(404, "resource_missing", "Unrecognized request URL.")

    def get(self, table, reference):
        if reference not in table:
            raise Refuse(404, "resource_missing", f"No such object: '{reference}'")
        return table[reference]

    def shown(self, row, expand=()):
        if row["object"] == "payment_intent" and any("latest_charge" in name for name in expand):
            return {**row, "latest_charge": self.charges.get(row["latest_charge"])}
        return row

    def listed(self, name, params):
        rows = sorted(getattr(self, TABLES[name]).values(), key=lambda row: (row["created"], row["n"]), reverse=True)
        created = params.get("created", {})
        rows = [
            row
            for row in rows
            if int(created.get("gte", 0)) <= row["created"] <= int(created.get("lte", 10**12))
            and params.get("payment_intent") in {None, row.get("payment_intent")}
        ]
        if after := params.get("starting_after"):
            rows = rows[[row["id"] for row in rows].index(after) + 1 :]
        limit = min(int(params.get("limit", 10)), self.page_limit)
        some = [self.shown(row, params.get("expand", {}).values()) for row in rows[:limit]]
        return {"object": "list", "data": some, "has_more": len(rows) > limit, "url": f"/v1/{name}"}

    page_limit = 100

    def new(self, kind, prefix, **fields):
        n = next(self.numbers)
        return {"id": f"{prefix}_{n:04}", "object": kind, "created": int(time.time()), "n": n, **fields}

    # --- PaymentIntents -------------------------------------------------------------------------------------------

    def create(self, params):
        amount = int(params["amount"])
        if amount < 1:
            raise Refuse(400, "parameter_invalid_integer", "Invalid positive integer")
        intent = self.new(
            "payment_intent",
            "pi",
            amount=amount,
            currency=params["currency"],
            capture_method=params["capture_method"],
            amount_capturable=0,
            amount_received=0,
            latest_charge=None,
            last_payment_error=None,
            next_action=None,
            canceled_at=None,
            metadata=params.get("metadata", {}),
            payment_method=params["payment_method"],
            status="requires_confirmation",
        )
        intent["client_secret"] = f"{intent['id']}_secret_x"
        self.intents[intent["id"]] = intent
        method = params["payment_method"]
        if "declined" in method or self.card_says_no:
            self.decline(intent)
            words = "Your card has insufficient funds."
            raise Refuse(
                402, "card_declined", words, kind="card_error", decline_code="insufficient_funds", payment_intent=intent
            )
        if "3ds" in method:
            intent["status"] = "requires_action"
            back = params.get("return_url")
            redirect = {"type": "redirect_to_url", "redirect_to_url": {"url": f"{self.url}/3ds", "return_url": back}}
            intent["next_action"] = redirect if back else {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
            self.event("payment_intent.requires_action", intent)
        else:
            self.hold(intent)
        return intent

    def hold(self, intent):
        several = {"card": {"multicapture": {"status": "available"}}} if "several" in intent["payment_method"] else {}
        charge = self.new("charge", "ch", status="succeeded", amount=intent["amount"], payment_method_details=several)
        self.charges[charge["id"]] = charge
        intent.update(
            status="requires_capture",
            amount_capturable=intent["amount"],
            latest_charge=charge["id"],
            next_action=None,
            last_payment_error=None,
        )
        self.event("payment_intent.amount_capturable_updated", intent)

    def decline(self, intent):
        charge = self.new("charge", "ch", status="failed", amount=intent["amount"], payment_method_details={})
        self.charges[charge["id"]] = charge
        error = {"code": "card_declined", "decline_code": "insufficient_funds", "message": "Insufficient funds."}
        intent.update(
            status="requires_payment_method", latest_charge=charge["id"], last_payment_error=error, next_action=None
        )
        self.event("payment_intent.payment_failed", intent)

    def capture(self, intent, params):
        if intent["status"] != "requires_capture":
            words = f"This PaymentIntent could not be captured because it has a status of {intent['status']}."
            raise Refuse(400, "payment_intent_unexpected_state", words)
        units = int(params.get("amount_to_capture", intent["amount_capturable"]))
        rest = intent["amount_capturable"] - units
        if units > intent["amount_capturable"]:
            raise Refuse(400, "amount_too_large", "The amount could not be captured: it is too large.")
        final = params.get("final_capture", "true") == "true"
        if not final and "several" not in intent["payment_method"]:
            raise Refuse(400, "capture_unavailable", "final_capture is only for multicapture.")
        intent["metadata"].update(params.get("metadata", {}))
        intent["amount_received"] += units
        intent["amount_capturable"] = 0 if final else intent["amount_capturable"] - units
        if not intent["amount_capturable"]:
            intent["status"] = "succeeded"
            self.event("payment_intent.succeeded", intent)
            self.release(intent, rest)
        else:
            charge = {**self.charges[intent["latest_charge"]], "payment_intent": intent["id"]}
            self.event("charge.captured", charge)
        return intent

    def cancel(self, intent):
        if intent["status"] in {"succeeded", "canceled"}:
            words = f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}."
            raise Refuse(400, "payment_intent_unexpected_state", words)
        rest = intent["amount_capturable"]
        intent.update(status="canceled", amount_capturable=0, next_action=None, canceled_at=int(time.time()))
        self.event("payment_intent.canceled", intent)
        self.release(intent, rest)
        return intent

    def release(self, intent, units):
        """What was held and is not any more is a refund, too, as Stripe sees it: one that moves nothing."""
        if units:
            refund = self.new(
                "refund",
                "re",
                amount=units,
                currency=intent["currency"],
                charge=intent["latest_charge"],
                payment_intent=intent["id"],
                metadata={},
                status="succeeded",
                balance_transaction=None,
                failure_reason=None,
            )
            self.refunds[refund["id"]] = refund
            self.event("refund.created", refund)
            charge = {**self.charges[intent["latest_charge"]], "payment_intent": intent["id"]}
            self.event("charge.refunded", charge)

    def moving_refunds(self):
        return [refund for refund in self.refunds.values() if refund["balance_transaction"]]

    # --- refunds and disputes -------------------------------------------------------------------------------------

    def refund(self, params):
        intent = self.get(self.intents, params["payment_intent"])
        units = int(params["amount"])
        mine = [r for r in self.moving_refunds() if r["payment_intent"] == intent["id"]]
        left = intent["amount_received"] - sum(r["amount"] for r in mine if r["status"] != "failed")
        if units > left:
            raise Refuse(400, "charge_already_refunded" if not left else "amount_too_large", f"Only {left} is left.")
        # An inquiry has taken nothing yet: a refund is one way to answer it.
        against = [d for d in self.disputes.values() if d["payment_intent"] == intent["id"]]
        if any(d["status"] != "won" and not d["status"].startswith("warning_") for d in against):
            raise Refuse(400, "charge_disputed", "The charge is disputed.")
        refund = self.new(
            "refund",
            "re",
            amount=units,
            currency=intent["currency"],
            charge=intent["latest_charge"],
            payment_intent=intent["id"],
            metadata=params.get("metadata", {}),
            status="pending" if "pending" in intent["payment_method"] else "succeeded",
            balance_transaction=f"txn_{next(self.numbers)}",
            failure_reason=None,
        )
        self.refunds[refund["id"]] = refund
        self.event("refund.created", refund)
        return refund

    # --- the dashboard, the customer and their bank ---------------------------------------------------------------

    def finish_3ds(self, reference, *, ok=True):
        (self.hold if ok else self.decline)(self.intents[reference])

    def refund_in_dashboard(self, reference, units):
        return self.refund({"payment_intent": reference, "amount": units})

    def capture_in_dashboard(self, reference, units, *, final=True):
        params = {"amount_to_capture": units, "final_capture": "true" if final else "false"}
        return self.capture(self.intents[reference], params)

    def cancel_in_dashboard(self, reference):
        """As it also does by itself, when a hold lapses."""
        return self.cancel(self.intents[reference])

    def refund_becomes(self, reference, status):
        refund = self.refunds[reference]
        refund.update(status=status, failure_reason="lost_or_stolen_card" if status == "failed" else None)
        self.event("refund.failed" if status == "failed" else "refund.updated", refund)

    def dispute(self, reference, units):
        intent = self.intents[reference]
        dispute = self.new(
            "dispute",
            "du",
            amount=units,
            currency=intent["currency"],
            charge=intent["latest_charge"],
            payment_intent=reference,
            reason="product_not_received",
            status="needs_response",
            evidence_details={"due_by": int(time.time()) + 9 * 86400},
            metadata={},
        )
        self.disputes[dispute["id"]] = dispute
        self.event("charge.dispute.created", dispute)
        return dispute

    def dispute_becomes(self, reference, status, *, due_by=None):
        self.disputes[reference]["status"] = status
        if due_by:
            self.disputes[reference]["evidence_details"] = {"due_by": due_by}
        ended = status in {"won", "lost", "prevented"}
        self.event("charge.dispute.closed" if ended else "charge.dispute.updated", self.disputes[reference])

    # --- webhooks out ---------------------------------------------------------------------------------------------

    def event(self, kind, thing):
        event = self.new("event", "evt", type=kind, data={"object": json.loads(json.dumps(thing))})
        self.events.append(event)

    def signed(self, event, *, secret=WEBHOOK_SECRET, at=None):
        """Body and signature of a delivery."""
        body, at = json.dumps(event), int(at or time.time())
        mac = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
        return body, f"t={at},v1={mac}"

    # --- its books ------------------------------------------------------------------------------------------------

    def moved(self):
        """What moved, by operation, in units."""
        held = [
            i
            for i in self.intents.values()
            if (self.charges.get(i["latest_charge"]) or {}).get("status") == "succeeded"
        ]
        sums = {
            "authorize": sum(i["amount"] for i in held),
            "capture": sum(i["amount_received"] for i in held),
            "void": sum(i["amount"] - i["amount_received"] for i in held if i["status"] == "canceled"),
            "refund": sum(r["amount"] for r in self.moving_refunds() if r["status"] == "succeeded"),
        }
        return {name: units for name, units in sums.items() if units}


class AtWork:
    """How many calls are being answered."""

    def __init__(self):
        self.changed, self.count = threading.Condition(), 0

    def __enter__(self):
        with self.changed:
            self.count += 1

    def __exit__(self, *error):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def wait(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.count, timeout=10)


TABLES = {"payment_intents": "intents", "refunds": "refunds", "disputes": "disputes"}


def nested(pairs):
    """metadata[a]=1&expand[0]=x → {"metadata": {"a": "1"}, "expand": {"0": "x"}}."""
    found = {}
    for name, value in pairs:
        steps = name.replace("]", "").split("[")
        at = found
        for step in steps[:-1]:
            at = at.setdefault(step, {})
        at[steps[-1]] = value
    return found


def cut(wire):
    wire.close_connection = True
    with suppress(OSError):
        wire.connection.shutdown(2)
