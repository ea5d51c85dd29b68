#!/usr/bin/env python3
"""What one node does with many partitions, and how it starts after a crash with much to look over.

    tests/bench/limits.py partitions [--partitions 10000] [--rounds 3]
    tests/bench/limits.py crash [--gigabytes 10] [--partitions 16]

`partitions` makes topics of 1,000 partitions until there are as many, and tells what the node holds
in memory, how long it takes to start after a clean stop and after a kill, and until something was
produced then, and how long it takes to delete a topic of 1,000 partitions that hold records. Then
it produces, in turn and another one first in each round, to 16 partitions of a node that has no
others, to 16 beside the many, and to as many as `--spread` says beside the many (1,000, 10,000);
and tells rates, CPU and memory, and the rates' ratio to the first in the same round.

`crash` fills a topic, kills the node, and tells how long it takes until it is ready again: with the
files in the page cache, and with them on the disk only. With `--durability replicated` nothing of
it was synced, and all of it is written once more.

Loads come from kload (KLOAD or --load) or from `klamm perf`, as in compare.py.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compare
import loads
import servers

TOPIC_PARTITIONS = 1000
NODES = []
READYZ = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Node:
    """One klamm process and its data, which outlive each other."""

    def __init__(self, binary, directory, name, overrides):
        self.binary, self.overrides = binary, overrides
        self.data = directory / name
        self.log = directory / f"{name}.log"
        self.port, self.admin = servers.free_port(), servers.free_port()
        self.servers = f"127.0.0.1:{self.port}"
        self.process = None
        NODES.append(self)

    def is_ready(self):
        if self.process.poll() is not None:
            sys.exit(f"klamm ended: {self.log.read_text()[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", self.admin), 1) as link:
                link.sendall(READYZ)
                return b" 200 " in link.recv(64)
        except OSError:
            return False

    def start(self):
        """Starts the process; the seconds until it was ready."""
        settings = {
            "log.dirs": self.data,
            "listeners": f"PLAINTEXT://{self.servers}",
            "klamm.admin.listener": f"127.0.0.1:{self.admin}",
        }
        command = [self.binary]
        for key, value in (settings | self.overrides).items():
            command += ["--override", f"{key}={value}"]
        log = open(self.log, "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while not self.is_ready():
            time.sleep(0.002)
        return time.monotonic() - began

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(600)

    def server(self):
        return servers.Server("klamm", [self.process.pid], self.servers, self.stop)

    def mib(self):
        return self.server().resident() / 2**20

    def klamm(self, *arguments, check=True, stdin=b""):
        environment = os.environ | {"KLAMM_BOOTSTRAP_SERVERS": self.servers}
        command = [self.binary, *map(str, arguments)]
        quiet = {"stdout": subprocess.DEVNULL}
        subprocess.run(command, env=environment, check=check, input=stdin, **quiet)


def produce_one(node):
    """One durable record, by a client process that begins now."""
    node.klamm("produce", "one", stdin=b"record\n")


def produce(load, node, topic, partitions, count):
    peer = compare.Peer("klamm", node.server())
    shape = compare.workload(1024, count, partitions=partitions)
    # Before the load, so that its CPU is not counted.
    node.klamm("topic", "create", topic, "-p", partitions)
    figures = compare.measured(peer, 1024 * count, lambda: load.produce(peer, topic, shape))
    # It happens all the same where the answer takes longer than is waited for.
    began = time.monotonic()
    node.klamm("topic", "delete", topic, check=False)
    return figures | {"delete": time.monotonic() - began}


def told(name, rounds, base):
    def middle(figure):
        return statistics.median(each[figure] for each in rounds)

    rates = [each["rate"] for each in rounds]
    ratios = [each["rate"] / other["rate"] for each, other in zip(rounds, base)]
    middle_base = statistics.median(each["rate"] for each in base)
    print(
        f"{name:<34} {middle('rate'):9,.0f} records/s ({min(rates):,.0f} to {max(rates):,.0f}), "
        f"{middle('cpu s/GB'):.2f} CPU s/GB, {middle('MiB'):.0f} MiB, "
        f"deleted in {middle('delete'):.2f} s; to the first: "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
        f"of medians {statistics.median(rates) / middle_base:.2f}"
    )


def partitions(options, load, directory):
    few = Node(options.klamm, directory, "few", {})
    many = Node(options.klamm, directory, "many", {})
    few.start()
    many.start()
    print(f"idle, no partitions: {many.mib():.0f} MiB")
    began = time.monotonic()
    for number in range(options.partitions // TOPIC_PARTITIONS):
        many.klamm("topic", "create", f"many-{number}", "-p", TOPIC_PARTITIONS)
    print(f"{options.partitions} partitions made in {time.monotonic() - began:.1f} s")
    print(f"idle, with them: {many.mib():.0f} MiB")
    many.klamm("topic", "create", "one", "-p", 1)
    for name, end in (("a clean stop", signal.SIGTERM), ("a kill", signal.SIGKILL)):
        began = time.monotonic()
        many.stop(end)
        stopped = time.monotonic()
        ready = many.start()
        produce_one(many)
        first = time.monotonic() - stopped
        print(
            f"{name}: {stopped - began:.2f} s; start after it: {ready:.2f} s, "
            f"{many.mib():.0f} MiB; "
            f"until a record was produced: {first:.2f} s"
        )
    known = {}
    shapes = [("16 partitions, no others", few, 16), ("16 partitions beside the many", many, 16)]
    for count in map(int, options.spread.split(",")):
        shapes.append((f"{count} partitions beside the many", many, count))
    for number in range(options.rounds):
        first = number % len(shapes)
        for name, node, count in shapes[first:] + shapes[:first]:
            figures = produce(load, node, f"load-{number}-{count}", count, options.records)
            known.setdefault(name, []).append(figures)
    base = known[shapes[0][0]]
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    for name, _, _ in shapes:
        told(name, known[name], base)
    many.stop()
    few.stop()


def forget(directory):
    """Takes the files below `directory` out of the page cache."""
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def crash(options, load, directory):
    node = Node(options.klamm, directory, "crash", {"klamm.durability": options.durability})
    node.start()
    count = options.gigabytes * 10**9 // 1024
    peer = compare.Peer("klamm", node.server())
    shape = compare.workload(1024, count, partitions=min(options.partitions, 16))
    load.produce(peer, "much", shape)
    print(f"{options.gigabytes} GB in {shape['partitions']} partitions, {node.mib():.0f} MiB")
    # What a power loss would leave differs; how much there is to read does not.
    os.sync()
    node.stop(signal.SIGKILL)
    print(f"start after a kill, files in memory: {node.start():.2f} s, {node.mib():.0f} MiB")
    node.stop(signal.SIGKILL)
    forget(node.data)
    print(f"start after a kill, files on disk: {node.start():.2f} s, {node.mib():.0f} MiB")
    node.stop()
    print(f"start after a clean stop: {node.start():.2f} s, {node.mib():.0f} MiB")
    node.stop(signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("partitions", "crash"))
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--gigabytes", type=int, default=10)
    parser.add_argument("--durability", default="fsync", choices=("fsync", "replicated"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spread", default="1000", help="partitions to spread over, by commas")
    parser.add_argument("--records", type=int, default=500_000, help="of a round")
    parser.add_argument("--load", default=os.environ.get("KLOAD"), help="kload's binary")
    parser.add_argument("--klamm", help="its binary; built unless given")
    parser.add_argument("--directory", help="where the node keeps its data")
    options = parser.parse_args()
    options.klamm = options.klamm or servers.build_klamm()
    load = loads.Kload(options.load) if options.load else loads.Perf(options.klamm)
    directory = Path(tempfile.mkdtemp(prefix="klamm-limits-", dir=options.directory))
    try:
        {"partitions": partitions, "crash": crash}[options.what](options, load, directory)
    finally:
        for node in NODES:
            if node.process and node.process.poll() is None:
                node.stop(signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
