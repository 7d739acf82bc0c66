"""The script that goes along with TensorRT files and picks between them on the board."""

from __future__ import annotations

SCRIPT_FILE = "bench-tensorrt.sh"

# INT8 of a small ViT is often slower than FP16 in TensorRT, so a measurement decides, not a rule.
SCRIPT = b"""#!/bin/sh
# Builds an engine of each form on this Jetson, measures both, keeps the faster one as model.engine.
# Run it in the folder of the bundle: sh bench-tensorrt.sh
set -eu
trtexec=${TRTEXEC:-$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}
best= best_ms=
for form in qdq float32; do
  file=model.tensorrt-$form.onnx
  [ -f "$file" ] || continue
  flags=--fp16
  [ "$form" = qdq ] && flags="--fp16 --int8"
  # shellcheck disable=SC2086
  log=$("$trtexec" --onnx="$file" $flags --saveEngine="$form.engine" \\
    --warmUp=500 --iterations=200 2>&1) ||
    { echo "$form: trtexec failed"; echo "$log" | tail -5; continue; }
  ms=$(echo "$log" | sed -n 's/.*GPU Compute Time:.* median = \\([0-9.]*\\) ms.*/\\1/p' | tail -1)
  [ -n "$ms" ] || { echo "$form: trtexec printed no latency"; continue; }
  echo "$form: median $ms ms"
  if [ -z "$best_ms" ] || awk "BEGIN { exit !($ms < $best_ms) }"; then best=$form best_ms=$ms; fi
done
[ -n "$best" ] || { echo "no engine could be built"; exit 1; }
cp "$best.engine" model.engine
echo "chosen: $best"
"""
