#!/bin/sh
# Installs a built roomlog with its manual pages and shell completions:
#
#   scripts/install.sh target/release/roomlog
#
# PREFIX is where to: /usr/local by default, or ~/.local for users who cannot write there. Packages set DESTDIR, which comes before it.
set -eu

[ $# -eq 1 ] && [ -x "$1" ] || { echo "usage: $0 PROGRAM, such as target/release/roomlog (make build)" >&2; exit 2; }
program=$1
if [ -z "${PREFIX:-}" ]; then
    if [ -w /usr/local/bin ]; then PREFIX=/usr/local; else PREFIX=$HOME/.local; fi
fi
root=${DESTDIR:-}$PREFIX

completions() {
    mkdir -p "$root/share/$2"
    "$program" completions "$1" >"$root/share/$2/$3"
}

mkdir -p "$root/bin"
install -m 755 "$program" "$root/bin/roomlog"
"$program" man "$root/share/man/man1"
completions bash bash-completion/completions roomlog
completions zsh zsh/site-functions _roomlog
completions fish fish/vendor_completions.d roomlog.fish

echo "installed $root/bin/roomlog, with its manual pages and completions for bash, zsh and fish"
case ":$PATH:" in
    *":$PREFIX/bin:"*) ;;
    *) echo "$PREFIX/bin is not on your PATH; add it, such as in ~/.profile: export PATH=\"$PREFIX/bin:\$PATH\"" ;;
esac
