#!/usr/bin/env bash
# Builds libadvrob and runs its tests, from a bare Debian 12 on (as root it installs what is missing).
#
#   tests/run.sh         all tests, then the C tests again under the address and undefined sanitizers
#   tests/run.sh fast    without the sanitizers
#
# The suite "long" is left out: meson test -C build --suite long.
#
# The last line is "N passed, N failed, N skipped". Where CI is set, a skip fails the run unless it
# names an instruction set that the CPU lacks.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(gcc g++ meson ninja-build pkg-config libcmocka-dev libopenblas-dev libgfortran-12-dev zlib1g-dev
          dataset-fashion-mnist python3 python3-numpy python3-pil binutils locales)
c_suites=(unit kernel op golden io conformance oom fuzz)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

failed=0
logs=()

# build FOLDER MESON-OPTIONS...
build() {
    local folder=$1
    shift
    if [ -f "$folder/build.ninja" ]; then
        meson configure "$folder" "$@" || return 1 # examples/run.sh may have left the tests out
    else
        meson setup "$folder" "$@" || return 1
    fi
    meson compile -C "$folder"
}

# check FOLDER MESON-TEST-OPTIONS...
check() {
    local folder=$1
    shift
    local log="$folder/meson-logs/testlog.json"
    rm -f "$log"
    meson test -C "$folder" --no-rebuild --print-errorlogs "$@" || failed=1
    logs+=("$log")
}

# suites FOLDER: those of the C suites that have tests.
suites() {
    meson introspect "$1" --tests | python3 -c '
import json, sys
there = {name.split(":")[-1] for test in json.load(sys.stdin) for name in test["suite"]}
print(*[name for name in sys.argv[1:] if name in there], sep="\n")' "${c_suites[@]}"
}

if build build -Dtests=true; then
    # A locale with a decimal comma, for the tests that numbers do not depend on it.
    if [ ! -d build/locale/de_DE.UTF-8 ]; then
        mkdir -p build/locale
        localedef -i de_DE -f UTF-8 build/locale/de_DE.UTF-8
    fi
    export LOCPATH=$PWD/build/locale
    check build --no-suite=long
else
    failed=1
fi

if [ "${1:-}" != fast ]; then
    if build build-sanitize -Dtests=true -Dexamples=false -Dbuildtype=debugoptimized \
        -Dsanitizers=address,undefined -Dblas=none; then
        export ASAN_OPTIONS=detect_leaks=1:halt_on_error=1:abort_on_error=1
        export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        mapfile -t chosen < <(suites build-sanitize)
        check build-sanitize "${chosen[@]/#/--suite=}"
    else
        failed=1
    fi
fi

python3 - "$failed" "${logs[@]}" <<'PYTHON' || failed=1
"""Counts the tests of all logs; cases that a program skipped on its own count as skipped."""
import json
import os
import re
import sys
from pathlib import Path

passed = failed = skipped = 0
unnamed = []
for log in sys.argv[2:]:
    lines = Path(log).read_text().splitlines() if Path(log).exists() else []
    failed += not lines
    for test in map(json.loads, lines):
        text = test.get('stdout', '') + test.get('stderr', '')
        cases = set(re.findall(r'^\[  SKIPPED \] (?!\d+ test)(\S+)', text, re.M))
        whole = test['result'] == 'SKIP'
        passed += test['result'] in ('OK', 'EXPECTEDFAIL')
        failed += test['result'] not in ('OK', 'EXPECTEDFAIL', 'SKIP')
        skipped += max(whole, len(cases))
        if (whole or cases) and 'missing CPU instruction' not in text:
            unnamed.append(f'{test["name"]} {" ".join(sorted(cases))}'.strip())
for name in unnamed:
    print(f'skipped for another reason than a missing CPU instruction: {name}')
failed += sys.argv[1] == '1' and failed == 0
print(f'{passed} passed, {failed} failed, {skipped} skipped')
sys.exit(bool(failed or passed == 0 or (unnamed and os.environ.get('CI'))))
PYTHON
exit "$failed"
