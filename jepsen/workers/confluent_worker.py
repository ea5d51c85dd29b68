"""Clients of librdkafka, by way of confluent-kafka, for a run of `klamm-jepsen test`.

Reads a task (one JSON object, one line) and then words from stdin; writes events of a history to
stdout: see jepsen/src/harness/clients/worker.rs. Stamps are those of CLOCK_MONOTONIC.
"""

import json
import random
import sys
import threading
import time

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

task = json.loads(sys.stdin.readline())
ending = threading.Event()
drained = threading.Event()
pen = threading.Lock()
counters = {"op": 0, "id": task["first_id"]}
partitions = [(topic, number) for topic, count in task["topics"] for number in range(count)]


def table():
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
        yield number


CRC32C = list(table())


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ CRC32C[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def value_of(number):
    """As jepsen/src/harness/content.rs has it."""
    filler = (number * 7919 & 0xFFFFFFFFFFFFFFFF) % 181
    return b"%019d:" % number + bytes([97 + number % 26]) * filler


def tell(process, **what):
    with pen:
        event = {"time": time.monotonic_ns(), "process": process, **what}
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def draw(name):
    with pen:
        counters[name] += 1
        return counters[name]


def invoke(process, call):
    op = draw("op")
    tell(process, type="invoke", op=op, call=call)
    return op


def ok(process, op, answer):
    tell(process, type="ok", op=op, answer=answer)


def info(process, op, error):
    tell(process, type="info", op=op, attempts=[{"error": error}])


def fail(process, op, error):
    tell(process, type="fail", op=op, attempts=[{"error": error}])


def of(topic, number):
    return {"topic": topic, "partition": number}


SHARED = {
    "bootstrap.servers": task["bootstrap"],
    "socket.timeout.ms": 4000,
    "socket.connection.setup.timeout.ms": 2000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "topic.metadata.refresh.interval.ms": 5000,
    "log_level": 3,
}


class Sending:
    """A record that the library has. It ends once, whichever way."""

    def __init__(self, process, op):
        self.process = process
        self.op = op

    def delivered(self, error, message):
        if error is None:
            answer = {
                "f": "send",
                # Of a batch that the broker had already it does not say where.
                "base_offset": -1 if message.offset() is None else message.offset(),
                "log_append_time": -1,
                "log_start_offset": -1,
            }
            ok(self.process, self.op, answer)
        else:
            # librdkafka tells the last error only: an attempt before it may have worked.
            info(self.process, self.op, "TIMEOUT")


def produce(name, idempotent):
    rng = random.Random(f"{task['seed']} {name}")
    library = "idempotent" if idempotent else "repeats"
    # When a record has waited too long, an idempotent librdkafka gives it up, asks for a higher
    # epoch, and sends again under new numbers what else it was waiting for: a broker cannot know
    # that again. So these never give up, and then each record is to be there once.
    patience = 0 if idempotent else 12000
    lives = 0
    while not ending.is_set():
        lives += 1
        process = f"{name}.{lives}"
        producer = Producer(
            {
                **SHARED,
                "client.id": process,
                "acks": "all",
                "enable.idempotence": idempotent,
                "linger.ms": rng.choice([0, 5]),
                "delivery.timeout.ms": patience,
                "request.timeout.ms": 4000,
                "retry.backoff.ms": 50,
            }
        )
        until = time.monotonic() + 25
        broken = False
        while not ending.is_set() and not broken and time.monotonic() < until:
            send(producer, process, library, rng)
            producer.poll(0)
            broken = len(producer) > 200
            time.sleep(0.01)
        # What is not delivered in time has no end in the history: nobody knows.
        producer.flush(15)


def send(producer, process, library, rng):
    topic, number = rng.choice(partitions)
    unique = draw("id")
    value = value_of(unique)
    stamp = int(time.time() * 1000)
    record = {"id": unique, "digest": crc32c(value), "timestamp": stamp}
    call = {
        "f": "send",
        "to": of(topic, number),
        "acks": -1,
        "records": [record],
        "library": library,
    }
    op = invoke(process, call)
    sending = Sending(process, op)
    try:
        producer.produce(
            topic,
            value=value,
            partition=number,
            timestamp=stamp,
            on_delivery=sending.delivered,
        )
    except BufferError:
        fail(process, op, "NOT_SENT")
    except KafkaException:
        # A producer that failed for good takes nothing any more.
        fail(process, op, "NOT_SENT")


def seen(message):
    value = message.value()
    head = (value or b"")[:19]
    return {
        "offset": message.offset(),
        "id": int(head) if len(head) == 19 and head.isdigit() else None,
        "tombstone": value is None,
        "digest": crc32c(value or b""),
        "timestamp": message.timestamp()[1],
    }


def told(positions):
    return [
        {"of": of(topic, number), "offset": offset}
        for (topic, number), offset in sorted(positions.items())
    ]


def grouped(messages):
    """By partition, in the order in which they came."""
    parts = {}
    for message in messages:
        parts.setdefault((message.topic(), message.partition()), []).append(message)
    return parts


def enter_read(process, op, positions, parts):
    fetched = []
    for key, messages in parts.items():
        fetched.append(
            {
                "of": of(*key),
                "from": positions[key],
                "high_watermark": -1,
                "last_stable_offset": -1,
                "log_start_offset": -1,
                "records": [seen(message) for message in messages],
            }
        )
        positions[key] = messages[-1].offset() + 1
    ok(process, op, {"f": "read", "partitions": fetched})


def consumer(process, **settings):
    return Consumer(
        {
            **SHARED,
            "client.id": process,
            "group.id": task["group"],
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_uncommitted",
            "fetch.wait.max.ms": 300,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            **settings,
        }
    )


def reader(name):
    """Assigns all partitions from their starts, again and again."""
    lives = 0
    while not drained.is_set():
        lives += 1
        process = f"{name}.{lives}"
        client = consumer(process)
        positions = {key: 0 for key in partitions}
        client.assign([TopicPartition(topic, number, 0) for topic, number in partitions])
        op = invoke(process, {"f": "assign", "positions": told(positions)})
        ok(process, op, {"f": "assign"})
        until = time.monotonic() + 15
        while not drained.is_set() and time.monotonic() < until:
            call = {"f": "read", "from": told(positions), "committed": False, "library": True}
            op = invoke(process, call)
            messages = client.consume(200, timeout=0.5)
            enter_read(process, op, positions, grouped(m for m in messages if not m.error()))
            if any(is_final(message.error()) for message in messages):
                break
        client.close()


def is_final(error):
    """Whether a consumer has to begin anew."""
    return error is not None and error.code() in (
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
    )


def subscriber(name):
    """A member of a group of one or two. Its commits are not in the history."""
    lives = 0
    while not drained.is_set():
        lives += 1
        process = f"{name}.{lives}"
        client = consumer(process, **{"auto.offset.reset": "earliest"})
        positions = {}

        def moved(_, __):
            positions.clear()

        client.subscribe(
            [topic for topic, _ in task["topics"]], on_assign=moved, on_revoke=moved, on_lost=moved
        )
        until = time.monotonic() + 20
        committed = time.monotonic()
        while not drained.is_set() and time.monotonic() < until:
            messages = [m for m in client.consume(200, timeout=0.5) if not m.error()]
            parts = grouped(messages)
            if not parts:
                continue
            fresh = {key: part[0].offset() for key, part in parts.items() if key not in positions}
            if fresh:
                positions.update(fresh)
                op = invoke(process, {"f": "assign", "positions": told(positions)})
                ok(process, op, {"f": "assign"})
            call = {"f": "read", "from": told(positions), "committed": False, "library": True}
            op = invoke(process, call)
            enter_read(process, op, positions, parts)
            if time.monotonic() - committed > 1:
                committed = time.monotonic()
                commit(client, positions)
        client.close()


def commit(client, positions):
    offsets = [TopicPartition(*key, offset) for key, offset in positions.items()]
    try:
        client.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        print(error, file=sys.stderr)


def listen():
    for line in sys.stdin:
        if line.strip() == "end writing":
            ending.set()
        elif line.strip() == "end":
            break
    ending.set()
    drained.set()


def main():
    name = task["name"]
    threading.Thread(target=listen, daemon=True).start()
    clients = [
        threading.Thread(target=produce, args=(f"{name}-producer", True)),
        threading.Thread(target=produce, args=(f"{name}-plain", False)),
        threading.Thread(target=reader, args=(f"{name}-reader",)),
        threading.Thread(target=subscriber, args=(f"{name}-subscriber",)),
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


main()
