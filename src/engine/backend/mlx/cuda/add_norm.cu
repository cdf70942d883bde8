// One block a row: x = acc + y (y through a norm of its own where POST), normed = RMSNorm(x).
constexpr int THREADS = 256;
constexpr int PER = (COLS + THREADS - 1) / THREADS;
__shared__ float sums[2][THREADS / 32];
auto block_sum = [&](float sum, int which) {
  for (int step = 16; step > 0; step /= 2) {
    sum += __shfl_xor_sync(0xffffffff, sum, step);
  }
  if (threadIdx.x % 32 == 0) {
    sums[which][threadIdx.x / 32] = sum;
  }
  __syncthreads();
  sum = 0.0f;
  for (int w = 0; w < THREADS / 32; w++) {
    sum += sums[which][w];
  }
  return sum;
};
size_t at = (size_t)blockIdx.x * COLS;
float value[PER];
float squares = 0.0f;
#pragma unroll
for (int n = 0; n < PER; n++) {
  int i = n * THREADS + threadIdx.x;
  value[n] = i < COLS ? float(y[at + i]) : 0.0f;
  squares += value[n] * value[n];
}
if (POST) {
  float r = rsqrtf(block_sum(squares, 0) / COLS + eps[0]);
#pragma unroll
  for (int n = 0; n < PER; n++) {
    int i = n * THREADS + threadIdx.x;
    if (i < COLS) {
      value[n] *= r * float(post[i]);
    }
  }
}
squares = 0.0f;
#pragma unroll
for (int n = 0; n < PER; n++) {
  int i = n * THREADS + threadIdx.x;
  if (i < COLS) {
    T total = T(float(acc[at + i]) + value[n]);
    x[at + i] = total;
    value[n] = float(total);
    squares += value[n] * value[n];
  }
}
float r = rsqrtf(block_sum(squares, 1) / COLS + eps[0]);
#pragma unroll
for (int n = 0; n < PER; n++) {
  int i = n * THREADS + threadIdx.x;
  if (i < COLS) {
    normed[at + i] = T(value[n] * r * float(next[i]));
  }
}
