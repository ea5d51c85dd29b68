#!/bin/sh
# Runs the Go suites against BOOTSTRAP.
set -u
here=$(cd "$(dirname "$0")" && pwd)
: "${BOOTSTRAP:?}"
"$here/../setup.sh" go || exit $?
exec "${KLAMM_CLIENTS_DIR:-$here/../../../target/clients}/go-clients"
