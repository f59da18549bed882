#!/usr/bin/env bash
# NVIDIA's multi-process service on this node: mps.sh start|stop|status. Does nothing where there is no GPU.
set -u
export CUDA_MPS_PIPE_DIRECTORY=${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps}   # CUDA's default: clients need no variable
export CUDA_MPS_LOG_DIRECTORY=${CUDA_MPS_LOG_DIRECTORY:-/tmp/nvidia-mps-log}

if ! command -v nvidia-cuda-mps-control >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "mps: no GPU here"
  exit 0
fi
answers() { echo get_server_list | timeout 5 nvidia-cuda-mps-control >/dev/null 2>&1; }

case "${1:-start}" in
  start)
    answers && { echo "mps: runs already"; exit 0; }
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
    setsid nvidia-cuda-mps-control -d </dev/null >/dev/null 2>&1
    for _ in $(seq 10); do
      answers && { echo "mps: started"; exit 0; }
      sleep 0.5
    done
    echo "mps: did not start; the GPU is shared by time slices, which is slower, not wrong" >&2 ;;
  stop) echo quit | nvidia-cuda-mps-control ;;
  status) if answers; then echo "mps: up"; else echo "mps: down"; fi ;;
  *) echo "usage: mps.sh start|stop|status" >&2; exit 2 ;;
esac
