#!/bin/sh
# kcat against the broker at BOOTSTRAP. Prints "ok NAME" or "FAIL NAME: why"; exits 0 or 1.
set -u

here=$(cd "$(dirname "$0")" && pwd)
"$here/../setup.sh" kcat || exit $?
bootstrap=${BOOTSTRAP:?}
run=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
work=$(mktemp -d)
failed=0
members=

clean_up() {
    for member in $members; do
        kill -9 "$member" 2>/dev/null
    done
    rm -rf "$work"
}
trap clean_up EXIT

# kafkacat [ARGUMENT]...: kcat with a time limit
kafkacat() {
    timeout -k 2 20 kcat -b "$bootstrap" -X log.connection.close=false "$@"
}

# check NAME EXPECTED_FILE ACTUAL_FILE
check() {
    if cmp -s "$2" "$3"; then
        echo "ok kcat: $1"
    else
        failed=$((failed + 1))
        echo "FAIL kcat: $1: expected $(head -c 200 "$2" | tr '\n' '|'), got $(head -c 200 "$3" | tr '\n' '|')"
        tail -3 "$work/errors"
    fi
}

# check_output NAME EXPECTED ACTUAL
check_output() {
    printf '%s\n' "$2" >"$work/expected_output"
    printf '%s\n' "$3" >"$work/actual_output"
    check "$1" "$work/expected_output" "$work/actual_output"
}

# read_all TOPIC [ARGUMENT]...: every record of partition 0
read_all() {
    source=$1
    shift
    kafkacat -C -t "$source" -p 0 -o beginning -e -q "$@" 2>"$work/errors"
}

seq 1 200 | sed 's/\(.*\)/key-\1:value-\1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/' >"$work/records"
seq 0 199 | paste -d: "$work/records" - | sed 's/$/:colour=blue,empty=/' >"$work/expected"

for codec in none gzip snappy lz4 zstd; do
    for idempotent in false true; do
        topic=kcat-$run-$codec-$idempotent
        kafkacat -P -t "$topic" -p 0 -K: -z $codec -X enable.idempotence=$idempotent \
            -X linger.ms=20 -H colour=blue -H empty= <"$work/records" 2>"$work/errors" ||
            echo "kcat -P ended with $?" >>"$work/errors"
        read_all "$topic" -f '%k:%s:%o:%h\n' >"$work/actual"
        check "produce and consume [$codec, idempotent $idempotent]" "$work/expected" "$work/actual"
    done
done

topic=kcat-$run-gzip-true
end=$(kafkacat -Q -t "$topic:0:-1" 2>"$work/errors")
check_output "the end offset" "$topic [0] offset 200" "$end"
beginning=$(kafkacat -Q -t "$topic:0:-2" 2>"$work/errors")
check_output "the beginning offset" "$topic [0] offset 0" "$beginning"
first=$(read_all "$topic" -c 1 -f '%T')
at=$(kafkacat -Q -t "$topic:0:$first" 2>"$work/errors")
check_output "the offset of a time" "$topic [0] offset 0" "$at"
last=$(read_all "$topic" -f '%T\n' | tail -1)
at=$(kafkacat -Q -t "$topic:0:$((last + 60000))" 2>"$work/errors")
check_output "the offset of a time after all records" "$topic [0] offset -1" "$at"

offsets=$(kafkacat -C -t "$topic" -p 0 -o -3 -e -q -f '%o ' 2>"$work/errors")
check_output "the last three records" "197 198 199 " "$offsets"
offsets=$(kafkacat -C -t "$topic" -p 0 -o 42 -c 3 -q -f '%o ' 2>"$work/errors")
check_output "three records from an offset" "42 43 44 " "$offsets"
offsets=$(kafkacat -C -t "$topic" -p 0 -o "s@$first" -c 1 -q -f '%o' 2>"$work/errors")
check_output "records from a time" "0" "$offsets"

printf 'key:\n' | kafkacat -P -t "kcat-$run-null" -p 0 -K: -Z 2>"$work/errors"
check_output "a tombstone" "key 3 -1" "$(read_all "kcat-$run-null" -f '%k %K %S')"
head -c 900000 /dev/zero | tr '\0' x >"$work/large"
kafkacat -P -t "kcat-$run-large" -p 0 "$work/large" 2>"$work/errors"
read_all "kcat-$run-large" -D '' >"$work/actual"
printf '\n' >>"$work/large"
tr -d '\n' <"$work/large" | cksum >"$work/expected_sum"
tr -d '\n' <"$work/actual" | cksum >"$work/actual_sum"
check "a record of 900,000 bytes" "$work/expected_sum" "$work/actual_sum"

