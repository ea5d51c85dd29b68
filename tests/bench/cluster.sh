#!/usr/bin/env bash
# What a cluster of three nodes on this machine does with 1,000 topics of 10 partitions, each with
# three replicas: how long creation, a controlled restart of a node and the failover of a killed
# one take, and what a node holds in memory. With KLOAD naming a load generator that takes kload's
# arguments, also the throughput of acks=all with three replicas.
#
#   tests/bench/cluster.sh [BINARY] [TOPICS]
#
# BINARY is target/release/klamm unless given; TOPICS is 1,000.
set -euo pipefail

binary=$(realpath "${1:-target/release/klamm}")
cd "$(dirname "$0")/../.."

KLAMM_BINARY=$binary KLAMM_CLUSTER_BENCH=1 KLAMM_CLUSTER_TOPICS=${2:-1000} \
    cargo test --quiet --package klamm --test integration in_figures -- \
    --nocapture --test-threads 1
