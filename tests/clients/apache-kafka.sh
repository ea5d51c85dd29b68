#!/bin/sh
# A single Apache Kafka node (KRaft, both roles) from Maven Central, on loopback, to check the
# client suites themselves and to compare with: apache-kafka.sh start|stop
#   start  returns when it serves; "export BOOTSTRAP=..." tells where
#   stop   ends it and deletes its data
# Settings: KAFKA_PORT (19092; the controller takes the next port), KAFKA_DATA (a directory below
# TMPDIR named after the port), KAFKA_HEAP_SIZE (512m), KAFKA_JVM (the collector and its options;
# the smallest unless given), KAFKA_NODE_ID (1), KAFKA_EXTRA (more lines for its server.properties).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
directory=${KLAMM_CLIENTS_DIR:-$root/target/clients}
port=${KAFKA_PORT:-19092}
controller_port=$((port + 1))
data=${KAFKA_DATA:-${TMPDIR:-/tmp}/apache-kafka-$port}
heap=${KAFKA_HEAP_SIZE:-512m}
node=${KAFKA_NODE_ID:-1}

kafka_java() {
    # Options are words of their own.
    # shellcheck disable=SC2086
    java "-Xmx$heap" ${KAFKA_JVM:--XX:+UseSerialGC} \
        -Dlog4j2.configurationFile="$here/java/log4j2.properties" -Dklamm.log.level=INFO \
        -cp "$directory/java/lib/*" "$@"
}

configure() {
    "$here/setup.sh" java
    rm -rf "$data"
    mkdir -p "$data"
    cat >"$data/server.properties" <<EOF
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$node@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$data/log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
${KAFKA_EXTRA:-}
EOF
    cluster=${KAFKA_CLUSTER_ID:-S2xhbW1SZWZlcmVuY2VBQQ}
    kafka_java kafka.tools.StorageTool format --cluster-id "$cluster" \
        --config "$data/server.properties" >"$data/format.log" 2>&1 || {
        cat "$data/format.log" >&2
        exit 1
    }
}

stop() {
    [ -f "$data/pid" ] || return 0
    pid=$(cat "$data/pid")
    kill "$pid" 2>/dev/null || true
    waited=0
    while kill -0 "$pid" 2>/dev/null && [ $waited -lt 100 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    kill -9 "$pid" 2>/dev/null || true
    rm -rf "$data"
}

case ${1:-} in
start)
    stop
    configure
    # exec, so that the process id is Java's own; setsid keeps signals to the caller away.
    (
        # shellcheck disable=SC2086
        exec setsid java "-Xmx$heap" ${KAFKA_JVM:--XX:+UseSerialGC} \
            -Dlog4j2.configurationFile="$here/java/log4j2.properties" -Dklamm.log.level=INFO \
            -cp "$directory/java/lib/*" kafka.Kafka "$data/server.properties" \
            >"$data/server.log" 2>&1 </dev/null
    ) &
    pid=$!
    echo $pid >"$data/pid"
    waited=0
    until grep -q "Kafka Server started" "$data/server.log" 2>/dev/null; do
        if ! kill -0 $pid 2>/dev/null || [ $waited -gt 600 ]; then
            tail -30 "$data/server.log" >&2
            kill -9 $pid 2>/dev/null || true
            echo "Apache Kafka did not start" >&2
            exit 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    echo "export BOOTSTRAP=127.0.0.1:$port"
    ;;
stop) stop ;;
*)
    echo "usage: apache-kafka.sh start|stop" >&2
    exit 2
    ;;
esac
