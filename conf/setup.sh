#!/bin/sh
# `make setup`: a virtual environment with what the named extras need, at the versions of constraints.txt.
# Usage: sh conf/setup.sh VENV EXTRAS [PYTHON]. May be stopped and run again at any time; nothing else is touched.
set -eu
venv=$1 extras=$2 wanted=${3:-}
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
# Run, not only looked up: a shim of pyenv or of macOS may be there and have no Python behind it.
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; }
trap 'say "interrupted; the same command goes on from here"; exit 130' INT TERM

python=$venv/bin/python
if [ ! -e "$python" ] && [ ! -L "$python" ]; then
    found=
    for candidate in ${wanted:-python3 python3.12 python3.13 python3.11 python}; do
        if fits "$candidate"; then found=$candidate; break; fi
    done
    [ -n "$found" ] || fail "no Python of version 3.11, 3.12 or 3.13 ${wanted:+behind PYTHON=$wanted}; install one, or name it: make setup PYTHON=/path/to/python3.12"
    "$found" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$found has no venv and ensurepip; install them (Debian, Ubuntu: apt install python3-venv), or name another: make setup PYTHON=..."
    say "making $venv with $("$found" --version)"
    "$found" -m venv "$venv" || fail "$found could not make $venv; the reason stands above"
fi
fits "$python" || fail "$venv has no working Python of version 3.11, 3.12 or 3.13; remove it, or name another: make setup VENV=.venv2"
"$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null ||
    fail "$venv has no pip and no ensurepip; remove it, or name another: make setup VENV=.venv2"

# A torch that is there stays, with the packages it asks for: another CUDA's build, a CPU-only one, a cluster's own.
kept=$("$python" - "$venv/constraints.txt" <<'PY'
import re
import sys
from importlib.metadata import requires, version
from pathlib import Path

pins = [line for line in Path("constraints.txt").read_text().splitlines() if "==" in line]
try:
    import torch
    import torchvision
except (ImportError, OSError):
    kept = {}
else:
    kept = {name: version(name) for name in ("torch", "torchvision")}
    if any(f"{name}=={there.partition('+')[0]}" not in pins for name, there in kept.items()):
        theirs = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for name in kept for line in requires(name) or ()}
        pins = [pin for pin in pins if pin.partition("==")[0].lower().replace("_", "-") not in theirs]
    pins = [pin for pin in pins if pin.partition("==")[0] not in kept] + [f"{name}=={there}" for name, there in kept.items()]
Path(sys.argv[1]).write_text("\n".join(pins) + "\n")
print(" and ".join(f"{name} {there}" for name, there in kept.items()))
PY
) || fail "$python could not read constraints.txt; the reason stands above"

if [ -n "$kept" ]; then
    say "keeping $kept; installing what else is missing"
    quiet=--quiet
elif [ "$(uname -s)" = Linux ]; then
    say "downloading about 3 GB; $venv will take about 7 GB on disk, of which torch with CUDA takes 5.5 GB"
    quiet=
else
    say "downloading about 0.5 GB; $venv will take about 1.5 GB on disk"
    quiet=
fi
"$python" -m pip install $quiet --disable-pip-version-check -c "$venv/constraints.txt" -e ".[$extras]" ||
    fail "pip could not install everything; its reason stands above. The same command goes on from there"
say "$venv is ready"
