/* discover [FOLDER]: which models lie below a folder, and why the others can't be loaded. */
#include <gomlx.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "models";
    gomlx_error error;
    gomlx_catalog *catalog = NULL;
    if (gomlx_discover(folder, strlen(folder), &catalog, &error) != GOMLX_OK) {
        fprintf(stderr, "discover: %s\n", error.message);
        return 1;
    }
    for (size_t i = 0; i < gomlx_catalog_count(catalog); i++) {
        gomlx_model_info info = {.struct_size = sizeof info};
        gomlx_catalog_get(catalog, i, &info, NULL);
        printf("%s\n", info.path.data);
        if (info.status != GOMLX_OK) {
            printf("    can't be loaded: %s\n", info.reason.data);
            continue;
        }
        printf("    %s, %.1f M parameters, %u layers, context %u, %.1f MB on disk, ", info.family.data,
               (double)info.parameters / 1e6, info.layers, info.context, (double)info.bytes_on_disk / 1e6);
        if (info.quantisation_bits)
            printf("%u bits in groups of %u\n", info.quantisation_bits, info.quantisation_group);
        else
            printf("%s\n", info.dtype.data);
    }
    gomlx_catalog_free(catalog);
    return 0;
}
