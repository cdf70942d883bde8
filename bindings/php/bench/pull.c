/* The loop that PHP's is compared to: what a C program spends on the chunks of a complete answer. */
#include <gomlx.h>

size_t pull(void *generation) {
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_error error;
    size_t tokens = 0;
    while (gomlx_generation_next(generation, -1, &chunk, &error) == GOMLX_OK)
        tokens += chunk.token_count;
    return tokens;
}
