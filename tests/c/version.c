#include "harness.h"

static void agrees_with_the_header(void)
{
    CHECK(gomlx_abi_version() == GOMLX_ABI_VERSION);
    int major, minor, patch, end = 0;
    CHECK(sscanf(gomlx_version(), "%d.%d.%d%n", &major, &minor, &patch, &end) == 3);
    CHECK(gomlx_version()[end] == 0 || gomlx_version()[end] == '-');
}

const test version_tests[] = {{"version agrees with the header", agrees_with_the_header}, {0}};
