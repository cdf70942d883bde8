/* Preloaded before libgomlx.so.1: the library says that it has another ABI. */
#include <stdint.h>

uint32_t gomlx_abi_version(void)
{
    return 99;
}
