#!/bin/sh
# Bring a lent Google Cloud machine from its boot to its agent, or say what keeps it from that.
#
# What goes wrong with the GPU driver or the disk is left in $boot/fault: the agent starts all the
# same and reports it. Where not even that is possible the serial port has the sentence (the unit
# writes there too), and the machine stops, since it would only cost.
# /var/lib/cynthus/settings beside this file holds the values, quoted; nothing here is generated.
set -u
umask 022 # the driver's files are read by every user's programs
home=/var/lib/cynthus
boot=/run/cynthus # in memory: also a machine with a full disk can say so
. "$home/settings"
export HOME="$home" # Docker's client and its credential helper write there; / is read-only on COS

disk_floor_kib=1048576 # below 1 GiB no image of use can be pulled
device_wait_s=20       # device files appear within a second of the driver
pull_tries=6           # with pauses of 2 to 32 s about a minute: longer outages end the attempt
toolkit=https://nvidia.github.io/libnvidia-container

say() { printf 'cynthus: %s\n' "$1"; }

mark() {
	printf '%s %s\n' "$1" "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" >>"$boot/marks"
	say "mark $1" # also where no server hears of it
}

# The first fault is the cause; what follows from it is only said.
fault() {
	say "$1"
	[ -e "$boot/fault" ] || printf '%s\n' "$1" >"$boot/fault"
}

give_up() {
	say "$1"
	say "nothing can run on this machine: it stops"
	exit 1 # the unit powers off
}

last_line() { tail -n 1 "$1" 2>/dev/null | tr -cd '[:print:]' | cut -c 1-300; }

look_at_disk() {
	# shellcheck disable=SC2046 # the columns of df
	set -- $(df -Pk "$home" | tail -n 1)
	[ "$4" -ge "$disk_floor_kib" ] ||
		fault "disk: $(($4 / 1024)) MiB are free after the boot, at least $((disk_floor_kib / 1024)) are needed. Ask for more in resources/disk."
}

# ── GPU ─────────────────────────────────────────────────────────────────────────────────────────

# https://cloud.google.com/container-optimized-os/docs/how-to/run-gpus
install_driver() {
	set -- install gpu
	[ -z "$driver" ] || set -- "$@" -- "-version=$driver"
	timeout "$driver_limit_s" cos-extensions "$@" >"$boot/driver.log" 2>&1
	code=$?
	if [ "$code" -eq 124 ]; then
		fault "GPU driver: was not installed within $driver_limit_s s: $(last_line "$boot/driver.log")"
		return 1
	fi
	if [ "$code" -ne 0 ]; then
		fault "GPU driver: could not be installed (code $code): $(last_line "$boot/driver.log")"
		return 1
	fi
	# The file system below is mounted noexec: the host could not run nvidia-smi.
	mount --bind /var/lib/nvidia /var/lib/nvidia && mount -o remount,exec /var/lib/nvidia ||
		say "/var/lib/nvidia could not be mounted with exec"
}

wait_for_devices() {
	waited=0
	while [ ! -e "/dev/nvidia$((gpu_count - 1))" ] || [ ! -e /dev/nvidiactl ]; do
		if [ "$waited" -ge "$device_wait_s" ]; then
			fault "GPU driver: is there, but not all $gpu_count GPUs: /dev/nvidia$((gpu_count - 1)) is missing"
			return 1
		fi
		sleep 1
		waited=$((waited + 1))
	done
}

have_driver() {
	[ "$gpu_count" -gt 0 ] || return 0
	if [ "$kind" = cos ]; then
		install_driver || return 0
	elif ! nvidia-smi >"$boot/driver.log" 2>&1; then # it also makes the device files
		fault "GPU driver: the boot image's does not work: $(last_line "$boot/driver.log")"
		return 0
	fi
	wait_for_devices && mark driver_ready
}

# ── Docker ──────────────────────────────────────────────────────────────────────────────────────

apt_install() {
	DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get install -y \
		--no-install-recommends "$@" >"$boot/apt.log" 2>&1
}

# https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html
install_toolkit() {
	curl -fsS --max-time 60 "$toolkit/gpgkey" -o /usr/share/keyrings/nvidia-toolkit.asc &&
		echo "deb [signed-by=/usr/share/keyrings/nvidia-toolkit.asc] $toolkit/stable/deb/$(dpkg --print-architecture) /" \
			>/etc/apt/sources.list.d/nvidia-toolkit.list &&
		chmod 644 /usr/share/keyrings/nvidia-toolkit.asc /etc/apt/sources.list.d/nvidia-toolkit.list &&
		apt-get update >"$boot/apt.log" 2>&1 &&
		apt_install nvidia-container-toolkit
}

have_docker() {
	if [ "$kind" = ubuntu ] && ! command -v docker >/dev/null; then
		{ apt-get update >"$boot/apt.log" 2>&1 && apt_install docker.io; } ||
			give_up "Docker could not be installed: $(last_line "$boot/apt.log")"
	fi
	if [ "$kind" = ubuntu ] && [ "$gpu_count" -gt 0 ] && ! command -v nvidia-ctk >/dev/null; then
		if install_toolkit && nvidia-ctk runtime configure --runtime=docker >"$boot/apt.log" 2>&1; then
			systemctl restart docker
		else
			fault "NVIDIA's container toolkit could not be installed: $(last_line "$boot/apt.log")"
		fi
	fi
	waited=0
	until docker version >"$boot/docker.log" 2>&1; do
		[ "$waited" -lt 60 ] || give_up "Docker does not answer: $(last_line "$boot/docker.log")"
		sleep 1
		waited=$((waited + 1))
	done
}

