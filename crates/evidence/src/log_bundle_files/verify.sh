#!/bin/sh
# Checks this unpacked audit log with a POSIX shell and openssl (3.0 or newer): sh verify.sh [FINGERPRINT]
# FINGERPRINT is the log key's, as you were given it by another way than this bundle.
set -eu
export LC_ALL=C
cd "$(dirname "$0")"
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 3; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
key=$(openssl pkey -pubin -in keys/log.pem -outform DER | openssl dgst -sha256 -r | cut -c1-64)
[ $# -eq 0 ] || [ "$1" = "$key" ] || fail "keys/log.pem: is key $key, not $1"
# The first line under the text is the log's own signature: four bytes of the key's id, then Ed25519 over the three lines of text.
sed -n 1,3p checkpoint > "$work/text"
{ read -r origin; read -r size; read -r root; } < "$work/text"
sed -n 5p checkpoint | sed 's/.* //' | openssl base64 -d -A | tail -c +5 > "$work/sig"
openssl pkeyutl -verify -pubin -inkey keys/log.pem -rawin -in "$work/text" -sigfile "$work/sig" > /dev/null 2>&1 || fail "checkpoint: not signed by keys/log.pem"
# The leaf hash of every record, in order: SHA-256 of a zero byte and the record.
: > "$work/level"
seq=0
while [ "$seq" -lt "$size" ]; do
    n=$((seq / 256)); path=$(printf '%03d' $((n % 1000))); n=$((n / 1000))
    while [ "$n" -gt 0 ]; do path=$(printf 'x%03d/%s' $((n % 1000)) "$path"); n=$((n / 1000)); done
    width=$((size - seq)); [ "$width" -ge 256 ] || path="$path.p/$width"
    file="tile/entries/$path"
    [ -f "$file" ] || fail "$file: missing"
    bytes=$(($(wc -c < "$file"))); at=0
    while [ "$at" -lt "$bytes" ]; do
        length=$(od -An -tu1 -j "$at" -N 2 "$file" | awk '{ print $1 * 256 + $2 }')
        { printf '\000'; tail -c +$((at + 3)) "$file" | head -c "$length"; } | openssl dgst -sha256 -binary >> "$work/level"
        at=$((at + 2 + length)); seq=$((seq + 1))
    done
done
[ "$(($(wc -c < "$work/level")))" -eq $((size * 32)) ] || fail "tile/entries: not $size records"
# Pairs of hashes become one, level by level; a last one without a pair moves up as it is.
while [ "$(($(wc -c < "$work/level")))" -gt 32 ]; do
    : > "$work/next"; at=0; bytes=$(($(wc -c < "$work/level")))
    while [ $((at + 64)) -le "$bytes" ]; do
        { printf '\001'; tail -c +$((at + 1)) "$work/level" | head -c 64; } | openssl dgst -sha256 -binary >> "$work/next"
        at=$((at + 64))
    done
    [ "$at" -eq "$bytes" ] || tail -c 32 "$work/level" >> "$work/next"
    mv "$work/next" "$work/level"
done
[ "$size" -gt 0 ] || openssl dgst -sha256 -binary < /dev/null > "$work/level"
[ "$(openssl base64 -A < "$work/level")" = "$root" ] || fail "checkpoint: does not sign these records"
echo "OK: $size records of $origin, signed by key $key"
