#!/usr/bin/env bash
# Makes the virtual environment that `make bench-peers` measures against, under target/bench-peers/.
#
# llama-cpp-python is built from its own source archive for this machine (GGML_NATIVE on, its repacked weight
# layouts left on, as upstream has them), because the wheels of others are built for an older common CPU.
# A second call finds everything in place and does nothing. On two cores the build takes about ten minutes.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
dir=$root/target/bench-peers
llama_version=0.3.36
stamp=$dir/venv/.complete-$llama_version-1

if [ -e "$stamp" ]; then exit 0; fi

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9 # whoever comes second waits for the first, and finds it done
if [ -e "$stamp" ]; then exit 0; fi
python3 -m venv "$dir/venv"
pip="$dir/venv/bin/pip --disable-pip-version-check"
$pip install --quiet numpy gguf safetensors

CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)} \
    nice $pip install --verbose --no-binary llama-cpp-python "llama-cpp-python==$llama_version" \
    >"$dir/llama-build.log" 2>&1 || { tail -40 "$dir/llama-build.log"; exit 1; }

$pip install --quiet "mlx[cpu]" mlx-lm
touch "$stamp"
