# A real systemd over a throw-away layer on a Debian system: start it, run things in it, take it
# away. To be sourced by bash, as root; the caller's EXIT trap must call `container_end`.
#
#   container_start FOLDER [ROOT]    # ROOT: the system below the layer, / if not given
#   inside COMMAND…                  # as root in the container
#   beside COMMAND…                  # a program of this machine on the container's network, with its hosts file; for limit seconds (300)
#
# Its network is a loopback of its own. Nothing below the layer changes.

container_start() {
  local below=${2:-/} state
  container=$1
  mkdir -p "$container/layer"
  mount -t tmpfs -o size=256m,mode=755 tmpfs "$container/layer"
  mkdir "$container/layer"/{up,work,root}
  root=$container/layer/root
  mount -t overlay overlay -o "lowerdir=$below,upperdir=$container/layer/up,workdir=$container/layer/work" "$root"
  : >"$root/etc/machine-id"
  [ -e "$root/etc/hosts" ] || echo "127.0.0.1 localhost" >"$root/etc/hosts"
  # Nothing of the system below starts, and packages may start what is theirs.
  rm -rf "$root"/etc/systemd/system/*.wants "$root/usr/sbin/policy-rc.d"
  ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
  systemd-nspawn -q --settings=no -D "$root" --register=no --keep-unit --private-network -M "voicelived$$" -b \
    --console=pipe </dev/null >"$container/boot.log" 2>&1 &
  nspawn=$!
  for _ in $(seq 900); do
    leader=$(pgrep -P "$nspawn") && state=$(inside systemctl is-system-running 2>/dev/null)
    case ${state:-} in running | degraded) return ;; esac
    kill -0 "$nspawn" 2>/dev/null || break
    sleep 0.1
  done
  echo 'the container did not come up:' >&2
  tail -20 "$container/boot.log" >&2
  return 1
}

inside() {
  timeout 300 nsenter -t "$leader" -m -u -i -p -n -r -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

beside() {
  timeout "${limit:-300}" nsenter -t "$leader" -n unshare -m env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/nonexistent LANG=C.UTF-8 \
    sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$root/etc/hosts" "$@"
}

container_end() {
  [ -n "${container:-}" ] || return 0
  local network process
  network=$(readlink "/proc/${leader:-}/ns/net")
  if [ -n "${leader:-}" ] && kill -0 "$leader" 2>/dev/null; then
    kill -s RTMIN+4 "$leader" # power off
    for _ in $(seq 100); do kill -0 "$nspawn" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$leader" 2>/dev/null
  fi
  [ -z "${nspawn:-}" ] || { kill -9 "$nspawn"; wait "$nspawn"; } 2>/dev/null
  # What was started beside it and is still there.
  for process in /proc/[0-9]*; do
    [ -n "$network" ] && [ "$(readlink "$process/ns/net")" = "$network" ] && kill -9 "${process#/proc/}"
  done 2>/dev/null
  for _ in $(seq 50); do
    umount "$container/layer/root" 2>/dev/null
    mountpoint -q "$container/layer/root" || break
    sleep 0.1
  done
  umount "$container/layer" && rm -rf "$container"
  find /sys/fs/cgroup/{systemd,unified}/payload /sys/fs/cgroup/payload -depth -type d -exec rmdir {} \; 2>/dev/null
  container=''
}
