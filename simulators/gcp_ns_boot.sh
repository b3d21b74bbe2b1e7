#!/bin/sh
# Become a machine: join its control groups, mount its disk, hand over to systemd under systemd-nspawn.
# Runs as the first process of a pid and a mount namespace, so that everything ends with it: processes, mounts,
# the loop device. (systemd-nspawn alone leaves its machine running when it is killed.)
# From the environment: TREE (root file system), FOLDER (the machine's), NAME, NETWORK (its namespace), CONTROL_GROUPS, FULL.
set -eu
for group in $CONTROL_GROUPS; do echo 0 >"$group/cgroup.procs"; done

touch "$FOLDER/network"
mount --bind "$NETWORK" "$FOLDER/network" # before /proc changes, which the name leads through
mount -t proc proc /proc

disk=$FOLDER/disk
root=$FOLDER/root
mkdir -p "$disk" "$root"
mount -o loop,noatime "$FOLDER/disk.img" "$disk"
mkdir -p "$disk/changes" "$disk/work" "$disk/docker"
rm -f "$disk/filler"
if [ -n "$FULL" ]; then # reserved and not written: the host's disk stays as it is
  size=0
  step=$(df --output=avail -B1 "$disk" | tail -n 1)
  while [ "$step" -ge 4096 ]; do
    if fallocate --offset "$size" --length "$step" "$disk/filler" 2>/dev/null; then size=$((size + step)); else step=$((step / 2)); fi
  done
fi
mount -t overlay -o "lowerdir=$TREE,upperdir=$disk/changes,workdir=$disk/work" overlay "$root"
# "|| true": a machine whose disk is full boots all the same.
printf '127.0.0.1 localhost %s\n169.254.169.254 metadata.google.internal metadata\n' "$NAME" >"$root/etc/hosts" || true
echo 'nameserver 169.254.169.254' >"$root/etc/resolv.conf" || true # Google's; here nothing answers, so look-ups fail at once

# nspawn's locks and propagation folders go by machine name on the whole host: this machine gets its own.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
# Docker cannot put its overlays on an overlay: its folder is the disk's own. keyctl and bpf are runc's.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0 SYSTEMD_NSPAWN_USE_CGNS=1
exec systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --machine="$NAME" --hostname="$NAME" \
  --network-namespace-path="$FOLDER/network" --resolv-conf=off --timezone=off --link-journal=no \
  --capability=CAP_NET_ADMIN,CAP_SYS_ADMIN,CAP_MKNOD --system-call-filter='add_key keyctl bpf' \
  --bind="$disk/docker:/var/lib/docker" --bind-ro="$FOLDER/hardware:/etc/simulated-hardware" \
  --boot systemd.journald.forward_to_console=1 systemd.show_status=0
