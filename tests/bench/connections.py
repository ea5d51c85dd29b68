#!/usr/bin/env python3
"""What connections cost that bring nothing: klamm beside Apache Kafka, each a single node.

    tests/bench/connections.py [--count 1000] [--seconds 10] [--rounds 3]

First they are only open, after one ApiVersions; then each is a consumer that has read everything: a
Fetch that waits for half a second, answered with nothing, sent again. Tells memory, as it grows from
before the connections to the end of each part, and CPU, as a part of one core, by round.
"""

import argparse
import os
import selectors
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import servers

WAIT_MS = 500
API_VERSIONS, FETCH = 18, 1


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def frame(key, version, body):
    message = struct.pack(">hhi", key, version, 7) + text("connections") + body
    return struct.pack(">i", len(message)) + message


def fetch(topic):
    """Version 4: partition 0 from its start, at least a byte of it."""
    head = struct.pack(">iiiib", -1, WAIT_MS, 1, 1 << 20, 0)
    partition = struct.pack(">iiqi", 1, 0, 0, 1 << 20)
    return frame(FETCH, 4, head + struct.pack(">i", 1) + text(topic) + partition)


def exactly(link, count):
    found = b""
    while len(found) < count:
        got = link.recv(count - len(found))
        if not got:
            raise RuntimeError("the server closed a connection")
        found += got
    return found


def answer(link):
    """Takes one whole answer."""
    exactly(link, struct.unpack(">i", exactly(link, 4))[0])


def spent(server, work):
    """The part of a core that the server computed meanwhile."""
    cpu, began = server.cpu(), time.monotonic()
    work()
    return (server.cpu() - cpu) / (time.monotonic() - began)


def poll(links, request, seconds):
    """Every connection asks again as soon as it has its answer; how many answers there were."""
    ready = selectors.DefaultSelector()
    for link in links:
        ready.register(link, selectors.EVENT_READ)
        link.sendall(request)
    end, answers = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for key, _ in ready.select(0.1):
            answer(key.fileobj)
            key.fileobj.sendall(request)
            answers += 1
    for link in links:
        answer(link)
    return answers


def measure(options, server):
    host, port = server.servers.split(":")
    before = server.resident()
    links = []
    for _ in range(options.count):
        link = socket.create_connection((host, int(port)), 10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(frame(API_VERSIONS, 0, b""))
        answer(link)
        links.append(link)

    def grown():
        return (server.resident() - before) / 2**20

    figures = {"open: MiB": grown()}
    figures["open: cores"] = spent(server, lambda: time.sleep(options.seconds))
    answers = []
    request = fetch("idle")
    work = lambda: answers.append(poll(links, request, options.seconds))
    figures["polling: cores"] = spent(server, work)
    figures["polling: MiB"] = grown()
    figures["answers/s"] = answers[0] / options.seconds
    for link in links:
        link.close()
    return figures


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--klamm", help="its binary; built unless given")
    parser.add_argument("--only", default="klamm,kafka", help="peers, with commas between")
    options = parser.parse_args()
    klamm = options.klamm or servers.build_klamm()
    directory = Path(tempfile.mkdtemp(prefix="klamm-connections-"))
    known, running = {}, []
    try:
        for number in range(options.rounds):
            # New servers each time: what one round left in their memory would hide the next.
            for name in options.only.split(","):
                home = directory / f"{name}-{number}"
                home.mkdir()
                start = {"klamm": lambda: servers.start_klamm(klamm, home, 1)}
                start["kafka"] = lambda: servers.start_kafka(home, 1)
                server = start[name]()
                running.append(server)
                environment = os.environ | {"KLAMM_BOOTSTRAP_SERVERS": server.servers}
                create = [klamm, "topic", "create", "idle", "-p", "1"]
                subprocess.run(create, env=environment, check=True, stdout=subprocess.DEVNULL)
                for figure, value in measure(options, server).items():
                    known.setdefault(figure, {}).setdefault(name, []).append(value)
                running.pop().stop()
    finally:
        for server in running:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{options.count} connections, medians of {options.rounds} rounds (least to most)\n")
    print("| | " + " | ".join(options.only.split(",")) + " |")
    print("| --- |" + " ---: |" * len(options.only.split(",")))
    for figure, peers in known.items():
        cells = []
        for values in peers.values():
            form = "{:,.0f}" if figure.endswith(("MiB", "/s")) else "{:.3f}"
            cells.append(
                f"{form.format(statistics.median(values))} "
                f"({form.format(min(values))} to {form.format(max(values))})"
            )
        print(f"| {figure} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
