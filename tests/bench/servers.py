"""The servers that compare.py and limits.py measure, each started in a directory of its own.

Redis Streams, NATS JetStream and RabbitMQ streams speak no Kafka: their load is peers/, in Go. Each
is a single node with one stream for each partition, and no copy of what it stores.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# As Kafka's own start script has it.
KAFKA_JVM = (
    "-Xms1g -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 "
    "-XX:+ExplicitGCInvokesConcurrent"
)


FOREIGN = ("redis", "redis-sync", "nats", "rabbitmq")
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def free_port():
    """A port whose successor is free, too."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def wait_for(what, ready, seconds=90):
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            sys.exit(f"{what} was not ready after {seconds} s")
        time.sleep(0.02)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Server:
    """Processes that are one cluster."""

    def __init__(self, name, pids, servers, stop):
        self.name, self.pids, self.servers, self.stop = name, pids, servers, stop

    def cpu(self):
        total = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def resident(self):
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids]
        return sum(pages) * PAGE

    def disk(self):
        total = 0
        for pid in self.pids:
            for line in Path(f"/proc/{pid}/io").read_text().splitlines():
                if line.startswith("write_bytes:"):
                    total += int(line.split()[1])
        return total


def terminate(processes):
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def start_klamm(binary, directory, nodes):
    ports = [free_port() for _ in range(nodes)]
    voters = ",".join(f"{i + 1}@127.0.0.1:{port + 1}" for i, port in enumerate(ports))
    processes = []
    for number, port in enumerate(ports, 1):
        settings = {
            "node.id": number,
            "log.dirs": directory / f"klamm-{number}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "klamm.admin.listener": "",
        }
        if nodes > 1:
            settings |= {
                "process.roles": "broker,controller",
                "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{port + 1}",
                "controller.listener.names": "CONTROLLER",
                "controller.quorum.voters": voters,
            }
        command = [binary]
        for key, value in settings.items():
            command += ["--override", f"{key}={value}"]
        log = open(directory / f"klamm-{number}.log", "wb")
        processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def ready():
        logs = [directory / f"klamm-{n}.log" for n in range(1, nodes + 1)]
        return all(b"Kafka Server started" in log.read_bytes() for log in logs)

    wait_for("klamm", ready)
    servers = ",".join(f"127.0.0.1:{port}" for port in ports)
    return Server("klamm", [p.pid for p in processes], servers, lambda: terminate(processes))


def start_kafka(directory, nodes):
    ports = [free_port() for _ in range(nodes)]
    voters = ",".join(f"{i + 1}@127.0.0.1:{port + 1}" for i, port in enumerate(ports))
    extra = f"controller.quorum.voters={voters}\ntransaction.state.log.replication.factor={nodes}\n"
    script = str(ROOT / "tests/clients/apache-kafka.sh")
    starting, environments = [], []
    for number, port in enumerate(ports, 1):
        environment = os.environ | {
            "KAFKA_PORT": str(port),
            "KAFKA_NODE_ID": str(number),
            "KAFKA_DATA": str(directory / f"kafka-{number}"),
            "KAFKA_HEAP_SIZE": os.environ.get("KAFKA_HEAP_SIZE", "1g"),
            "KAFKA_JVM": os.environ.get("KAFKA_JVM", KAFKA_JVM),
            "KAFKA_EXTRA": extra,
        }
        environments.append(environment)
        starting.append(
            subprocess.Popen([script, "start"], env=environment, stdout=subprocess.DEVNULL)
        )
    if any(process.wait() for process in starting):
        sys.exit("Apache Kafka did not start")
    pids = [
        int((directory / f"kafka-{number}/pid").read_text()) for number in range(1, nodes + 1)
    ]

    def stop():
        for environment in environments:
            subprocess.run([script, "stop"], env=environment, check=False)

    return Server("kafka", pids, ",".join(f"127.0.0.1:{port}" for port in ports), stop)


def start_null(binary, directory, storage):
    port = free_port()
    command = [binary, "--port", str(port), "--storage", storage]
    command += ["--directory", str(directory / f"null-{storage}")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for("the null broker", lambda: answers(port))
    return Server(
        f"null-{storage}", [process.pid], f"127.0.0.1:{port}", lambda: terminate([process])
    )


def family(process):
    """The process and all below it."""
    pids = [process]
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pids += [int(child) for child in children]
    return pids


def is_installed(name):
    """Whether the server of a peer without Kafka's protocol is here, and Go for its load."""
    kind = name.split("-")[0]
    server = RABBITMQ.exists() if kind == "rabbitmq" else shutil.which(f"{kind}-server")
    return bool(server) and shutil.which("go") is not None


def foreign(name, directory, ports):
    """What starts a peer without Kafka's protocol, in which environment, and where it listens."""
    port = ports[0]
    if name.startswith("redis"):
        often = "always" if name == "redis-sync" else "everysec"
        options = ["--port", port, "--appendonly", "yes", "--appendfsync", often, "--save", ""]
        return ["redis-server", *options, "--bind", "127.0.0.1", "--dir", directory], {}, port
    if name == "nats":
        return ["nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", directory], {}, port
    settings = directory / "rabbitmq.conf"
    settings.write_text(
        f"listeners.tcp.1 = 127.0.0.1:{ports[1]}\nstream.listeners.tcp.1 = 127.0.0.1:{port}\n"
    )
    plugins = directory / "plugins"
    plugins.write_text("[rabbitmq_stream].\n")
    environment = {
        "HOME": directory,
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_CONFIG_FILE": settings,
        "RABBITMQ_ENABLED_PLUGINS_FILE": plugins,
        "RABBITMQ_MNESIA_BASE": directory / "data",
        "RABBITMQ_LOG_BASE": directory / "log",
        "RABBITMQ_PID_FILE": directory / "pid",
        "RABBITMQ_DIST_PORT": ports[2],
        "ERL_EPMD_PORT": ports[3],
    }
    return [RABBITMQ], environment, port


def start_foreign(name, directory):
    home = directory / name
    home.mkdir()
    arguments, settings, port = foreign(name, home, [free_port() for _ in range(4)])
    environment = os.environ | {key: str(value) for key, value in settings.items()}
    log = open(directory / f"{name}.log", "wb")
    process = subprocess.Popen([str(a) for a in arguments], env=environment, stdout=log, stderr=log)
    wait_for(name, lambda: answers(port))
    pids = family(process.pid)

    def stop():
        for pid in reversed(pids):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        terminate([process])
        if "ERL_EPMD_PORT" in settings:
            # RabbitMQ starts one that outlives it.
            subprocess.run(["epmd", "-kill"], env=environment, check=False, capture_output=True)

    return Server(name, pids, f"127.0.0.1:{port}", stop)


def build_klamm():
    """The release build of klamm."""
    command = ["cargo", "build", "--release", "--quiet", "-p", "klamm", "--bin", "klamm"]
    subprocess.run(command, cwd=ROOT, check=True)
    return str(ROOT / "target/release/klamm")


def build_null():
    """The release build of the null broker."""
    command = ["cargo", "bench", "--no-run", "--quiet", "-p", "klamm", "--bench", "null-broker"]
    command += ["--message-format", "json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    for line in output.splitlines():
        told = json.loads(line)
        if told.get("executable") and told["target"]["name"] == "null-broker":
            return told["executable"]
    sys.exit("cargo told of no null-broker")


def build_peers():
    """The load for brokers without Kafka's protocol."""
    binary = ROOT / "target/clients/peers"
    binary.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", binary, "."], cwd=HERE / "peers", check=True)
    return str(binary)
