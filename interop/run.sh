#!/bin/sh
# Runs the interoperability tests. What they need beside Go is installed first
# where that is possible: as root, with apt-get. Otherwise a test that misses
# something fails and says what to install.
set -eu
cd "$(dirname "$0")/.."

missing=
command -v php >/dev/null 2>&1 || missing="$missing php-cli"
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
command -v javac >/dev/null 2>&1 || missing="$missing default-jdk-headless"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "interop: installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	# shellcheck disable=SC2086 # a list of packages
	apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

exec go test -tags interop -count=1 -timeout 20m "$@" ./interop/...
