#!/usr/bin/env bash
# Installs what the lab, the tests and the benchmarks need, and nothing that is there already.
#
#   tests/setup.sh STEP...     STEP: root packages wireguard-go tailscale-wireguard-go coredns boringtun-cli cargo-deny cargo-fuzz
#                                    cluster-packages kubernetes flannel helm krew promtool cargo-cyclonedx
#                                    systemd-analyze chromium images
#
# Programs are built once into a cache outside the tree, under a name that changes with what they are built from, and
# linked into target/peers, where the tests look for them.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/linkspan
links=$tree/target/peers
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# command:Debian package, or a file of it
commands=(
  bridge:iproute2 cc:gcc curl:curl dig:bind9-dnsutils dnsperf:dnsperf ethtool:ethtool ip:iproute2 iperf3:iperf3
  iptables:iptables jq:jq man:man-db modprobe:kmod nft:nftables nsenter:util-linux ping:iputils-ping sysctl:procps tcpdump:tcpdump
  wg:wireguard-tools /usr/include/stdlib.h:libc6-dev
)
# The same for clusters. Another package has a busybox, too, which is not static, as pods need it.
cluster_commands=(
  cc:gcc conntrack:conntrack containerd:containerd ctr:containerd curl:curl dig:bind9-dnsutils ip:iproute2 iperf3:iperf3
  iptables:iptables nft:nftables nsenter:util-linux runc:runc socat:socat /usr/include/stdlib.h:libc6-dev
  /usr/lib/cni/bridge:containernetworking-plugins /usr/share/doc/busybox-static:busybox-static
)

step_root() {
  [[ $(id -u) == 0 ]] || fail "run this as root: it makes network namespaces and TUN links"
  [[ -e /dev/net/tun ]] || modprobe tun 2>/dev/null || true
  # The lab's bridges shall filter as Kubernetes nodes do; in the kernel already, or a module.
  [[ -e /proc/sys/net/bridge ]] || modprobe br_netfilter 2>/dev/null || true
  if [[ ! -e /dev/net/tun ]]; then
    say "making /dev/net/tun"
    mkdir -p /dev/net && mknod /dev/net/tun c 10 200
  fi
}

step_packages() { install "${commands[@]}"; }
# The page of `kubectl linkspan ui` is looked at in it.
step_chromium() { install chromium:chromium; }
# The unit in deploy/systemd is checked with it; a few megabytes, and nothing of it runs.
step_systemd-analyze() { install systemd-analyze:systemd; }
# Images are built for and tried on the other architecture, too.
step_images() {
  local other=aarch64 name=arm64
  [[ $(uname -m) == x86_64 ]] || other=x86_64 name=amd64
  install "$other-linux-gnu-gcc:gcc-${other/_/-}-linux-gnu" "/usr/$other-linux-gnu/include/stdint.h:libc6-dev-$name-cross" \
    "qemu-$other-static:qemu-user-static" readelf:binutils
}
step_cluster-packages() {
  install "${cluster_commands[@]}"
  # Each kubelet, containerd and controller manager has several; 128, the kernel's, do for about seven nodes.
  local instances=/proc/sys/fs/inotify/max_user_instances
  (($(<$instances) < 1024)) || return 0
  say "raising fs.inotify.max_user_instances to 1024, until the machine restarts"
  echo 1024 >$instances || say "it cannot be raised: clusters may not start"
}