kafkacat -L -t "$topic" >"$work/metadata" 2>"$work/errors"
grep -oE 'partition 0, leader [0-9]+' "$work/metadata" | sed 's/[0-9]*$/N/' >"$work/actual"
echo "partition 0, leader N" >"$work/wanted"
check "metadata of a topic" "$work/wanted" "$work/actual"
kafkacat -L 2>"$work/errors" | grep -o "\"kcat-$run-lz4-true\" with" >"$work/actual"
echo "\"kcat-$run-lz4-true\" with" >"$work/wanted"
check "metadata of all topics" "$work/wanted" "$work/actual"
kafkacat -L -J -t "$topic" 2>"$work/errors" | grep -o "\"topic\":\"$topic\"" | uniq >"$work/actual"
echo "\"topic\":\"$topic\"" >"$work/wanted"
check "metadata as JSON" "$work/wanted" "$work/actual"

# A balanced group: two members over the partitions of two topics, then one leaves.
group=kcat-group-$run
one=kcat-$run-one
two=kcat-$run-two
for topic in "$one" "$two"; do
    echo "before $topic" | kafkacat -P -t "$topic" -p 0 2>"$work/errors"
done

member() {
    # Plain kcat, not below `timeout`: the process id must be the member's own.
    kcat -b "$bootstrap" -G "$group" -u -f '%t %s\n' -X auto.offset.reset=earliest \
        -X partition.assignment.strategy=roundrobin -X heartbeat.interval.ms=300 \
        -X auto.commit.interval.ms=200 -X fetch.wait.max.ms=100 \
        "$one" "$two" >"$work/member-$1" 2>"$work/member-$1.errors" &
    members="$members $!"
    last_member=$!
}

# wait_for DECISECONDS CONDITION...
wait_for() {
    remaining=$1
    shift
    until "$@"; do
        remaining=$((remaining - 1))
        [ $remaining -gt 0 ] || return 1
        sleep 0.1
    done
}

# owned MEMBER: how many partitions; the last change kcat reports names each with its number in
# brackets
owned() {
    grep 'rebalanced' "$work/member-$1.errors" | tail -1 | grep 'assigned:' |
        grep -o '\[[0-9]*\]' | wc -l
}
owns() {
    [ "$(owned "$1")" = "$2" ]
}
owns_both_topics() {
    [ "$(owned "$1")" -ge 2 ]
}
both_share() {
    [ "$(owned 1)" -ge 1 ] && [ "$(owned 2)" -ge 1 ] && [ $(($(owned 1) + $(owned 2))) = "$total" ]
}
all_read() {
    sort -u "$work/member-1" "$work/member-2" >"$work/actual"
    cmp -s "$work/wanted" "$work/actual"
}

member 1
wait_for 150 owns_both_topics 1
total=$(owned 1)
member 2
second=$last_member
if wait_for 150 both_share; then
    echo "ok kcat: two members share the partitions"
else
    failed=$((failed + 1))
    echo "FAIL kcat: two members share the partitions: $(grep -h rebalanced "$work"/member-?.errors | tr '\n' '|')"
fi
for topic in "$one" "$two"; do
    seq 1 50 | sed 's/^/shared /' | kafkacat -P -t "$topic" -p 0 2>"$work/errors"
done
{
    for topic in "$one" "$two"; do
        echo "$topic before $topic"
        seq 1 50 | sed "s/^/$topic shared /"
    done
} | sort >"$work/wanted"
wait_for 150 all_read
check "both members together read everything" "$work/wanted" "$work/actual"
kill -TERM "$second"
wait "$second" 2>/dev/null
wait_for 150 owns 1 "$total"
for topic in "$one" "$two"; do
    seq 1 50 | sed 's/^/alone /' | kafkacat -P -t "$topic" -p 0 2>"$work/errors"
    seq 1 50 | sed "s/^/$topic alone /" >>"$work/wanted"
done
sort -o "$work/wanted" "$work/wanted"
wait_for 150 all_read
check "the survivor reads what follows" "$work/wanted" "$work/actual"
for member in $members; do
    kill -TERM "$member" 2>/dev/null
done
wait
members=

# The group's committed offsets: a new member starts where the others ended.
for topic in "$one" "$two"; do
    echo "resumed" | kafkacat -P -t "$topic" -p 0 2>"$work/errors"
done
kafkacat -G "$group" -c 2 -q -f '%t %s\n' -X auto.offset.reset=earliest "$one" "$two" \
    2>"$work/errors" | sort >"$work/actual"
printf '%s resumed\n' "$one" "$two" | sort >"$work/wanted"
check "a new member resumes at the committed offsets" "$work/wanted" "$work/actual"

echo "kcat: $failed checks failed"
[ $failed = 0 ]
