#!/usr/bin/env bash
# Writes constraints.txt: what pip chooses today for pyproject.toml with the dev extra, in a fresh
# virtual environment. Run it on Linux x86_64, where every dependency of pyproject.toml applies.
# PYTHON names another interpreter than python3.11.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The dependencies are all in pyproject.toml; an empty package in place of ours is enough.
mkdir -p "$work/tree/src/accounting"
touch "$work/tree/src/accounting/__init__.py"
cp "$root"/{pyproject.toml,README.md,LICENSE} "$work/tree/"

"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --editable "$work/tree[dev]"
"$work/venv/bin/pip" check

{
    echo "# Exact versions of every dependency of pyproject.toml, and of theirs, dev extra included."
    echo "# Made by scripts/make_constraints.sh; use: pip install -c constraints.txt -e '.[dev]'"
    "$work/venv/bin/pip" freeze --exclude-editable --exclude pip --exclude setuptools
} >"$work/constraints.txt"
mv "$work/constraints.txt" "$root/constraints.txt"
