#!/bin/bash
# SPDX-License-Identifier: MIT
# Usage: test-dpdk.sh PROVIDER       see test-programs.sh
set -euo pipefail
exec "$(dirname "$(readlink -f "$0")")/test-programs.sh" "${1:?provider}" dpdk-hugepages dpdk-private dpdk-none dpdk-shared
