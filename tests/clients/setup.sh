#!/bin/sh
# Fetches and builds what the client suites need: setup.sh [python|kcat|java|go|node|own-suite]...
# (without a name: all of them). Everything goes below ${KLAMM_CLIENTS_DIR:-target/clients}; the one
# exception is kcat, which apt installs when it is missing and this runs as root. A suite that is
# already set up costs a moment. Exit codes: 0 set up, 1 failed, 3 the toolchain is missing or
# cannot fetch.
set -u

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
directory=${KLAMM_CLIENTS_DIR:-$root/target/clients}
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)

missing() {
    echo "MISSING $1: $2" >&2
    exit 3
}

# What a set-up was made from; it is redone when that changes.
fingerprint() {
    cat "$@" | cksum
}

# is_current STAMP FINGERPRINT
is_current() {
    [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

# One set-up at a time: the suites may run side by side.
exec 9>"$directory/.lock"
flock 9

setup_python() {
    command -v python3 >/dev/null || missing python "no python3 on the PATH"
    stamp=$directory/venv/.stamp
    print=$(fingerprint "$here/python/requirements.txt")
    is_current "$stamp" "$print" && return 0
    rm -rf "$directory/venv"
    python3 -m venv "$directory/venv" || missing python "python3 -m venv failed"
    "$directory/venv/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$here/python/requirements.txt" || missing python "pip cannot install"
    echo "$print" >"$stamp"
}

setup_kcat() {
    command -v kcat >/dev/null && return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        missing kcat "no kcat on the PATH (Debian: apt-get install kcat)"
    apt-get install --yes --quiet kcat >"$directory/apt.log" 2>&1 ||
        { apt-get update >"$directory/apt.log" 2>&1 &&
            apt-get install --yes --quiet kcat >>"$directory/apt.log" 2>&1; } ||
        missing kcat "apt-get cannot install it: $(tail -1 "$directory/apt.log")"
}

setup_java() {
    command -v java >/dev/null || missing java "no java on the PATH"
    command -v mvn >/dev/null || missing java "no mvn on the PATH"
    stamp=$directory/java/.stamp
    print=$(find "$here/java" -type f | sort | xargs cat | cksum)
    is_current "$stamp" "$print" && return 0
    rm -rf "$directory/java/classes" "$directory/java/lib"
    mkdir -p "$directory/java"
    log=$directory/java/mvn.log
    MAVEN_OPTS="-Xmx256m -XX:+UseSerialGC" mvn --quiet --batch-mode --file "$here/java/pom.xml" \
        -DbuildDirectory="$directory/java" \
        dependency:copy-dependencies -DoutputDirectory="$directory/java/lib" \
        compile >"$log" 2>&1 || {
        tail -20 "$log" >&2
        grep -q "COMPILATION ERROR" "$log" && exit 1
        missing java "maven cannot fetch (see $log)"
    }
    echo "$print" >"$stamp"
}

setup_go() {
    command -v go >/dev/null || missing go "no go on the PATH"
    [ -f "$here/go/go.mod" ] || missing go "no module"
    cd "$here/go" || exit 1
    log=$directory/go.log
    GOFLAGS=-mod=readonly GOMAXPROCS=2 GOTOOLCHAIN=local \
        go build -o "$directory/go-clients" . >"$log" 2>&1 || {
        tail -20 "$log" >&2
        grep -qE '^\./.*\.go:[0-9]+' "$log" && exit 1
        missing go "go cannot build (see $log)"
    }
}

setup_node() {
    command -v node >/dev/null || missing node "no node on the PATH"
    command -v npm >/dev/null || missing node "no npm on the PATH"
    stamp=$directory/node/.stamp
    print=$(fingerprint "$here/node/package.json" "$here/node/package-lock.json")
    is_current "$stamp" "$print" && return 0
    rm -rf "$directory/node"
    mkdir -p "$directory/node"
    cp "$here/node/package.json" "$here/node/package-lock.json" "$directory/node/"
    (cd "$directory/node" && npm ci --ignore-scripts --no-audit --no-fund >npm.log 2>&1) ||
        missing node "npm cannot install: $(tail -1 "$directory/node/npm.log")"
    echo "$print" >"$stamp"
}

setup_own_suite() {
    setup_python
    version=$(sed -n 's/^kafka-python==//p' "$here/python/requirements.txt")
    source=$directory/kafka-python-$version
    [ -f "$source/.complete" ] && return 0
    rm -rf "$source"
    mkdir -p "$source/download"
    "$directory/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation --no-binary kafka-python --dest "$source/download" \
        "kafka-python==$version" || missing own-suite "pip cannot download the sources"
    tar -xzf "$source/download/"*.tar.gz -C "$source" --strip-components=1 || exit 1
    # What the source distribution leaves out of its own test package.
    touch "$source/test/__init__.py"
    cp "$here/python/own_suite/service.py" "$source/test/"
    # The suite runs against the installed library, not against the sources beside it.
    mv "$source/kafka" "$source/kafka-sources"
    touch "$source/.complete"
}

[ $# -gt 0 ] || set -- python kcat java go node own-suite
for suite in "$@"; do
    case $suite in
    python) setup_python ;;
    kcat) setup_kcat ;;
    java) setup_java ;;
    go) setup_go ;;
    node) setup_node ;;
    own-suite) setup_own_suite ;;
    *)
        echo "setup.sh: no suite is named $suite" >&2
        exit 1
        ;;
    esac
done
