#!/bin/sh
# Give a base image what every runner image has; as root, in a build. Safe to repeat.
#
# What a base lacks is installed from its own distribution; a base that lacks nothing (base/offline.sh
# makes such a one) needs no network.
set -eu
export PYTHONDONTWRITEBYTECODE=1 # looking shall leave no traces

missing=''
need() { # need PACKAGE COMMAND…: the package is installed when the command fails
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has_library() { ldconfig -p | grep -q "$1"; }
need tini command -v tini                               # reaps zombies and passes signals on
need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
need libgomp1 has_library libgomp.so.1                  # NumPy, scikit-learn and PyTorch link to these
need libstdc++6 has_library libstdc++.so.6              # two and do not carry them
need python3 command -v python3
need python3-pip python3 -c 'import pip'
need python3-venv python3 -c 'import ensurepip'
if [ -n "$missing" ]; then
  apt-get -qq update
  # shellcheck disable=SC2086 # one word each
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
  rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
fi
command -v python >/dev/null || ln -s python3 "$(dirname "$(command -v python3)")/python"
# Debian forbids pip beside apt (PEP 668); in an image of one workload there is nothing to protect.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED

# The plain user. Ubuntu 24.04 has given the number to `ubuntu`; a base without userdel has no such user.
other=$(awk -F: '$3 == 1000 && $1 != "workload" { print $1 }' /etc/passwd)
if [ -n "$other" ]; then
  userdel "$other"
  rm -rf "/home/$other"
fi
grep -q '^workload:' /etc/group || echo 'workload:x:1000:' >>/etc/group
grep -q '^workload:' /etc/passwd || echo 'workload:x:1000:1000::/home/workload:/bin/bash' >>/etc/passwd
install -d -o 1000 -g 1000 /home/workload /workspace

# A workload has no way up: nothing here runs as somebody else than who calls it.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
