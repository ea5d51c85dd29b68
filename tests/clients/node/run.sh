#!/bin/sh
# Runs the kafkajs suite against BOOTSTRAP.
set -u
here=$(cd "$(dirname "$0")" && pwd)
: "${BOOTSTRAP:?}"
"$here/../setup.sh" node || exit $?
directory=$(cd "${KLAMM_CLIENTS_DIR:-$here/../../../target/clients}" && pwd)
export NODE_PATH=$directory/node/node_modules KAFKAJS_NO_PARTITIONER_WARNING=1
exec node --no-warnings "$here/suite.js"
