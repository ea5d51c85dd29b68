#!/bin/sh
# Runs a Python suite against BOOTSTRAP: run.sh kafka-python|confluent|aiokafka
# ONLY=text runs the checks whose names hold the text.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${BOOTSTRAP:?}"
"$here/../setup.sh" python
directory=${KLAMM_CLIENTS_DIR:-$here/../../../target/clients}
suite=$(echo "$1" | tr - _)
export PYTHONDONTWRITEBYTECODE=1
exec "$directory/venv/bin/python" -u "$here/${suite}_suite.py"
