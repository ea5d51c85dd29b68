"""What makes the load: kload (librdkafka), `klamm perf`, or peers/ for brokers without Kafka's
protocol. Each takes a peer, a topic and a shape (`workload` in compare.py) and gives figures."""

import json
import os
import subprocess


class Kload:
    """Loads by librdkafka."""

    def __init__(self, binary):
        self.binary = binary

    def run(self, *arguments):
        command = [self.binary, *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-400:])
        return json.loads(done.stdout.splitlines()[-1])

    @staticmethod
    def shape(peer, topic, load):
        arguments = ["--brokers", peer.server.servers, "--topic", topic]
        arguments += ["--partitions", load["partitions"]]
        arguments += ["--replication-factor", load["replicas"]]
        for setting in peer.configs:
            arguments += ["--topic-config", setting]
        arguments += ["--size", load["size"], "--acks", load["acks"]]
        arguments += ["--compression", load["codec"], "--linger-ms", load["linger"]]
        arguments += ["--fill", "text"]
        return arguments

    def produce(self, peer, topic, load):
        told = self.run(
            "produce", *self.shape(peer, topic, load), "--count", load["count"],
            "--duration", 600, "--warmup", 0,
        )
        if told["produced"]["errors"]:
            raise RuntimeError(told["first_error"])
        return {"rate": told["produced"]["msgs_per_s"], "ms p99": told["ack_us"]["p99"] / 1e3}

    def consume(self, peer, topic, load):
        told = self.run(
            "consume", "--brokers", peer.server.servers, "--topic", topic, "--count",
            load["count"], "--duration", 600,
        )
        consumed = told["consumed"]
        rate = consumed.get("msgs_per_s_from_start", consumed["msgs_per_s"])
        return {"rate": rate}

    def latency(self, peer, topic, load, rate):
        told = self.run(
            "e2e", *self.shape(peer, topic, load), "--rate", int(rate), "--duration",
            load["seconds"], "--warmup", 2,
        )
        spans = told["e2e_us"]
        return {f"ms {name}": spans[name] / 1e3 for name in ("p50", "p99", "p999")}


class Perf:
    """Loads by `klamm perf`."""

    def __init__(self, binary):
        self.binary = binary

    def run(self, peer, *arguments):
        command = [self.binary, "perf", *map(str, arguments), "--format", "json"]
        environment = os.environ | {"KLAMM_BOOTSTRAP_SERVERS": peer.server.servers}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-400:])
        return json.loads(done.stdout)

    def create(self, peer, topic, load):
        command = [self.binary, "topic", "create", topic, "-p", str(load["partitions"])]
        command += ["--replication-factor", str(load["replicas"])]
        for setting in peer.configs:
            command += ["-c", setting]
        environment = os.environ | {"KLAMM_BOOTSTRAP_SERVERS": peer.server.servers}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    @staticmethod
    def shape(load):
        arguments = ["--size", load["size"], "--acks", load["acks"], "--codec", load["codec"]]
        return arguments + ["--linger", load["linger"], "--batch", 1_000_000]

    def produce(self, peer, topic, load):
        self.create(peer, topic, load)
        told = self.run(
            peer, "produce", topic, *self.shape(load), "--records", load["count"], "--warmup", 0
        )
        return {
            "rate": told["records_per_second"], "ms p99": told["latency_ms"]["p99"]
        }

    def consume(self, peer, topic, load):
        told = self.run(peer, "consume", topic, "--records", load["count"])
        return {"rate": told["records_per_second"]}

    def latency(self, peer, topic, load, rate):
        self.create(peer, topic, load)
        told = self.run(
            peer, "latency", topic, *self.shape(load), "--rate", int(rate), "--duration",
            load["seconds"], "--warmup", 2,
        )
        spans = told["end_to_end_ms"]
        return {"ms p50": spans["p50"], "ms p99": spans["p99"], "ms p999": spans["p99_9"]}


class Peers:
    """Redis, NATS and RabbitMQ: streams, and acknowledged values."""

    def __init__(self, binary, kind):
        self.binary, self.kind = binary, kind

    def run(self, what, peer, topic, load):
        arguments = [
            self.binary, self.kind, what, "-address", peer.server.servers, "-stream", topic,
            "-streams", load["partitions"], "-size", load["size"], "-count", load["count"],
        ]
        done = subprocess.run([str(a) for a in arguments], capture_output=True, timeout=600)
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-400:])
        return done.stdout

    def produce(self, peer, topic, load):
        return {"rate": json.loads(self.run("produce", peer, topic, load))["records_per_s"]}

    def consume(self, peer, topic, load):
        return {"rate": json.loads(self.run("consume", peer, topic, load))["records_per_s"]}

    def delete(self, peer, topic, load):
        self.run("delete", peer, topic, load)
