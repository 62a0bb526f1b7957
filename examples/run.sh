#!/usr/bin/env bash
# From a bare Debian 12 to the paper's table and page (results/report.html): installs what is
# missing, builds, runs reproduce --preset quick on Fashion-MNIST. Further arguments go to reproduce:
#
#     examples/run.sh [--out DIR] [--threads N] ...
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# A tool or a library may have come from elsewhere than Debian's package: look for it first.
missing=()
command -v cc >/dev/null || missing+=(gcc)
[[ -e /usr/include/stdio.h ]] || missing+=(libc6-dev)
command -v meson >/dev/null || missing+=(meson)
command -v ninja >/dev/null || missing+=(ninja-build)
command -v pkg-config >/dev/null || missing+=(pkg-config)
if ! pkg-config --exists cblas 2>/dev/null && ! pkg-config --exists openblas 2>/dev/null &&
    ! installed libopenblas-dev; then
    missing+=(libopenblas-dev)
fi
pkg-config --exists zlib 2>/dev/null || installed zlib1g-dev || missing+=(zlib1g-dev)
data=/usr/share/datasets/fashion-mnist
[[ -e $data/train-images-idx3-ubyte.gz || -e $data/train-images-idx3-ubyte ]] ||
    missing+=(dataset-fashion-mnist)

if ((${#missing[@]} > 0)); then
    if ((EUID != 0)); then
        echo "run.sh: missing packages; as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install -y --no-install-recommends "${missing[@]}"
fi

[[ -e $root/build/build.ninja ]] || meson setup "$root/build" "$root" -Dtests=false
meson compile -C "$root/build" reproduce

# Says at its end where the results lie.
exec "$root/build/examples/reproduce" --preset quick --dataset fashion-mnist --data "$data" \
    --out results "$@"
