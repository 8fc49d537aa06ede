# Becomes the first process of a node: process 1 of its own PID namespace, in mount, UTS and cgroup namespaces of its
# own. When it ends, the kernel ends everything on the node, and all mounts go with it.
#
#   node.sh groups NAME FOLDER GROUP PROGRAM...     FOLDER holds run, tmp and var, which become the node's
#
# GROUP is the name of the node's control groups; PROGRAMs are placed in /var/lib/testbed/bin.
set -eu
step=$1
shift
name=$1 folder=$2 group=$3

# The control groups of the node: one in each hierarchy of version 1, or one in the only hierarchy of version 2.
own_groups() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo "/sys/fs/cgroup/$group"
  else
    for hierarchy in /sys/fs/cgroup/*/; do echo "$hierarchy$group"; done
  fi
}

# join GROUP: makes a control group and moves this process into it.
join() {
  mkdir -p "$1"
  for file in cpuset.cpus cpuset.mems; do
    # Version 1 lets no process into a group without processors.
    [ ! -e "$1/$file" ] || [ -n "$(cat "$1/$file")" ] || cat "${1%/*}/$file" >"$1/$file"
  done
  echo 0 >"$1/cgroup.procs"
}

case $step in
groups)
  # A cgroup namespace takes the groups of the process that makes it as its roots.
  for own in $(own_groups); do join "$own"; done
  exec unshare --cgroup -- sh "$0" leaf "$@"
  ;;
leaf)
  # In version 2 a group with processes cannot have groups for containers.
  for own in $(own_groups); do join "$own/node"; done
  exec unshare --mount --pid --fork --kill-child=KILL --mount-proc --uts --ipc -- sh "$0" init "$@"
  ;;
esac
shift 3
echo "$name" >/proc/sys/kernel/hostname

# Each node has its own state where every program looks for it, so that even paths of hostPath volumes are its own.
mkdir -p "$folder/run/lock" "$folder/tmp" "$folder/cgroup" "$folder/sysctl" "$folder/var/lib/testbed/bin" \
  "$folder/var/log" "$folder/var/tmp" "$folder/var/cache"
ln -sfn /run "$folder/var/run"
for program; do
  place=$folder/var/lib/testbed/bin/${program##*/}
  : >"$place"
  mount --bind "$(readlink -f "$program")" "$place"
done

# The links in /sys are those of this network namespace; the control groups are the node's.
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys
if [ -e "$folder/cgroup/cgroup.controllers" ]; then
  mount --bind "$folder/cgroup/$group" /sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for hierarchy in "$folder/cgroup"/*/; do
    place=/sys/fs/cgroup/$(basename "$hierarchy")
    mkdir "$place"
    mount --bind "$hierarchy$group" "$place"
  done
fi
umount -R "$folder/cgroup"

# The kubelet sets these for the whole machine, unless they have the wanted value: let it see that value.
for pair in vm/overcommit_memory:1 vm/panic_on_oom:0 kernel/panic:10 kernel/panic_on_oops:1 \
  kernel/keys/root_maxkeys:1000000 kernel/keys/root_maxbytes:25000000; do
  place=$folder/sysctl/$(echo "${pair%:*}" | tr / .)
  echo "${pair#*:}" >"$place"
  mount --bind "$place" "/proc/sys/${pair%:*}"
done

mount --bind "$folder/tmp" /tmp
mount --rbind "$folder/run" /run
mount --rbind "$folder/var" /var
mount --make-rshared /
: >/run/testbed-node

# Reaps what other processes leave behind.
sleep infinity &
wait
