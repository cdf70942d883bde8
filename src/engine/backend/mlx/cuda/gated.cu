// both [R, 2 * F]: the gate's columns, then the other's. out [R, F] = activation(gate) * up.
constexpr int blocks = (F + 255) / 256;
size_t row = blockIdx.x / blocks;
int col = blockIdx.x % blocks * 256 + threadIdx.x;
if (col >= F) {
  return;
}
float gate = float(both[row * 2 * F + col]);
float up = float(both[row * 2 * F + F + col]);
float y;
if (KIND == 0) {
  y = gate / (1.0f + __expf(-gate));
} else if (KIND == 1) {
  y = 0.5f * gate * (1.0f + tanhf(0.7978845608f * (gate + 0.044715f * gate * gate * gate)));
} else {
  y = 0.5f * gate * (1.0f + erff(gate * 0.7071067812f));
}
out[row * F + col] = T(y * up);
