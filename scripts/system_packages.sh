#!/usr/bin/env bash
# Install the programs that demo and tests use where a user would: Docker, buildah, skopeo, a registry, PostgreSQL,
# Chromium, nginx, git; and what instances of the simulated Google Cloud are made with: systemd-nspawn, ip, mkfs, a C compiler.
# As root on Debian they are installed; elsewhere what is missing is named, and what needs it says so itself.
set -euo pipefail

declare -A package=(
  [/usr/sbin/dockerd]=docker.io
  [/usr/bin/docker-registry]=docker-registry
  [/usr/bin/chromium]=chromium
  [buildah]=buildah
  [skopeo]=skopeo
  [/usr/sbin/nginx]=nginx
  [git]=git
  [curl]=curl
  [systemd-nspawn]=systemd-container
  [ip]=iproute2
  [mkfs.ext4]=e2fsprogs
  [cc]=gcc
)
missing=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null 2>&1 || missing+=("${package[$program]}")
done
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
command -v npm >/dev/null 2>&1 || missing+=(npm)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "Not installed, and not installable without root on Debian: ${missing[*]}." >&2
  echo "Going on without: without Docker, runs are plain processes; tests that need the rest say so." >&2
  exit 0
fi
echo "installing with apt-get: ${missing[*]}"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
  tail -n 20 "$log" >&2
  echo "apt-get could not install ${missing[*]}; its last lines are above." >&2
  exit 1
}
rm -f "$log"