# install COMMAND:PACKAGE...: installs the packages whose command, or file by its whole path, is missing.
install() {
  local missing=() names=() pair
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || [[ $pair == /* && -e ${pair%%:*} ]] || { names+=("${pair%%:*}"); missing+=("${pair#*:}"); }
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || fail "these programs are missing, and only Debian's apt-get is known here: ${names[*]}"
  say "installing Debian packages: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# place NAME FILE: makes target/peers/NAME point at FILE.
place() {
  mkdir -p "$links"
  [[ $(readlink "$links/$1" 2>/dev/null) == "$2" ]] || ln -sfn "$2" "$links/$1"
}

# build NAME KEY COMMAND...: runs COMMAND with $out set to a new folder, unless NAME was built from KEY before.
build() {
  local name=$1 key=$2 file
  shift 2
  file=$cache/$name-$key/$name
  if [[ ! -x $file ]]; then
    mkdir -p "$cache"
    exec 9>"$cache/$name.lock"
    flock -n 9 || { say "waiting for another build of $name"; flock 9; }
    rm -rf "$cache/$name".?????? # of a build that was killed
    if [[ ! -x $file ]]; then
      say "building $name (once; kept in $cache)"
      local start=$SECONDS
      out=$(mktemp -d "$cache/$name.XXXXXX")
      "$@" 9>&- || { rm -rf "$out"; fail "$name does not build; the lines above say why"; }
      rm -rf "${file%/*}"
      mv "$out" "${file%/*}"
      say "built $name in $((SECONDS - start)) s"
    fi
    exec 9>&-
  fi
  place "$name" "$file"
}

# go_peer NAME FOLDER PACKAGE [LDFLAGS]: a program of the Go module in tests/peers/FOLDER.
go_peer() {
  local key
  key=$({ find "$tree/tests/peers/$2" -type f | LC_ALL=C sort | xargs cat; printf %s "${4-}"; } | sha256sum | cut -c1-12)
  build "$1" "$key" go_build "$@"
}
go_build() {
  command -v go >/dev/null || fail "$1 is written in Go, and no go command was found: install Go 1.26 or newer"
  # The compiler spends a quarter of its time on collecting garbage and on what debuggers read, which -s throws away. With these
  # tags a program that needs C shares its packages with those that do not.
  (cd "$tree/tests/peers/$2" && GOGC=800 CGO_ENABLED=${cgo:-0} go build -trimpath -tags netgo,osusergo \
    -gcflags=all=-dwarf=false -ldflags "-s -w ${4-}" -o "$out/$1" "$3")
}

# cargo_tool NAME VERSION [OPTION]...: a program of crates.io, built with the toolchain of this tree.
cargo_tool() { build "$1" "$2" cargo_build "$@"; }
cargo_build() {
  (cd "$tree" && CARGO_TARGET_DIR=$out/build cargo install --quiet --locked --root "$out" --version "$2" "${@:3}" "$1")
  mv "$out/bin/$1" "$out/$1" && rm -rf "$out/build" "$out/bin"
}

step_wireguard-go() { go_peer wireguard-go wireguard golang.zx2c4.com/wireguard; }
step_tailscale-wireguard-go() { go_peer tailscale-wireguard-go tailscale github.com/tailscale/wireguard-go; }
step_coredns() { go_peer coredns cluster ./coredns; }
step_krew() { go_peer krew cluster sigs.k8s.io/krew/cmd/krew; }
# One of its backends is written in C.
step_flannel() { cgo=1 go_peer flanneld cluster github.com/flannel-io/flannel '-extldflags=-static'; }
# wanted MODULE: the version of a module that the clusters' programs are built from.
wanted() {
  local mod=tests/peers/cluster/go.mod version
  version=$(sed -nE "s|^\s*$1 (v[0-9.]+).*|\1|p" "$tree/$mod")
  [[ $version ]] || fail "$mod does not say which version of $1 it wants"
  echo "$version"
}
# Kubernetes takes its version from the linker; without one the programs misjudge each other.
step_kubernetes() {
  local version major minor flags='' package name
  version=$(wanted k8s.io/kubernetes)
  IFS=. read -r major minor _ <<<"${version#v}"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+="-X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor "
  done
  go_peer etcd cluster go.etcd.io/etcd/server/v3
  for name in kube-apiserver kubectl kube-controller-manager kube-scheduler kube-proxy kubelet; do
    go_peer "$name" cluster "k8s.io/kubernetes/cmd/$name" "$flags"
  done
}
# As Helm's own Makefile does; without, it takes every cluster for one of Kubernetes 1.20.
step_helm() {
  local version kubernetes minor
  version=$(wanted helm.sh/helm/v3)
  kubernetes=$(wanted k8s.io/kubernetes)
  IFS=. read -r _ minor _ <<<"$kubernetes"
  go_peer helm cluster helm.sh/helm/v3/cmd/helm "-X helm.sh/helm/v3/internal/version.version=$version \
-X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=$minor \
-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor"
}
# Of Debian's package, whose service is not wanted: to build it takes longer than all of Kubernetes.
step_promtool() { build promtool "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" unpack prometheus usr/bin/promtool; }
# unpack PACKAGE FILE: takes one file out of a Debian package, which is not installed.
unpack() {
  command -v apt-get >/dev/null || fail "$2 comes from the Debian package $1, and there is no apt-get"
  apt-get update -qq
  (cd "$out" && apt-get download -qq -o APT::Sandbox::User=root "$1" && dpkg-deb --fsys-tarfile "$1"_*.deb | tar -x --strip-components 3 "./$2" && rm "$1"_*.deb)
}
step_boringtun-cli() { cargo_tool boringtun-cli 0.7.1; }
# They run for seconds, and optimized take minutes more to build.
step_cargo-deny() { cargo_tool cargo-deny 0.20.2 --debug; }
step_cargo-cyclonedx() { cargo_tool cargo-cyclonedx 0.5.9 --debug; }
step_cargo-fuzz() { cargo_tool cargo-fuzz 0.13.1 --debug; }

for step in "$@"; do
  declare -F "step_$step" >/dev/null || fail "there is no step '$step'"
  "step_$step"
done
