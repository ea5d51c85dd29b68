#!/bin/sh
# Runs a Java suite against BOOTSTRAP: run.sh clients|tools|mirror
# The last one's BOOTSTRAP has a link to SOURCE.
# REPLICATION_FACTOR (1) is what topics get; several brokers bear more.
set -u
here=$(cd "$(dirname "$0")" && pwd)
: "${BOOTSTRAP:?}"
"$here/../setup.sh" java || exit $?
directory=${KLAMM_CLIENTS_DIR:-$here/../../../target/clients}
case ${1:-} in
clients) main=klamm.ClientSuite ;;
tools) main=klamm.ToolSuite ;;
mirror) main=klamm.MirrorSuite ;;
*)
    echo "usage: run.sh clients|tools|mirror" >&2
    exit 2
    ;;
esac
exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dlog4j2.configurationFile="$here/log4j2.properties" -Dklamm.log.level=ERROR \
    -cp "$directory/java/classes:$directory/java/lib/*" "$main"
