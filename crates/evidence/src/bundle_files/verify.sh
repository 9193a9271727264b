#!/bin/sh
# Checks this unpacked bundle with a POSIX shell, openssl (3.0 or newer) and sha256sum: sh verify.sh [FINGERPRINT]
# FINGERPRINT is the evidence key's, as you were given it by another way than this bundle.
set -eu
export LC_ALL=C
cd "$(dirname "$0")"
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 3; }
hash() { sha256sum < "$1" | cut -c1-64; }
by() { openssl pkeyutl -verify -pubin -inkey "$1" -rawin -in "$2" -sigfile "$3" > /dev/null 2>&1; }
# The log's key signs checkpoints and no evidence.
signed() { for k in keys/*.pem; do [ "$k" != keys/log.pem ] && by "$k" "$1" "$2" && return; done; fail "$2: not a signature of $1 by a key in keys"; }
print() { openssl pkey -pubin -in "$1" -outform DER | sha256sum | cut -c1-64; }
for f in keys/evidence.pem manifest.json manifest.pae manifest.sha256 manifest.sig; do [ -f "$f" ] || fail "$f: missing"; done
# The signed manifest names the list of files, and the list names every file: no other, none missing, none changed.
odd=$(find . ! -type f ! -type d -o -name '*[!A-Za-z0-9._-]*'); [ -z "$odd" ] || fail "$odd: not a file of a bundle"
{ printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < manifest.json)"; cat manifest.json; } | cmp -s - manifest.pae || fail "manifest.json, manifest.pae: differ"
grep -qF "{\"digest\":{\"sha256\":\"$(hash manifest.sha256)\"},\"name\":\"manifest.sha256\"}" manifest.json || fail "manifest.sha256: not the list that manifest.json names"
odd=$({ find . -type f | cut -c3-; cut -c67- manifest.sha256; printf 'manifest.%s\n' json pae sha256 sig; } | sort | uniq -u); [ -z "$odd" ] || fail "$odd: missing, or not in manifest.sha256"
odd=$(sha256sum -c manifest.sha256 2>&1 | grep -v ': OK$' || :); [ -z "$odd" ] || fail "$odd"
key=$(print keys/evidence.pem)
[ $# -eq 0 ] || [ "$1" = "$key" ] || fail "keys/evidence.pem: is key $key, not $1"
by keys/evidence.pem manifest.pae manifest.sig || fail "manifest.sig: not a signature of manifest.pae by keys/evidence.pem"
# Earlier evidence keys, which the manifest's signer vouches for: each file is named by its key's fingerprint.
for k in keys/*.pem; do case $k in keys/evidence.pem | keys/log.pem) ;; *) [ "$k" = "keys/$(print "$k").pem" ] || fail "$k: not the key of its name" ;; esac; done
find . -path './ev/*.pae' | while read -r f; do signed "$f" "${f%pae}sig"; done
find . -path './ev/*.tlog-proof' | while read -r f; do sh ./verify-log.sh "$f"; done
find . -path './blobs/*' -type f ! -name '*.*' | while read -r f; do
    [ "$(hash "$f")" = "${f##*/}" ] || fail "$f: not the bytes of its name"
    openssl dgst -sha256 -binary "$f" | cmp -s - "$f.sha256" || fail "$f.sha256: not the digest of $f"
    signed "$f.sha256" "$f.sig"
done
echo "OK: $(wc -l < manifest.sha256) files, signed by key $key"
