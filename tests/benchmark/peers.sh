#!/usr/bin/env bash
# Makes the Python environment with the peers that compare.py measures against, and prints its
# folder: $ADVROB_PEERS, or build/peers. What is there is kept and only brought to the pinned versions.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${ADVROB_PEERS:-$here/../../build/peers}

[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --requirement "$here/requirements.txt" >&2
cd "$folder" && pwd
