#include "harness.h"

static void is_described(void)
{
    gomlx_runtime_info info = {.struct_size = sizeof info};
    OK(gomlx_runtime_describe(&info, NULL));
    CHECK(info.struct_size == sizeof info);
    CHECK(info.threads >= 1);
    CHECK(info.memory > 64u << 20);
    CHECK(strstr(info.backends.data, "cpu"));
    CHECK(info.device.len > 0 && strlen(info.device.data) == info.device.len);
    CHECK(info.isa.len > 0 && strlen(info.isa.data) == info.isa.len);
}

static void counts_live_handles(void)
{
    uint64_t before = live_handles();
    gomlx_control *control = gomlx_control_new();
    CHECK(live_handles() == before + 1);
    gomlx_control_free(control);
    CHECK(live_handles() == before);
}

/* The rules of struct_size, shown with an out struct; tests of options show them with an input. */
static void keeps_to_struct_size(void)
{
    struct {
        gomlx_runtime_info known;
        uint64_t unknown;
    } newer = {.known.struct_size = sizeof newer};
    OK(gomlx_runtime_describe(&newer.known, NULL));
    CHECK(newer.known.struct_size == sizeof newer && newer.known.threads >= 1);

    newer.unknown = 1;
    FAILS(gomlx_runtime_describe(&newer.known, &error), GOMLX_ERR_ARGUMENT, "gomlx_runtime_info: byte");

    gomlx_runtime_info older;
    memset(&older, 0x77, sizeof older);
    older.struct_size = offsetof(gomlx_runtime_info, device);
    OK(gomlx_runtime_describe(&older, NULL));
    CHECK(strstr(older.backends.data, "cpu"));
    CHECK(older.live_models == 0x7777777777777777u);

    uint32_t wrong[] = {0, 1, 3, 9, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gomlx_runtime_info info = {.struct_size = wrong[i]};
        FAILS(gomlx_runtime_describe(&info, &error), GOMLX_ERR_ARGUMENT, "sizeof(gomlx_runtime_info)");
        CHECK(info.threads == 0);
    }
    FAILS(gomlx_runtime_describe(NULL, &error), GOMLX_ERR_ARGUMENT, "gomlx_runtime_info is NULL");
}

const test runtime_tests[] = {
    {"runtime is described", is_described},
    {"runtime counts live handles", counts_live_handles},
    {"runtime keeps to struct_size", keeps_to_struct_size},
    {0},
};
