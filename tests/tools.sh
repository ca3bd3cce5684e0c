#!/bin/sh
# Fetch what some tests need beside Python packages, where a package manager of this machine has it. Nothing here is required:
# what cannot be had is named, and its tests are skipped.
cd "$(dirname "$0")/.." || exit 0

debian() { # debian PACKAGE: install it, where this user may
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        { apt-get install -y -qq "$1" || { apt-get update -qq && apt-get install -y -qq "$1"; }; } > /dev/null 2>&1 && return
    fi
    echo "not installed: $1 (on Debian: apt-get install $1)"
}

command -v chromium > /dev/null || debian chromium
test -d /usr/share/datasets/fashion-mnist || debian dataset-fashion-mnist

lock=tests/browser/package-lock.json
installed=tests/browser/node_modules/.package-lock.json
if [ ! "$installed" -nt "$lock" ]; then
    if command -v npm > /dev/null && npm --prefix tests/browser ci --ignore-scripts --no-audit --no-fund > /dev/null 2>&1; then
        touch "$installed"
    else
        echo "not installed: axe-core (npm --prefix tests/browser ci)"
    fi
fi
exit 0
