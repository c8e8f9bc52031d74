#!/bin/sh
# Builds everything that a release uploads, into target/release-artifacts, and checks it. What goes to a registry is in npm/, pypi/
# and crates/ there.
#
#   scripts/release.sh               for the targets in TARGETS: archives and Debian packages, npm and PyPI packages, crates,
#                                    bills of materials (SBOM), checksums
#   scripts/release.sh --versions    only checks that all packages have the same version, and prints it
#
# A musl target is linked with zig, so that one machine builds for both processors. Another one must be that of this machine,
# and needs the C library of the machine where it runs.
set -eu
cd "$(dirname "$0")/.."

TARGETS=${TARGETS:-x86_64-unknown-linux-musl aarch64-unknown-linux-musl}
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR="$target_dir"
artifacts=$target_dir/release-artifacts
work=$target_dir/release-work

say() { printf 'release: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# Prints the version of all packages. A tagged commit must have it in its tag and in the changelog, too.
version() {
    version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
    [ -n "$version" ] || fail "Cargo.toml has no version below [workspace.package]"
    expect() { [ "$2" = "$version" ] || fail "$1 has the version ${2:-(none)}, but Cargo.toml has $version: make them equal"; }
    expect clients/js/package.json "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' clients/js/package.json)"
    expect clients/js/package-lock.json "$(sed -n '0,/^  "version": /s/^  "version": "\(.*\)",$/\1/p' clients/js/package-lock.json)"
    expect clients/python/pyproject.toml "$(sed -n '/^\[project\]/,/^$/s/^version = "\(.*\)"$/\1/p' clients/python/pyproject.toml)"
    for crate in $(sed -n 's/^\(roomlog-[a-z]*\) = { version = .*/\1/p' Cargo.toml); do
        expect "$crate in Cargo.toml" "$(sed -n "s/^$crate = { version = \"\([^\"]*\)\".*/\1/p" Cargo.toml)"
    done
    tag=$(git tag --points-at HEAD 2>/dev/null | grep '^v[0-9]' | head -n 1 || true)
    if [ -n "$tag" ]; then
        expect "the tag $tag" "${tag#v}"
        grep -q "^## \[$version\]" CHANGELOG.md || fail "CHANGELOG.md has no heading \"## [$version]\": name the unreleased changes so"
    fi
    echo "$version"
}

# Stops before anything is built if something is missing.
prepare() {
    for target in $TARGETS; do
        [ -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ] ||
            fail "Rust's standard library for $target is missing: rustup target add $target. To build without it, name the targets: make release TARGETS=$host"
        case $target in
        *-musl | "$host") ;;
        *) fail "$target can be built only on such a machine. To build for others, use a target that ends in -musl" ;;
        esac
    done
    scripts/install-deps.sh node python cargo-deb cargo-cyclonedx
    if ! cmp -s packaging/requirements.txt "$work/tools/requirements.txt"; then
        rm -rf "$work/tools"
        python3 -m venv "$work/tools"
        "$work/tools/bin/pip" --quiet --disable-pip-version-check install --requirement packaging/requirements.txt
        cp packaging/requirements.txt "$work/tools/requirements.txt"
    fi
    PATH=$work/tools/bin:$PATH
}

# Builds a program without symbols. It has the addresses of functions, but not their names, in its backtraces.
program() {
    say "building for $1"
    case $1 in
    *-musl) CARGO_PROFILE_RELEASE_STRIP=symbols cargo zigbuild --release --locked --bin roomlog --target "$1" ;;
    *) CARGO_PROFILE_RELEASE_STRIP=symbols cargo build --release --locked --bin roomlog --target "$1" ;;
    esac
    case $1 in
    *-musl) ! readelf --program-headers "$target_dir/$1/release/roomlog" | grep -q INTERP || fail "the program for $1 is not static" ;;
    esac
}

