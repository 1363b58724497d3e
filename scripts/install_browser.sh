#!/usr/bin/env bash
# Installs Chromium, with which a test looks at our pages as people do, where there is no browser.
# On Debian and its like, as root; elsewhere it says what is missing, and that test fails.
set -euo pipefail

for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The browser test needs Chromium: install the package chromium, or name one in CHROMIUM." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq -o Acquire::Retries=3
apt-get install -qq -o Acquire::Retries=3 --yes --no-install-recommends chromium
