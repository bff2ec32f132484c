#!/bin/bash
# SPDX-License-Identifier: MIT
# Records Debian's QEMU booting from the NVMe drive, replays that on every backend, compares, and looks at the page in a browser.
# Usage: test-compare.sh [--out DIR]     (default: build/programs/compare, emptied first). Exit status: 0 when all went well.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
top=$(readlink -f "$here/../..")
out=$top/build/programs/compare
case "${1-}:$#" in
:0) rm -rf "$out" ;;
--out:2) out=$2 ;;
*) sed -n '4s/^# //p' "$0" >&2; exit 2 ;;
esac
mkdir -p "$out"

die() { echo "test-compare: $*" >&2; exit 1; }

# What a person sees: the browser has made the page's text and plots.
look_at_page() {
    local page=$1 backend
    timeout 60 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$out/browser" --virtual-time-budget=1000 \
        --dump-dom "file://$page" >"$out/dom" 2>"$out/browser.log" || die "the browser failed; see $out/browser.log"
    timeout 60 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$out/browser" --window-size=1000,2400 \
        --screenshot="$out/report.png" "file://$page" >"$out/browser.log" 2>&1 || die "no screenshot; see $out/browser.log"
    rm -rf "$out/browser"
    grep -q 'class="verdict same"' "$out/dom" || die "the page does not say that all is the same"
    for backend in iommufd type1 kernel-compat; do
        grep -q "</span>$backend" "$out/dom" || die "the page does not show $backend"
    done
    (($(grep -c '<svg' "$out/dom") >= 4)) || die "the page has too few plots"
    [[ -s $out/report.png ]] || die "the screenshot is empty"
}

bzimage=$("$top/vm/kernel" cdev)
"$here/guest/build" "$out/guest.cpio.gz" >/dev/null
"$here/drive" create "$out/nvme.img"
"$top/tools/vm" --kernel full --timeout 200 --env VFIO_SHIM_BIN --nvme "$out/nvme.img" --log "$out/console" --out "$out" -- \
    "$here/compare-inside" "$out/guest.cpio.gz" "$bzimage" "$out" || die "status $? inside the machine; see above, and $out/console"
"$here/drive" verify "$out/nvme.img" 32 "$out/qemu-kvm.serial"
grep -q '"same": true' "$out/comparison.json" || die "the comparison in JSON does not say the same"
look_at_page "$out/report.html"
echo "test-compare: recorded, replayed on every backend, compared clean; the page is $out/report.html"
