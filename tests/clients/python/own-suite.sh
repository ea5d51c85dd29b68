#!/bin/sh
# kafka-python's own integration suite, from its source distribution, against the broker at BOOTSTRAP.
#
# It takes an external broker by KAFKA_URI and what that broker speaks by KAFKA_VERSION. The broker
# must have node.id=0, num.partitions=4 and group.min.session.timeout.ms=1000, as the suite's own
# brokers have. For Apache Kafka:
#   KAFKA_NODE_ID=0 KAFKA_EXTRA="num.partitions=4
#   group.min.session.timeout.ms=1000" tests/clients/apache-kafka.sh start
# Writes own-suite/summary.txt below the clients' directory: every test, how it ended and why, and
# the counts. ALL=1 also runs what own_suite/inapplicable.txt lists. TIME_LIMIT is in seconds (160).
set -u
here=$(cd "$(dirname "$0")" && pwd)
"$here/../setup.sh" own-suite || exit $?
directory=$(cd "${KLAMM_CLIENTS_DIR:-$here/../../../target/clients}" && pwd)
version=$(sed -n 's/^kafka-python==//p' "$here/requirements.txt")
results=$directory/own-suite
list=$here/own_suite/inapplicable.txt
mkdir -p "$results"
rm -f "$results"/*.xml

skipped=
if [ "${ALL:-0}" != 1 ]; then
    names=$(grep -v '^#' "$list" | awk '{ print $1 }' | paste -sd ' ' | sed 's/ / or /g')
    skipped="not ($names)"
fi
cd "$directory/kafka-python-$version" || exit 1
python=$directory/venv/bin/python

# run_tests SELECTION NAME: writes NAME.xml and NAME.txt below the results.
run_tests() {
    KAFKA_ROOT=$PWD KAFKA_URI=kafka://${BOOTSTRAP:?} KAFKA_VERSION=${KAFKA_VERSION:-4.3.1} \
        timeout -k 5 "${TIME_LIMIT:-160}" "$python" -m pytest test/integration \
        -k "$1" -q -o log_level=WARNING -p no:cacheprovider \
        --timeout=30 --timeout-method=signal --junitxml="$results/$2.xml" \
        >"$results/$2.txt" 2>&1
}

run_tests "$skipped" junit
set -- "$results/junit.xml"
for try in 1 2; do
    eval "latest=\${$#}"
    [ -f "$latest" ] || break
    failed=$("$python" "$here/own_suite/failed.py" "$latest" "$here/own_suite/racy.txt")
    [ -n "$failed" ] || break
    run_tests "$failed" "again-$try"
    set -- "$@" "$results/again-$try.xml"
done
"$python" "$here/own_suite/summarize.py" "$list" "$results/summary.txt" "$@" || {
    echo "the tests' output is in $results" >&2
    exit 1
}
