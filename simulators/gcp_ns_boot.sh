#!/bin/sh
# Become a machine: join its control groups, mount its disk, hand over to systemd under systemd-nspawn.
# Runs in a mount namespace of its own, so that every mount and its loop device end with it.
# From the environment: TREE (root file system), FOLDER (the machine's), NAME, NETWORK (its namespace), CONTROL_GROUPS, FULL.
set -eu
for group in $CONTROL_GROUPS; do echo 0 >"$group/cgroup.procs"; done

disk=$FOLDER/disk
root=$FOLDER/root
mkdir -p "$disk" "$root"
mount -o loop,noatime "$FOLDER/disk.img" "$disk"
mkdir -p "$disk/changes" "$disk/work" "$disk/docker"
if [ -n "$FULL" ]; then # fails when the disk has less than what it says is free: then it is full indeed
  fallocate -l "$(df --output=avail -B1 "$disk" | tail -n 1)" "$disk/filler" || dd if=/dev/zero of="$disk/filler" bs=1M 2>/dev/null || true
fi
mount -t overlay -o "lowerdir=$TREE,upperdir=$disk/changes,workdir=$disk/work" overlay "$root"
printf '127.0.0.1 localhost %s\n169.254.169.254 metadata.google.internal metadata\n' "$NAME" >"$root/etc/hosts" || true
echo 'nameserver 169.254.169.254' >"$root/etc/resolv.conf" || true # Google's; here nothing answers, so look-ups fail at once

# nspawn's locks and propagation folders go by machine name on the whole host: this machine gets its own.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
# Docker cannot put its overlays on an overlay: its folder is the disk's own. keyctl and bpf are runc's.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0 SYSTEMD_NSPAWN_USE_CGNS=1
exec systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --machine="$NAME" --hostname="$NAME" \
  --network-namespace-path="$NETWORK" --resolv-conf=off --timezone=off --link-journal=no \
  --capability=CAP_NET_ADMIN,CAP_SYS_ADMIN,CAP_MKNOD --system-call-filter='add_key keyctl bpf' \
  --bind="$disk/docker:/var/lib/docker" --bind-ro="$FOLDER/hardware:/etc/simulated-hardware" \
  --boot systemd.journald.forward_to_console=1 systemd.show_status=0