# The manual pages and completions come from a program that runs here, whatever it is built for.
shared_files() {
    for target in $TARGETS; do
        runnable=$target_dir/$target/release/roomlog
        [ "$("$runnable" --version 2>/dev/null)" != "roomlog $version" ] || break
        runnable=
    done
    [ -n "$runnable" ] || fail "none of these runs here, to write its manual pages: $TARGETS. Add this machine's: $host"
    rm -rf "$work/root"
    DESTDIR=$work/root PREFIX=/usr scripts/install.sh "$runnable" >&2
    gzip --no-name --best "$work"/root/usr/share/man/man1/*
}

# An archive that can be unpacked in /usr/local, with the same bytes whenever it is made.
archive() {
    name=roomlog-$version-$1
    rm -rf "${work:?}/$name"
    mkdir -p "$work/$name/bin"
    cp -r "$work/root/usr/share" "$work/$name/"
    cp README.md CHANGELOG.md LICENSE* packaging/roomlog.service "$work/$name"
    install -m 755 "$target_dir/$1/release/roomlog" "$work/$name/bin/roomlog"
    tar --create --directory "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner "$name" |
        gzip --no-name --best >"$artifacts/$name.tar.gz"
}

debian_package() {
    rm -rf "$target_dir/$1/release/share"
    cp -r "$work/root/usr/share" "$target_dir/$1/release/share"
    cargo deb --quiet --no-build --no-strip --locked --target "$1" --output "$artifacts/" >&2
    package=$(ls "$artifacts"/roomlog_"$version"_"$(dpkg_architecture "$1")".deb)
    dpkg-deb --contents "$package" >"$work/contents"
    for file in usr/bin/roomlog usr/lib/systemd/system/roomlog.service etc/roomlog/roomlog.toml etc/roomlog/secrets.env usr/share/man/man1/roomlog.1.gz \
        usr/share/bash-completion/completions/roomlog usr/share/zsh/vendor-completions/_roomlog \
        usr/share/fish/vendor_completions.d/roomlog.fish usr/share/doc/roomlog/copyright; do
        grep -q " \./$file$" "$work/contents" || fail "$package lacks $file"
    done
}

dpkg_architecture() {
    case $1 in
    x86_64-*) echo amd64 ;;
    aarch64-*) echo arm64 ;;
    esac
}

# Each package is installed and loaded as its users will do.
npm_package() {
    npm ci --prefix clients/js --no-fund --no-audit --silent
    npm run build --prefix clients/js --silent
    npm pack ./clients/js --pack-destination "$artifacts/npm" --silent >&2
    rm -rf "$work/npm"
    mkdir -p "$work/npm"
    npm install --prefix "$work/npm" --no-fund --no-audit --silent "$artifacts/npm/roomlog-client-$version.tgz"
    (cd "$work/npm" && node --input-type=module --eval 'import { Roomlog } from "@roomlog/client"; Roomlog.name')
}

python_package() {
    python -m build --quiet --outdir "$artifacts/pypi" clients/python >&2
    twine check --strict "$artifacts"/pypi/* >&2
    rm -rf "$work/python"
    python3 -m venv "$work/python"
    "$work/python/bin/pip" --quiet --disable-pip-version-check install "$artifacts/pypi/roomlog-$version-py3-none-any.whl"
    "$work/python/bin/python" -c 'import roomlog; roomlog.Roomlog'
}

crates() {
    cargo publish --dry-run --locked --quiet --package roomlog-protocol --package roomlog-client
    # The dry run builds the packages, but does not keep them.
    cargo package --no-verify --locked --quiet --package roomlog-protocol --package roomlog-client
    cp "$target_dir/package/roomlog-protocol-$version.crate" "$target_dir/package/roomlog-client-$version.crate" "$artifacts/crates"
}

# The dependencies in the programs. The tool writes a file into each crate, of which the server's is kept.
bill_of_materials() {
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$1" --override-filename sbom
    mv sbom.json "$artifacts/roomlog-$version-$1.cdx.json"
    rm -f crates/*/sbom.json
}

host=$(rustc --print host-tuple)
version=$(version)
if [ "${1:-}" = --versions ]; then
    echo "$version"
    exit 0
fi
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
prepare
rm -rf "$artifacts"
mkdir -p "$artifacts/npm" "$artifacts/pypi" "$artifacts/crates"
for target in $TARGETS; do program "$target"; done
shared_files
for target in $TARGETS; do
    archive "$target"
    debian_package "$target"
    bill_of_materials "$target"
done
npm_package
python_package
crates
(cd "$artifacts" && find . -type f ! -name SHA256SUMS | sort | sed 's|^\./||' | xargs sha256sum >SHA256SUMS)
say "in $artifacts:"
cut -c 67- "$artifacts/SHA256SUMS" >&2
