#!/usr/bin/env bash
# Make a small Debian image with Python where no container registry can be reached.
#
#   offline.sh IMAGE[:TAG] [DEBIAN_PACKAGE…]        needs root, apt-get and a Docker engine; about 5 s
#
# apt-get resolves and fetches the packages from the mirrors this machine uses already (and checks
# their signatures), dpkg-deb unpacks them into an empty folder, `docker import` makes the image.
# No maintainer script runs, so the few things they would have set up are written out below; that is
# enough for a container and too little for a machine that shall be upgraded.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "offline.sh: should be given an image name. Write \`offline.sh cynthus/base:python3\`." >&2
  exit 2
fi
image=$1
shift
docker=${CYNTHUS_DOCKER:-docker} # the client that the caller found to work

# What a command needs to run at all; then Python, and the two libraries that NumPy, scikit-learn
# and PyTorch wheels link to but do not carry. tini reaps zombies for those who ask for it.
packages=(
  base-files base-passwd bash ca-certificates coreutils dash debianutils findutils grep gzip
  hostname libc-bin login mawk passwd sed tar tini util-linux
  libgomp1 libstdc++6 python3 python3-pip python3-venv
  "$@"
)

work=$(mktemp -d "${TMPDIR:-/tmp}/cynthus-base.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
debs=$work/debs
mkdir -p "$root" "$debs/partial"
chmod 755 "$root" # it becomes the image's /, which mktemp's 700 would close to everyone but root
: >"$work/status" # an empty dpkg database: nothing counts as installed, so everything is fetched

fetch() {
  apt-get -qq -y --download-only --no-install-recommends \
    -o Dir::State::status="$work/status" \
    -o Dir::Cache::archives="$debs" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    -o Debug::NoLocking=1 \
    -o APT::Sandbox::User=root \
    install "${packages[@]}" >"$work/apt.log" 2>&1
}
# A fresh machine has no package lists, or lists that name files the mirror has replaced since.
if ! fetch; then
  apt-get -qq update >&2
  fetch || { tail -n 5 "$work/apt.log" >&2; exit 1; }
fi

# Debian 12 keeps /bin, /lib and their like as links into /usr; packages still name the old places.
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,etc/ssl/certs,home,proc,run/lock,sys,tmp,var/tmp}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
ln -s ../run "$root/var/run"
ln -s ../run/lock "$root/var/lock"
for deb in "$debs"/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/info/*' \
    --exclude='./usr/share/locale/*' --exclude='./usr/share/man/*'
done

# base-passwd's and libc-bin's part, and the user that runs workloads.
cp -n "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp -n "$root/usr/share/base-passwd/group.master" "$root/etc/group"
echo 'workload:x:1000:' >>"$root/etc/group"
echo 'workload:x:1000:1000::/home/workload:/bin/bash' >>"$root/etc/passwd"
install -d -o 1000 -g 1000 "$root/home/workload"
chmod 1777 "$root/tmp" "$root/var/tmp"
[ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"
[ -e "$root/usr/bin/awk" ] || ln -s mawk "$root/usr/bin/awk"
[ -e "$root/usr/bin/python" ] || ln -s python3 "$root/usr/bin/python"
# The builder's own bundle, so that what the builder trusts (a company's proxy) is trusted here too.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
chroot "$root" /sbin/ldconfig
# Debian compiles Python's library when it is installed. Without that each start in a container did it
# anew for all that it imports, 0.3 s and more, and kept nothing of it.
for library in "$root"/usr/lib/python3.*; do
  chroot "$root" /usr/bin/python3 -m compileall -q "${library#"$root"}"
done

tar -C "$root" --numeric-owner -c . | "$docker" import \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV LANG=C.UTF-8' \
  --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
  --change 'LABEL dev.cynthus.base=offline' \
  --change 'CMD ["python3"]' \
  - "$image"
