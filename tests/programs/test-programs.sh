#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs whole, unmodified programs in the test machine, in one boot, and checks from outside what they did to the devices.
# Usage: test-programs.sh [--kernel full|cdev] [--out DIR] PROVIDER [PROGRAM...]
#   PROVIDER is one of with-provider's: type1, kernel-compat, shim, shim-dying, shim-express, shim-run.
#   PROGRAM is any of qemu-tcg, qemu-kvm, qemu-viommu, dpdk-hugepages, dpdk-private, dpdk-none, dpdk-shared,
#     ovs-dpdk (default: all).
#   --kernel: default full for type1 and kernel-compat, cdev for the shim.
#   --out: keep logs, the drive's image and the capture here (default: below build/programs, emptied first).
# Exit status: 0 when every program did all it should.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
top=$(readlink -f "$here/../..")
# Frames of this run have ports and lengths of their own, so that those of another run or program cannot pass for them.
port=$((10000 + RANDOM % 50000))
declare -A write_at=([qemu-tcg]=32 [qemu-kvm]=48 [qemu-viommu]=40)
declare -A length=([dpdk-hugepages]=300 [dpdk-private]=900 [dpdk-none]=1500 [dpdk-shared]=600 [ovs-dpdk]=400)

usage() { sed -n '4,10s/^# \?//p' "$0" >&2; exit 2; }
say() { echo "test-programs: $*"; }
die() { say "$@" >&2; exit 1; }

kernel='' out=''
while [[ ${1:-} == --* ]]; do
    case $1:$# in
    --kernel:[2-9]*) kernel=$2 ;;
    --out:[2-9]*) out=$2 ;;
    *) usage ;;
    esac
    shift 2
done
(($# >= 1)) || usage
provider=$1
shift
programs=("$@")
(($#)) || programs=(qemu-kvm qemu-viommu dpdk-hugepages dpdk-private dpdk-none dpdk-shared ovs-dpdk qemu-tcg)
[[ $kernel ]] || case $provider in shim*) kernel=cdev ;; *) kernel=full ;; esac

command_of() {
    case $1 in
    qemu-*)
        command=("$here/qemu-nvme" --kind "${1#qemu-}" --write-at "${write_at[$1]}"
            --guest "$out/guest.cpio.gz" --kernel "$bzimage")
        ;;
    dpdk-shared | ovs-dpdk) command=("$here/$1" --port "$port" --length "${length[$1]}") ;;
    dpdk-*) command=("$here/dpdk-testpmd" --memory "${1#dpdk-}" --port "$port" --length "${length[$1]}") ;;
    *) usage ;;
    esac
    command+=(--provider "$provider" --out "$out")
}

# check_frames LENGTH COUNT: so many of ours went over the wire.
check_frames() {
    local frames
    frames=$("$here/frames-in-capture" "$out/net.pcap" "$1" 02:00:00:00:00:01 198.18.0.1 198.18.0.2 "$port")
    echo "frames of $1 bytes from port $port in the network's capture: $frames of $2"
    ((frames == $2))
}

check() {
    case $1 in
    qemu-*)
        local failed=''
        "$here/drive" verify "$out/nvme.img" "${write_at[$1]}" "$out/$1.serial" || failed=yes
        check_warnings "$out/$1.warnings" || failed=yes
        [[ ! $failed ]]
        ;;
    dpdk-shared)
        local failed=''
        check_frames "${length[$1]}" 1024 || failed=yes
        check_frames $((length[$1] + 1)) 1024 || failed=yes
        [[ ! $failed ]]
        ;;
    dpdk-*) check_frames "${length[$1]}" 1024 ;;
    ovs-dpdk) check_frames "${length[$1]}" 64 ;;
    esac
}

# On type1 and the shim QEMU says nothing at all. What it says on kernel-compat stands in expected-warnings/, with the reason.
check_warnings() {
    local expected=/dev/null warning failed=''
    # With --express the program maps by the kernel's compat layer.
    case $provider in kernel-compat | shim-express) expected=$here/expected-warnings/kernel-compat ;; esac
    while IFS= read -r warning; do
        if grep -qxFe "$warning" "$expected"; then
            echo "QEMU warned, as expected: $warning"
        else
            echo "WRONG: QEMU warned: $warning"
            failed=yes
        fi
    done <"$1"
    [[ ! $failed ]]
}

bzimage=$("$top/vm/kernel" cdev)
if [[ ! $out ]]; then
    out=$top/build/programs/$(IFS=+; echo "$provider-$kernel-${programs[*]}")
    rm -rf "$out"
fi
mkdir -p "$out"
[[ ! $(ls -A "$out") ]] || die "$out is not empty: what an earlier run left there could pass for this one's"
"$here/guest/build" "$out/guest.cpio.gz" >/dev/null
"$here/drive" create "$out/nvme.img"

# One program's failure must not hide another's result.
job=''
for program in "${programs[@]}"; do
    command_of "$program"
    job+="echo '== $program'; $(printf '%q ' "${command[@]}") && touch $(printf %q "$out/$program.ended-well")"$'\n'
done
machine=0
"$top/tools/vm" --kernel "$kernel" --hugepages 64 --timeout 580 --env VFIO_SHIM_BIN \
    --nvme "$out/nvme.img" --pcap "$out/net.pcap" --log "$out/console" --out "$out" -- bash -c "$job dmesg >$(printf %q "$out/dmesg")" || machine=$?

echo "== seen from outside"
failed=()
for program in "${programs[@]}"; do
    if ! check "$program" | sed "s/^/$program: /"; then
        failed+=("$program")
    elif [[ ! -e $out/$program.ended-well ]]; then
        echo "$program: did not end well; see above"
        failed+=("$program")
    fi
done
((machine == 0)) || failed+=("the machine (tools/vm: $machine)")
if grep -E 'WARNING: |BUG: |Oops|refcount_t|INFO: task .* blocked' "$out/dmesg"; then failed+=("the kernel"); fi
if ((${#failed[@]})); then
    say "provider $provider, kernel $kernel: FAILED: $(IFS=,; echo "${failed[*]}"); logs in $out"
    exit 1
fi
say "provider $provider, kernel $kernel: ${#programs[@]} of ${#programs[@]} programs did all they should"
