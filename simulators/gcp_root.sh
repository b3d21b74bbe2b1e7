#!/usr/bin/env bash
# gcp_root.sh DIR: put the root file system of the simulated instances into DIR (root, Debian, a C compiler; 15-20 s).
# apt-get fetches and verifies the packages, dpkg-deb unpacks them, no maintainer script runs: what those would do
# and is needed here follows below. Good for a machine that lives for minutes, not for one that is upgraded.
set -euo pipefail
tree=$(realpath -m "$1")
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packages=(
  dash bash coreutils libc-bin base-files base-passwd findutils grep sed tar gzip mawk util-linux hostname login
  passwd debianutils mount procps netbase                                             # what Debian calls essential
  systemd systemd-sysv dbus iproute2 curl ca-certificates python3                     # an instance's own
  google-guest-agent cloud-init                                                       # start-up scripts, user data
  docker.io containerd runc iptables kmod                                             # the engine
)
fetch() {
  apt-get -qq -o Dir::State::status="$work/status" -o Dir::Cache::archives="$work" -o Dir::Cache::pkgcache= \
    -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1 -o APT::Install-Recommends=false -o APT::Sandbox::User=root \
    install --download-only --yes "${packages[@]}" >/dev/null
}
mkdir -p "$work/partial"
: >"$work/status" # apt shall believe that nothing is installed: every dependency is fetched
fetch || { apt-get -qq update && fetch; }

mkdir -p "$tree"
cd "$tree"
mkdir -p usr/bin usr/sbin usr/lib usr/lib64 var run/lock
ln -s ../run var/run
ln -s ../run/lock var/lock
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$folder"; done # merged /usr, as Debian 12 has it
for package in "$work"/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --exclude=./usr/share/doc \
    --exclude=./usr/share/man --exclude=./usr/share/locale --exclude=./usr/share/info
done

cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
account() {
  echo "$1:x:$2:" >>etc/group
  echo "$1:x:$2:$2::/nonexistent:/usr/sbin/nologin" >>etc/passwd
}
account messagebus 101
account docker 102
ln -sf dash usr/bin/sh
ln -sf mawk usr/bin/awk
for program in iptables ip6tables; do ln -sf "$program-legacy" "usr/sbin/$program"; done
mkdir -p etc/ssl/certs tmp proc sys dev run root var/tmp
chmod 1777 tmp var/tmp
cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/
: >etc/machine-id

# Units: the boot is over when user data begins, so whatever it does not need is left out.
units=etc/systemd/system
rm -rf "$units"/*.wants/{cloud,containerd,docker,e2scrub,remote-fs}* etc/cloud lib/systemd/system-generators/cloud-init-generator
for unit in systemd-networkd systemd-networkd-wait-online systemd-firstboot systemd-logind systemd-timesyncd systemd-resolved \
  getty@ console-getty apt-daily apt-daily-upgrade e2scrub_reap containerd ldconfig systemd-hwdb-update systemd-sysusers \
  systemd-update-done systemd-journal-catalog-update systemd-update-utmp systemd-update-utmp-runlevel systemd-pstore; do
  ln -sf /dev/null "$units/$unit.service"
done
for unit in systemd-networkd.socket apt-daily.timer apt-daily-upgrade.timer systemd-tmpfiles-clean.timer dpkg-db-backup.timer \
  fstrim.timer e2scrub_all.timer; do ln -sf /dev/null "$units/$unit"; done
cp -a --no-preserve=ownership "$here/gcp_root_files/." .
wanted=$units/multi-user.target.wants
mkdir -p "$wanted" "$units/sockets.target.wants"
for unit in google-guest-agent google-startup-scripts google-shutdown-scripts; do
  ln -sf "/lib/systemd/system/$unit.service" "$wanted/"
done
for unit in docker.service user-data.service gpu-preinstalled.service; do ln -sf "/etc/systemd/system/$unit" "$wanted/"; done
ln -sf /etc/systemd/system/docker.socket "$units/sockets.target.wants/"

cc -shared -fPIC -O -Wall -Werror -o usr/lib/simulated-gpu/libnvidia-ml.so.1 "$here/gcp_nvml.c" -ldl
chroot . /sbin/ldconfig
# cloud-init takes 1.5 s without compiled modules and 0.3 s with them: it carries out an empty order here.
mkdir -p var/lib/cloud/seed/nocloud
printf 'instance-id: compile\ndsmode: local\n' >var/lib/cloud/seed/nocloud/meta-data
printf '#cloud-config\nbootcmd: [/bin/true]\nwrite_files: [{path: /run/x, content: x}]\nruncmd: [/bin/true]\n' \
  >var/lib/cloud/seed/nocloud/user-data
unshare --mount sh -c 'mount -t proc proc proc; mount --rbind /dev dev; mount -t tmpfs tmpfs run
  env -u PYTHONDONTWRITEBYTECODE chroot . /usr/sbin/run-user-data --seeded' >/dev/null 2>"$work/cloud-init" ||
  { cat "$work/cloud-init" >&2; exit 1; }
rm -rf var/lib/cloud var/log/cloud-init*
