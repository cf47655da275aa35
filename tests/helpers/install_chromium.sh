#!/usr/bin/env bash
# Install the browser that opens the report page in tests, on a Debian-like system. Root only; a second call does nothing.
set -euo pipefail
! command -v chromium >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends chromium >/dev/null
