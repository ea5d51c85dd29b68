#!/usr/bin/env python3
"""Klamm beside Apache Kafka, other brokers, and a broker that does nothing, on this machine.

    tests/bench/compare.py                        everything, five rounds
    tests/bench/compare.py --quick                one short round: does it all work?
    tests/bench/compare.py --only produce-1k,consume-1k --rounds 9
    tests/bench/compare.py --other redpanda=127.0.0.1:9092
    tests/bench/compare.py --before BINARY --peers kafka,klamm,before

Every round runs each workload against every peer, in an order that turns by one from round to
round; what is told are medians over rounds, with the spread, and ratios to Apache Kafka of the same
round. The servers run all the time, one load at a time. Topics are deleted after use.

Redis Streams, NATS JetStream and RabbitMQ streams take part where Debian's packages and Go are
installed, with a load of their own (peers/), a single node, and without the latency workloads.

Loads come from kload (librdkafka) where KLOAD or --load names its binary, otherwise from
`klamm perf`. Apache Kafka comes from Maven Central (tests/clients/apache-kafka.sh; needs Java) with
a heap of KAFKA_HEAP_SIZE, 1g unless given, and the collector of Kafka's own start script unless
KAFKA_JVM names another. Results go to standard output as Markdown and, with
--json FILE, to a file.

CPU seconds are those of the server's processes from before a run to after it, per GB (10^9 bytes)
of values; memory is resident at the end of the run; `disk` is what the processes gave to the disk
per byte of values.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from loads import Kload, Peers, Perf
from servers import (
    FOREIGN, Server, build_klamm, build_null, build_peers, is_installed, start_foreign, start_kafka,
    start_klamm, start_null,
)


class Peer:
    """A server, the settings of its topics, and its own load where it speaks no Kafka."""

    def __init__(self, name, server, *configs, replicates=True, load=None):
        self.name, self.server, self.configs = name, server, configs
        self.replicates, self.load = replicates, load

    def takes(self, load):
        if self.load:
            return load["replicas"] == 1 and load["codec"] == "none" and load["acks"] == "all"
        return load["replicas"] == 1 or self.replicates


def workload(size, count, **other):
    load = {
        "size": size, "count": count, "acks": "all", "partitions": 16, "replicas": 1,
        "codec": "none", "linger": 5, "seconds": 10,
    }
    return load | other


def workloads(nodes):
    """Name, kind and shape. A `produce` is followed by a `consume` of the same topic."""
    each = {
        "produce-100": workload(100, 5_000_000),
        "produce-1k": workload(1024, 1_000_000),
        "produce-10k": workload(10_240, 100_000),
        "produce-1k-acks1": workload(1024, 1_000_000, acks="1"),
        "produce-1k-1p": workload(1024, 1_000_000, partitions=1),
        "produce-1k-256p": workload(1024, 1_000_000, partitions=256),
        "produce-1k-lz4": workload(1024, 1_000_000, codec="lz4"),
        "produce-1k-zstd": workload(1024, 1_000_000, codec="zstd"),
    }
    if nodes > 1:
        return {
            f"{name}-r3": load | {"replicas": 3, "count": load["count"] // 2}
            for name, load in each.items()
            if name in ("produce-100", "produce-1k", "produce-10k")
        }
    return each


def measured(peer, bytes_of_values, run):
    server = peer.server
    cpu, disk = server.cpu(), server.disk()
    figures = run()
    if bytes_of_values:
        figures["cpu s/GB"] = (server.cpu() - cpu) / bytes_of_values * 1e9
        figures["disk"] = (server.disk() - disk) / bytes_of_values
    figures["MiB"] = server.resident() / 2**20
    return figures


class Comparison:
    def __init__(self, options, peers, load, klamm):
        self.options, self.peers, self.load, self.klamm = options, peers, load, klamm
        # By workload, by peer, by figure: one value a round.
        self.results = {}
        self.failures = []
        self.number = 0

    def note(self, name, peer, figures):
        known = self.results.setdefault(name, {}).setdefault(peer.name, {})
        for figure, value in figures.items():
            known.setdefault(figure, []).append(value)

    def failed(self, name, peer, error):
        text = f"{name}, {peer.name}: {error}".strip()
        self.failures.append(text)
        print(text, file=sys.stderr)

    def delete(self, peer, topic, load):
        if peer.load:
            peer.load.delete(peer, topic, load)
            return
        command = [self.klamm, "topic", "delete", topic]
        environment = os.environ | {"KLAMM_BOOTSTRAP_SERVERS": peer.server.servers}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, env=environment, check=False, **quiet)

    def throughput(self, name, load, peer):
        self.number += 1
        topic = f"compare-{os.getpid()}-{self.number}"
        value_bytes = load["size"] * load["count"]
        by = peer.load or self.load
        try:
            produced = measured(
                peer, value_bytes, lambda: by.produce(peer, topic, load)
            )
            self.note(name, peer, produced)
            consumed = measured(
                peer, value_bytes, lambda: by.consume(peer, topic, load)
            )
            self.note(name.replace("produce", "consume"), peer, consumed)
        except (RuntimeError, KeyError) as error:
            self.failed(name, peer, error)
        self.delete(peer, topic, load)

    def latency(self, name, load, peer, rate):
        self.number += 1
        topic = f"compare-{os.getpid()}-{self.number}"
        try:
            # Two seconds of warming up are computed for as well. Each value is taken in and read.
            sent = int(rate) * (load["seconds"] + 2) * load["size"]
            figures = measured(peer, sent, lambda: self.load.latency(peer, topic, load, rate))
            self.note(name, peer, figures)
        except (RuntimeError, KeyError) as error:
            self.failed(name, peer, error)
        self.delete(peer, topic, load)

    def in_turn(self, number):
        """The peers, another one first in each round."""
        at = number % len(self.peers)
        return self.peers[at:] + self.peers[:at]

    def run(self):
        options = self.options
        wanted = set(options.only.split(",")) if options.only else None
        for number in range(options.rounds):
            for name, load in workloads(options.nodes).items():
                if wanted and name not in wanted:
                    continue
                if options.quick:
                    load = load | {"count": max(load["count"] // 50, 1000)}
                for peer in self.in_turn(number):
                    if peer.takes(load):
                        self.throughput(name, load, peer)
            if not wanted or "latency" in wanted:
                self.latencies(number)
            print(f"round {number + 1} of {options.rounds} is over", file=sys.stderr)

    def latencies(self, number):
        """End to end, at parts of what the first peer can take in with the same settings."""
        options = self.options
        load = workload(1024, 300_000, linger=0, replicas=3 if options.nodes > 1 else 1)
        if options.quick:
            load |= {"count": 5000, "seconds": 2}
        first = self.peers[0]
        self.throughput("produce-saturation", load, first)
        rates = self.results.get("produce-saturation", {}).get(first.name, {}).get("rate")
        if not rates:
            return
        for percent in (10, 50, 80):
            rate = statistics.median(rates) * percent / 100
            for peer in self.in_turn(number):
                if peer.takes(load) and not peer.load:
                    self.latency(f"latency-{percent}%", load, peer, rate)


FORMATS = {
    "rate": ("records/s", "{:,.0f}"),
    "cpu s/GB": ("CPU s/GB", "{:.2f}"),
    "disk": ("disk B/B", "{:.2f}"),
    "MiB": ("MiB", "{:.0f}"),
}


def cell(values, form):
    middle = form.format(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def ratio(values, reference):
    """The median over rounds of the ratio of each."""
    pairs = [a / b for a, b in zip(values, reference) if b]
    return f"{statistics.median(pairs):.2f}" if pairs else "-"


def table(results, reference):
    lines = []
    for name, peers in results.items():
        figures = list(dict.fromkeys(f for known in peers.values() for f in known))
        titles = [FORMATS.get(figure, (figure, ""))[0] for figure in figures]
        lines += [f"\n### {name}\n", "| peer | " + " | ".join(
            f"{title} | to {reference}" for title in titles) + " |"]
        lines.append("| --- |" + " ---: | ---: |" * len(figures))
        for peer, known in peers.items():
            cells = []
            for figure in figures:
                values = known.get(figure, [])
                form = FORMATS.get(figure, ("", "{:.2f}"))[1]
                beside = peers.get(reference, {}).get(figure, [])
                cells.append(cell(values, form) if values else "-")
                cells.append(ratio(values, beside) if values else "-")
            lines.append(f"| {peer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 3))
    parser.add_argument("--only", help="workloads, with commas between; `latency` is one")
    parser.add_argument("--quick", action="store_true", help="one round with little of everything")
    parser.add_argument("--peers", help="with commas between; all unless given")
    parser.add_argument("--without", default="", help="peers to leave out")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=HOST:PORT")
    parser.add_argument("--load", default=os.environ.get("KLOAD"), help="kload's binary")
    parser.add_argument("--klamm", help="its binary; built unless given")
    parser.add_argument("--before", help="another binary of klamm, to compare the first with")
    parser.add_argument("--null", help="the null broker; built unless given")
    parser.add_argument("--json", help="where to write all figures")
    parser.add_argument("--directory", help="where the servers keep their data")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    klamm = options.klamm or build_klamm()
    directory = Path(tempfile.mkdtemp(prefix="klamm-compare-", dir=options.directory))
    wanted = options.peers.split(",") if options.peers else None
    servers = []

    def wants(name):
        return wanted is None or any(name in (peer, peer.split("-")[0]) for peer in wanted)

    def started(server):
        servers.append(server)
        return server

    try:
        peers = []
        if wants("kafka"):
            kafka = started(start_kafka(directory, options.nodes))
            peers += [Peer("kafka", kafka), Peer("kafka-flush", kafka, "flush.messages=1")]
        replicated = "klamm.durability=replicated"
        if wants("klamm"):
            node = started(start_klamm(klamm, directory, options.nodes))
            peers += [Peer("klamm", node), Peer("klamm-replicated", node, replicated)]
        if options.before:
            (directory / "before").mkdir()
            node = started(start_klamm(options.before, directory / "before", options.nodes))
            node.name = "before"
            peers += [Peer("before", node), Peer("before-replicated", node, replicated)]
        if wants("null") and options.nodes == 1:
            null = options.null or build_null()
            for storage in ("memory", "file", "sync"):
                server = started(start_null(null, directory, storage))
                peers.append(Peer(server.name, server, replicates=False))
        foreign = [name for name in FOREIGN if wants(name) and is_installed(name)]
        for name in foreign if options.nodes == 1 else []:
            load = Peers(build_peers(), name.split("-")[0])
            server = started(start_foreign(name, directory))
            peers.append(Peer(name, server, replicates=False, load=load))
        for other in options.other:
            name, address = other.split("=", 1)
            peers.append(Peer(name, Server(name, [], address, lambda: None)))
        if wanted is not None:
            peers = [peer for peer in peers if peer.name in wanted or peer.server.name in wanted]
        without = options.without.split(",")
        peers = [peer for peer in peers if peer.name not in without]
        if not peers:
            sys.exit("no peers: --peers names kafka, kafka-flush, klamm, klamm-replicated, null-*")
        load = Kload(options.load) if options.load else Perf(klamm)
        comparison = Comparison(options, peers, load, klamm)
        idle = {peer.server.name: peer.server.resident() / 2**20 for peer in peers}
        try:
            comparison.run()
        except KeyboardInterrupt:
            print("interrupted: what follows is of the rounds so far", file=sys.stderr)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    by = "kload (librdkafka)" if options.load else "klamm perf"
    print(f"Loads by {by}; {options.nodes} node(s); {options.rounds} rounds; medians (least to most).")
    print("\nIdle, resident MiB: " + ", ".join(f"{n} {m:.0f}" for n, m in idle.items()))
    print(table(comparison.results, comparison.peers[0].name))
    for failure in comparison.failures:
        print(f"\nFAILED {failure}")
    if options.json:
        told = {"idle_mib": idle, "results": comparison.results, "failed": comparison.failures}
        Path(options.json).write_text(json.dumps(told, indent=1))
    sys.exit(1 if comparison.failures else 0)


if __name__ == "__main__":
    main()