# ── the agent ───────────────────────────────────────────────────────────────────────────────────

# https://cloud.google.com/artifact-registry/docs/docker/authentication
log_in() {
	[ -n "$registries" ] || return 0
	if command -v docker-credential-gcr >/dev/null; then
		docker-credential-gcr configure-docker \
			--registries="$(echo "$registries" | tr ' ' ',')" >"$boot/login.log" 2>&1 && return 0
	fi
	token=$(curl -fsS --max-time 10 -H 'Metadata-Flavor: Google' \
		"$metadata/computeMetadata/v1/instance/service-accounts/default/token" |
		sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
	for host in $registries; do
		printf '%s' "$token" | docker login -u oauth2accesstoken --password-stdin \
			"https://$host" >"$boot/login.log" 2>&1 ||
			say "no access to $host: $(last_line "$boot/login.log")"
	done
	unset token
}

# Try "$@" again while it fails, unless the answer is a clear no; its output is in $boot/try.log.
insist() {
	pause_s=2
	tried=1
	until "$@" >"$boot/try.log" 2>&1; do
		[ "$tried" -lt "$pull_tries" ] || return 1
		! grep -qiE 'manifest unknown|not found|denied|unauthorized|error: 40[134]' \
			"$boot/try.log" || return 1
		sleep "$pause_s"
		pause_s=$((pause_s * 2))
		tried=$((tried + 1))
	done
}

have_agent() {
	if [ -n "$agent_image" ]; then
		log_in
		insist docker pull --quiet "$agent_image" ||
			give_up "agent image $agent_image: could not be pulled: $(last_line "$boot/try.log")"
		return 0
	fi
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		give_up "the boot image has no Python 3.11 or newer. Set CYNTHUS_GCP_AGENT_IMAGE."
	insist curl -fsS --max-time 60 "$server/agent.pyz" -o "$home/agent.pyz" ||
		give_up "agent: could not be fetched from $server: $(last_line "$boot/try.log")"
}

# Container-Optimized OS drops what comes in; which peers may come is the network's firewall's to say.
# https://cloud.google.com/container-optimized-os/docs/how-to/firewall
let_gang_in() {
	[ "$kind" = cos ] && [ "$nodes" -gt 1 ] && command -v iptables >/dev/null || return 0
	iptables -w -A INPUT -p tcp -j ACCEPT || say "the host's firewall could not be opened to peers"
}

# "$@" is the image with what follows it; the GPUs are only looked at by the agent. State and data
# have the machine's own paths: what the agent has mounted into the run's container, Docker looks
# for on the machine.
run_agent_container() {
	if [ "$gpu_count" -gt 0 ] && [ "$kind" = ubuntu ] && command -v nvidia-ctk >/dev/null; then
		set -- --gpus all --env NVIDIA_DRIVER_CAPABILITIES=utility "$@"
	elif [ "$gpu_count" -gt 0 ]; then
		number=0
		while [ "$number" -lt "$gpu_count" ]; do
			[ ! -e "/dev/nvidia$number" ] || set -- --device "/dev/nvidia$number" "$@"
			number=$((number + 1))
		done
		for name in nvidiactl nvidia-uvm nvidia-uvm-tools; do
			[ ! -e "/dev/$name" ] || set -- --device "/dev/$name" "$@"
		done
		set -- --volume /var/lib/nvidia/lib64:/usr/local/nvidia/lib64:ro \
			--env LD_LIBRARY_PATH=/usr/local/nvidia/lib64 "$@"
	fi
	# The command is another user: its checkpoints are read, held by links, and removed at the end.
	exec docker run --rm --name cynthus-agent --network host --user 0 --log-driver none \
		--cap-drop ALL --cap-add NET_ADMIN --cap-add DAC_OVERRIDE --cap-add FOWNER \
		--security-opt no-new-privileges \
		--volume /var/run/docker.sock:/var/run/docker.sock \
		--volume "$home/state:$home/state" --volume "$home/cache:$home/cache" --volume "$boot:/run/cynthus:ro" "$@"
}

mkdir -p "$boot"
mkdir -p -m 700 "$home/state" "$home/cache" "$home/.docker" # the registry's token may lie in the latter
mark booted
look_at_disk
have_driver &
have_docker
have_agent
wait
let_gang_in
set -- run --server "$server" --instance "$instance" --identity google --audience "$audience" \
	--boot-dir /run/cynthus --engine docker --gpu-mode "$gpu_mode" --registry-auth google \
	--control-plane "$control_plane" --max-life "$max_life_s" --metadata-url "$metadata" \
	--cache-dir "$home/cache" --state-dir "$home/state"
if [ -z "$agent_image" ]; then
	exec python3 "$home/agent.pyz" "$@"
fi
run_agent_container "$agent_image" "$@"
