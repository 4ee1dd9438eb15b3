#!/usr/bin/env bash
# Runs a command of vidiff on all GPUs of this machine, by torchrun; on several machines, start it on each with the same
# NODES, RENDEZVOUS (host:port of the first one) and JOB:
#
#     examples/gpu/entry.sh train /data/dataset -o /data/runs/first --preset base
#     examples/gpu/entry.sh sample --prompts prompts.txt -m /data/runs/first -o /data/samples
#
# GPUS says how many of them (default: all). Commands that have no work to share, such as doctor, run once.
set -euo pipefail

case "${1:-}" in
train | distill | prep | sample | extend | interpolate | upscale | evaluate) ;;
*) exec vidiff "$@" ;;
esac

gpus=${GPUS:-$(python3 -c 'import torch; print(max(1, torch.cuda.device_count()))')}
if [ "${NODES:-1}" = 1 ]; then
    place=(--standalone)
else
    place=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "${RENDEZVOUS:?host:port}" --rdzv-id "${JOB:?a number}")
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / gpus > 0 ? $(nproc) / gpus : 1))}
exec torchrun --nproc-per-node "$gpus" "${place[@]}" -m vidiff_cli "$@"
