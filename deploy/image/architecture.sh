# Read by the scripts beside it: for which architecture, ARCH, they work. It is this machine's when it is not given.
#
# After it, `architecture` is its name in images (amd64, arm64), and `machine` the one that compilers and kernels have.
note() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { note "$*"; exit 1; }

case ${ARCH:-$(uname -m)} in
  amd64 | x86_64) architecture=amd64 machine=x86_64 ;;
  arm64 | aarch64) architecture=arm64 machine=aarch64 ;;
  *) fail "ARCH is ${ARCH:-$(uname -m)}: Linkspan is made for amd64 and arm64" ;;
esac
