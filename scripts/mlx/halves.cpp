// What mlx-c has for half types only where the compiler has them as well (Arm): here as 16-bit patterns.
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

#ifndef HAS_FLOAT16
namespace {
template <typename T>
int item(uint16_t* res, mlx_array arr) {
  try {
    auto value = mlx_array_get_(arr).item<T>();
    static_assert(sizeof value == sizeof *res);
    std::memcpy(res, &value, sizeof value);
  } catch (std::exception& e) {
    mlx_error("%s", e.what());
    return 1;
  }
  return 0;
}

template <typename T>
const uint16_t* data(mlx_array arr) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(arr).data<T>());
  } catch (std::exception& e) {
    mlx_error("%s", e.what());
    return nullptr;
  }
}
} // namespace

extern "C" {
int mlx_array_item_float16(uint16_t* res, mlx_array arr) {
  return item<mlx::core::float16_t>(res, arr);
}
int mlx_array_item_bfloat16(uint16_t* res, mlx_array arr) {
  return item<mlx::core::bfloat16_t>(res, arr);
}
const uint16_t* mlx_array_data_float16(mlx_array arr) {
  return data<mlx::core::float16_t>(arr);
}
const uint16_t* mlx_array_data_bfloat16(mlx_array arr) {
  return data<mlx::core::bfloat16_t>(arr);
}
}
#endif
