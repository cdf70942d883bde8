// One block a head of a row: bias, RMSNorm of queries and keys, rotary encoding, and keys and values into their slots.
// qkv [R, (H + 2 KV) * D]; at: R, then R positions, then the slots of R rows and of those to be zeroed behind them.
// Where WRITE, caches are written in place. MLX does not know: whoever reads them in the same step must take a result
// of this kernel as input. Where not, the caller writes.
constexpr int half_width = D / 2;
constexpr int heads = H + 2 * KV;
int rows = at[0];
int row = blockIdx.x / heads;
int head = blockIdx.x % heads;
int i = threadIdx.x;
bool mine = i < half_width;
bool is_q = head < H;
bool is_k = !is_q && head < H + KV;
int slot = at[1 + rows + row];
if (row >= rows) {
  if (!is_q && mine) {
    CT* cache = const_cast<CT*>(is_k ? kc : vc) + ((size_t)slot * KV + (head - H) % KV) * D;
    cache[i] = CT(0.0f);
    cache[i + half_width] = CT(0.0f);
  }
  return;
}
const T* x = qkv + (size_t)blockIdx.x * D;
float a = mine ? float(x[i]) : 0.0f;
float b = mine ? float(x[i + half_width]) : 0.0f;
if (BIAS && mine) {
  const T* bias = is_q ? qb + head * D : is_k ? kb + (head - H) * D : vb + (head - H - KV) * D;
  a += float(bias[i]);
  b += float(bias[i + half_width]);
}
if (NORM && (is_q || is_k)) {
  __shared__ float sums[32];
  float sum = a * a + b * b;
  for (int step = 16; step > 0; step /= 2) {
    sum += __shfl_xor_sync(0xffffffff, sum, step);
  }
  if (i % 32 == 0) {
    sums[i / 32] = sum;
  }
  __syncthreads();
  sum = 0.0f;
  for (int w = 0; w < (blockDim.x + 31) / 32; w++) {
    sum += sums[w];
  }
  float r = rsqrtf(sum / D + eps[0]);
  const T* w = is_q ? qw : kw;
  if (mine) {
    a *= r * float(w[i]);
    b *= r * float(w[i + half_width]);
  }
}
if (!mine) {
  return;
}
if (is_q || is_k) {
  size_t angle = (size_t)at[1 + row] * half_width + i;
  float c = cosines[angle], s = sines[angle];
  float turned = a * c - b * s;
  b = b * c + a * s;
  a = turned;
}
if (is_q) {
  T* out = q + ((size_t)row * H + head) * D;
  out[i] = T(a);
  out[i + half_width] = T(b);
  return;
}
int kv = (head - H) % KV;
CT* cache = const_cast<CT*>(is_k ? kc : vc) + ((size_t)slot * KV + kv) * D;
CT ca = CT(a), cb = CT(b);
if (WRITE) {
  cache[i] = ca;
  cache[i + half_width] = cb;
}
T* out = (is_k ? k : v) + ((size_t)row * KV + kv) * D;
out[i] = T(float(ca));
out[i + half_width] = T(float(cb));
