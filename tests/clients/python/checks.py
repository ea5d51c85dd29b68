"""What the Python suites share: named checks, sample records, and the story of a group.

A suite registers checks with `@suite.check` and ends with `suite.run()`, which runs them in order,
prints "ok NAME" or "FAIL NAME: why" for each, and exits 0 or 1. A check that hangs fails after its
time limit; a suite that hangs as a whole prints where and exits 1.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections import Counter, namedtuple

BOOTSTRAP = os.environ["BOOTSTRAP"]
# How many the cluster has.
NODES = int(os.environ.get("NODES", "1"))
# Of the topics that are made.
REPLICATION_FACTOR = int(os.environ.get("REPLICATION_FACTOR", "1"))
# How many times as long as on a single node something may take before it counts as stuck: every
# node has a replica of everything, on the same machine.
PATIENCE = 1 if NODES == 1 else 4
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RUN = uuid.uuid4().hex[:8]

Record = namedtuple("Record", "key value headers timestamp")
Received = namedtuple("Received", "partition offset value")


def unique(name):
    """A topic or group name no other run uses."""
    return f"{name}-{RUN}-{uuid.uuid4().hex[:6]}"


def sample_records(null_headers=True):
    """Records that between them hold what a broker may damage: nulls, empties, repeated headers,
    bytes that are not text, a value large enough to be worth compressing, times out of order.
    Not every library can send a header whose value is null."""
    now = int(time.time() * 1000) - 60_000
    return [
        Record(b"key", b"value", [("header", b"1")], now),
        Record(None, b"no key", [], now + 5),
        Record(b"tombstone", None, [], now + 3),
        Record(b"", b"", [("empty", b""), ("null", None if null_headers else b"")], now + 1),
        Record(b"\x00\xff\xfe", bytes(range(256)), [("twice", b"a"), ("twice", b"b")], now + 2),
        Record("schlüssel".encode(), "größe ✓".encode(), [("naïve-✓", b"\x00")], now + 1_000),
        Record(b"large", b"0123456789abcdef" * 8_192, [], now + 7),
        Record(b"last", b"x", [(f"h{i}", str(i).encode()) for i in range(40)], now),
    ]


def expect(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {short(expected)}, got {short(actual)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"


class NotInTime(AssertionError):
    """What should have come has not come yet: no verdict on what came."""


class ClientFailed(Exception):
    """The library under test gave up, and not the check."""


def wait_until(condition, what, limit=20.0, pause=0.05):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + limit
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {limit:g} s: {what}")
        time.sleep(pause)


def compare(received, sent, what):
    """Compares (offset, Record) pairs with what was sent from offset 0 on."""
    expect([offset for offset, _ in received], list(range(len(sent))), f"{what}: offsets")
    for (offset, got), wanted in zip(received, sent):
        for field in Record._fields:
            expected = getattr(wanted, field)
            expect(getattr(got, field), expected, f"{what}: {field} of offset {offset}")


class Suite:
    def __init__(self, name, limit=120, check_limit=45):
        self.name = name
        self.limit, self.check_limit = PATIENCE * limit, PATIENCE * check_limit
        self.checks = []

    def check(self, function):
        self.checks.append((function.__name__.replace("_", " "), function))
        return function

    def parametrized(self, *parameters):
        """One check for each parameter, which becomes part of its name."""

        def register(function):
            for parameter in parameters:
                name = f"{function.__name__.replace('_', ' ')} [{parameter}]"
                self.checks.append((name, lambda p=parameter: function(p)))
            return function

        return register

    def run(self):
        def expired(_signal, _frame):
            raise TimeoutError(f"still running after {self.check_limit} s")

        faulthandler.dump_traceback_later(self.limit, exit=True)
        signal.signal(signal.SIGALRM, expired)
        only = os.environ.get("ONLY", "")
        failed = 0
        for name, function in self.checks:
            if only in name:
                failed += not self.passes(name, function)
        print(f"{self.name}: {failed} of {len(self.checks)} checks failed", flush=True)
        sys.stdout.flush()
        # Clients whose threads do not end must not keep the suite alive.
        os._exit(1 if failed else 0)


    def passes(self, name, function):
        """Whether the check passes.

        While a node is restarted (RESTARTS=1), a check that came to no verdict is tried twice more,
        with new topics and groups, and says so: libraries leave it to their users to go on after
        some errors, and some get stuck for good. What a check found to be wrong is wrong at once.
        """
        left = 2 if os.environ.get("RESTARTS") == "1" else 0
        while True:
            started = time.monotonic()
            signal.alarm(self.check_limit)
            try:
                function()
                signal.alarm(0)
                took = time.monotonic() - started
                print(f"ok {self.name}: {name} ({took:.1f} s)", flush=True)
                return True
            except BaseException as error:  # a check may die of anything, a time-out included
                signal.alarm(0)
                if isinstance(error, KeyboardInterrupt):
                    raise
                is_verdict = isinstance(error, AssertionError) and not isinstance(error, NotInTime)
                again = left > 0 and not is_verdict
                why = " ".join(f"{type(error).__name__}: {error}".split())
                print(f"{'RETRIED' if again else 'FAIL'} {self.name}: {name}: {why}", flush=True)
                traceback.print_exc()
                if not again:
                    return False
                left -= 1


class Member(threading.Thread):
    """A group member in a thread of its own. `open_client` returns an object with poll() ->
    [Received], assignment() -> set of partitions, and close()."""

    def __init__(self, open_client):
        super().__init__(daemon=True)
        self.open_client = open_client
        self.received, self.owned, self.error = [], set(), None
        self.leaving = threading.Event()
        self.start()

    def run(self):
        try:
            client = self.open_client()
            try:
                while not self.leaving.is_set():
                    self.received.extend(client.poll())
                    self.owned = set(client.assignment())
            finally:
                self.owned = set()
                client.close()
        except Exception as error:
            traceback.print_exc()
            self.error = error

    def leave(self):
        self.leaving.set()
        self.join(20)
        if self.is_alive():
            raise ClientFailed("a member did not close within 20 s")
        self.fail_on_error()

    def fail_on_error(self):
        if self.error is not None:
            raise ClientFailed(f"a member failed: {self.error!r}")


def shared_between(members, partitions):
    """Whether the members own disjoint, non-empty shares of all partitions."""
    for member in members:
        member.fail_on_error()
    owned = [set(member.owned) for member in members]
    return all(owned) and sorted(p for share in owned for p in share) == list(range(partitions))


def two_members_and_one_leaves(open_client, produce, partitions, while_stable=lambda: None):
    """The story every group must survive. `produce(values)` appends values over all partitions."""
    members = [Member(open_client), Member(open_client)]
    try:
        first, second = members
        wait_until(lambda: shared_between(members, partitions), "two members share the partitions")
        while_stable()
        before = [f"before-{i}".encode() for i in range(100)]
        produce(before)
        both = lambda: first.received + second.received
        wait_until(lambda: len(both()) >= len(before), "both together read all records")
        if not first.received or not second.received:
            raise AssertionError("one of two members read nothing")
        second.leave()
        after = [f"after-{i}".encode() for i in range(100)]
        produce(after)
        wait_until(lambda: shared_between([first], partitions), "the survivor owns everything")
        wait_until(
            lambda: len({r.value for r in both()}) >= len(before) + len(after),
            "the survivor read the rest",
        )
        time.sleep(0.3)
        counts = Counter(r.value for r in both())
        expect(set(counts), set(before + after), "the records read")
        repeated = [value for value, count in counts.items() if count > 1]
        expect(repeated, [], "records read twice although every member left in order")
        places = {(r.partition, r.offset): r.value for r in both()}
        expect(len(places), len(before) + len(after), "distinct places of the records read")
    finally:
        for member in members:
            member.leave()
