#!/usr/bin/env bash
# The real servers of the tests: PostgreSQL with PostGIS, stac-fastapi-pgstac, azurite, which emulates Azure's blobs, and
# moto, which emulates S3; and chromium, in which the report is opened.
#
#   bash tests/servers/install.sh
#
# Puts all but the system's packages into .servers at the root of the repository, or into $GEOSSL_SERVERS. Does only what
# is missing. System packages need root on Debian or Ubuntu; elsewhere it says what to install by hand, and exits 1.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
servers=${GEOSSL_SERVERS:-$root/.servers}
python=${PYTHON:-python3}
packages=('stac-fastapi-pgstac[server]>=6.0,<8' 'pypgstac[psycopg]>=0.9,<0.11')
azurite='azurite@^3.35'
moto='moto[s3,server]>=5,<6'

# Tests that start meanwhile wait for the lock.
mkdir -p "$servers"
exec 9> "$servers/.lock"
! command -v flock > /dev/null || flock 9

has_postgis() {
  local initdb
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ ! -f "/usr/share/postgresql/$(basename "${initdb%/bin/initdb}")/extension/postgis.control" ] || return 0
  done
  return 1
}

missing=()
has_postgis || missing+=(postgresql postgresql-postgis)
command -v npm > /dev/null || missing+=(nodejs npm)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "install.sh: missing: ${missing[*]} (names of Debian 12); install them, or run this as root on Debian" >&2
    exit 1
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
if [ "$(id -u)" = 0 ] && ! id postgres > /dev/null 2>&1; then
  echo "install.sh: there is no user postgres; PostgreSQL does not run as root" >&2
  exit 1
fi

# Without a browser its tests are skipped, so nothing depends on there being one.
if ! command -v chromium > /dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; } ||
      echo "install.sh: no chromium; the tests of the report in a browser are skipped" >&2
  else
    echo "install.sh: missing: chromium; the tests of the report in a browser are skipped" >&2
  fi
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "install.sh: $python is older than 3.11; name another with PYTHON=" >&2
  exit 1
}
# Few of the modules are ever imported, so Python compiles them when they are.
# The list of what was asked for lies beside what came of it, so that a changed list installs again.
if [ "$(cat "$servers/venv/asked-for" 2> /dev/null)" != "${packages[*]}" ]; then
  "$python" -m venv --clear "$servers/venv"
  "$servers/venv/bin/python" -m pip install -q --no-compile --disable-pip-version-check "${packages[@]}"
  echo "${packages[*]}" > "$servers/venv/asked-for"
fi
# Apart from the others: it has its own opinion about their dependencies.
if [ "$(cat "$servers/moto/asked-for" 2> /dev/null)" != "$moto" ]; then
  "$python" -m venv --clear "$servers/moto"
  "$servers/moto/bin/python" -m pip install -q --no-compile --disable-pip-version-check "$moto"
  echo "$moto" > "$servers/moto/asked-for"
fi
[ -x "$servers/node_modules/.bin/azurite-blob" ] ||
  npm install --silent --no-audit --no-fund --prefix "$servers" "$azurite"
echo "install.sh: servers are in $servers"
