// One block a row and key head, its warps share the row's keys: online softmax in each warp, then one merge.
// q [R, H * D]; at as in place.cu; owners[row]: the row's sequence; tables: pages a sequence, then each sequence's
// pages' first slots; factors: scale and soft cap (0: none).
constexpr int G = H / KV;
constexpr int E = D / 32;
constexpr int BATCH = 4;
int row = blockIdx.x / KV;
int kv = blockIdx.x % KV;
int lane = threadIdx.x % 32;
int warp = threadIdx.x / 32;
int position = at[1 + row];
const int* table = tables + 1 + (size_t)owners[row] * tables[0];
float scale = factors[0], cap = factors[1];
float query[G][E], sum[G][E], most[G], total[G];
for (int g = 0; g < G; g++) {
  const T* x = q + ((size_t)row * H + kv * G + g) * D + lane * E;
  for (int e = 0; e < E; e++) {
    query[g][e] = float(x[e]) * scale;
    sum[g][e] = 0.0f;
  }
  most[g] = -1e30f;
  total[g] = 0.0f;
}
int first = WINDOW > 0 && position >= WINDOW ? position - WINDOW + 1 : 0;
for (int t0 = first + warp * BATCH; t0 <= position; t0 += WARPS * BATCH) {
  float score[BATCH][G];
  float value[BATCH][E];
#pragma unroll
  for (int n = 0; n < BATCH; n++) {
    int t = min(t0 + n, position);
    size_t slot = ((size_t)(table[t / 64] + t % 64) * KV + kv) * D + lane * E;
    float key[E];
#pragma unroll
    for (int e = 0; e < E; e++) {
      key[e] = float(kc[slot + e]);
      value[n][e] = float(vc[slot + e]);
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
      float s = 0.0f;
#pragma unroll
      for (int e = 0; e < E; e++) {
        s += query[g][e] * key[e];
      }
      score[n][g] = s;
    }
  }
#pragma unroll
  for (int n = 0; n < BATCH; n++) {
#pragma unroll
    for (int g = 0; g < G; g++) {
#pragma unroll
      for (int step = 16; step > 0; step /= 2) {
        score[n][g] += __shfl_xor_sync(0xffffffff, score[n][g], step);
      }
      if (cap > 0.0f) {
        score[n][g] = cap * tanhf(score[n][g] / cap);
      }
      if (t0 + n > position) {
        score[n][g] = -1e30f;
      }
    }
  }
#pragma unroll
  for (int g = 0; g < G; g++) {
    float top = most[g];
#pragma unroll
    for (int n = 0; n < BATCH; n++) {
      top = fmaxf(top, score[n][g]);
    }
    float kept = __expf(most[g] - top);
    total[g] *= kept;
#pragma unroll
    for (int e = 0; e < E; e++) {
      sum[g][e] *= kept;
    }
#pragma unroll
    for (int n = 0; n < BATCH; n++) {
      float weight = __expf(score[n][g] - top);
      total[g] += weight;
#pragma unroll
      for (int e = 0; e < E; e++) {
        sum[g][e] += weight * value[n][e];
      }
    }
    most[g] = top;
  }
}
if (WARPS == 1) {
  for (int g = 0; g < G; g++) {
    T* y = out + ((size_t)row * H + kv * G + g) * D + lane * E;
    for (int e = 0; e < E; e++) {
      y[e] = T(sum[g][e] / total[g]);
    }
  }
  return;
}
__shared__ float tops[WARPS][G], totals[WARPS][G];
__shared__ float sums[WARPS][G * D];
for (int g = 0; g < G; g++) {
  if (lane == 0) {
    tops[warp][g] = most[g];
    totals[warp][g] = total[g];
  }
  for (int e = 0; e < E; e++) {
    sums[warp][g * D + lane * E + e] = sum[g][e];
  }
}
__syncthreads();
for (int i = threadIdx.x; i < G * D; i += WARPS * 32) {
  int g = i / D;
  float top = tops[0][g];
  for (int w = 1; w < WARPS; w++) {
    top = fmaxf(top, tops[w][g]);
  }
  float all = 0.0f, y = 0.0f;
  for (int w = 0; w < WARPS; w++) {
    float weight = __expf(tops[w][g] - top);
    all += weight * totals[w][g];
    y += weight * sums[w][i];
  }
  out[((size_t)row * H + kv * G) * D + i] = T(y / all);
}
