#!/bin/bash
# SPDX-License-Identifier: MIT
# Usage: test-qemu-nvme.sh PROVIDER tcg|kvm|viommu       see test-programs.sh
set -euo pipefail
exec "$(dirname "$(readlink -f "$0")")/test-programs.sh" "${1:?provider}" "qemu-${2:?tcg, kvm or viommu}"
