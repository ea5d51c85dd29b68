#!/usr/bin/env bash
# How long klamm takes from its start to its first readiness, and what it holds in memory when idle:
# with no partitions and with 1,000.
#
#   tests/bench/start.sh [BINARY] [STARTS]
#
# BINARY is target/release/klamm unless given; of STARTS starts (10) the median and the worst are
# printed.
set -euo pipefail

binary=$(realpath "${1:-target/release/klamm}")
starts=${2:-10}
directory=$(mktemp -d)
port=$((20000 + RANDOM % 5000))
admin=$((port + 5000))
process=

finish() {
    if [[ -n $process ]]; then
        kill -KILL "$process" 2>/dev/null || true
    fi
    rm -rf "$directory"
}
trap finish EXIT

now() { echo "${EPOCHREALTIME/./}"; }

is_ready() {
    local status
    { exec 3<>"/dev/tcp/127.0.0.1/$admin"; } 2>/dev/null || return 1
    printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    read -r status <&3 || status=
    exec 3>&-
    [[ $status == *" 200 "* ]]
}

# Starts klamm; sets `took` to the microseconds until it was ready.
start() {
    local began
    began=$(now)
    "$binary" --override "listeners=PLAINTEXT://127.0.0.1:$port" \
        --override "klamm.admin.listener=127.0.0.1:$admin" \
        --override "num.partitions=1000" \
        --override "log.dirs=$directory/data" >"$directory/log" 2>&1 &
    process=$!
    until is_ready; do
        if ! kill -0 "$process" 2>/dev/null; then
            cat "$directory/log" >&2
            exit 1
        fi
        sleep 0.001
    done
    took=$(($(now) - began))
}

stop() {
    kill -TERM "$process"
    wait "$process"
    process=
}

# Asks for the metadata of a topic that is not there (Metadata version 1), which makes it with
# `num.partitions`, and waits for the answer.
create_topic() {
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf '\0\0\0\x14\0\x03\0\x01\0\0\0\0\xff\xff\0\0\0\x01\0\x04many' >&3
    head -c 8 <&3 >/dev/null
    exec 3>&-
}

measure() {
    local all=() sorted
    for _ in $(seq "$starts"); do
        start
        all+=("$took")
        stop
    done
    mapfile -t sorted < <(printf '%s\n' "${all[@]}" | sort -n)
    start
    sleep 2
    local resident before after
    resident=$(awk '/^VmRSS:/ { print $2 }' "/proc/$process/status")
    before=$(awk '{ print $14 + $15 }' "/proc/$process/stat")
    sleep 5
    after=$(awk '{ print $14 + $15 }' "/proc/$process/stat")
    stop
    printf '%-18s ready in %4d ms (median), %4d ms (worst of %d); idle: %d.%d MiB resident, %d ms CPU in 5 s\n' \
        "$1" $((sorted[starts / 2] / 1000)) $((sorted[starts - 1] / 1000)) "$starts" \
        $((resident / 1024)) $((resident % 1024 * 10 / 1024)) $(((after - before) * 10))
}

start
stop
measure "no partitions:"
start
create_topic
stop
measure "1,000 partitions:"
