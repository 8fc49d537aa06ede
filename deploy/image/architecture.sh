# Read by the scripts beside it: for which architecture, ARCH, they work. It is this machine's when it is not given.
#
# After it, `architecture` is its name in images (amd64, arm64), and `machine` the one that compilers and kernels have.
note() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { note "$*"; exit 1; }

# architecture_of FILE: what a program is for. In the ELF header is the magic number, and behind it e_machine, which is
# little-endian on both.
architecture_of() {
  [[ $(head -c 4 "$1" | od -An -tx1) == ' 7f 45 4c 46' ]] || fail "$1 is no program for Linux"
  case $(od -An -tx1 -j 18 -N 2 "$1") in
    ' 3e 00') echo amd64 ;;
    ' b7 00') echo arm64 ;;
    *) fail "$1 is neither for amd64 nor for arm64" ;;
  esac
}

case ${ARCH:-$(uname -m)} in
  amd64 | x86_64) architecture=amd64 machine=x86_64 ;;
  arm64 | aarch64) architecture=arm64 machine=aarch64 ;;
  *) fail "ARCH is ${ARCH:-$(uname -m)}: Linkspan is made for amd64 and arm64" ;;
esac
