#!/usr/bin/env bash
# Install what tests/slurm needs on a Debian-like system. Root only; a second call does nothing.
set -euo pipefail

packages=(slurmctld slurmd slurm-client munge)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# dpkg talks on stdout even when apt-get is quiet; its errors come on stderr and stay visible.
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
