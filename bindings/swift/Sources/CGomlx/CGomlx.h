/* The header of the library: beside this package (a checkout, a prefix) or on the search path (pkg-config). */
#ifndef CGOMLX_H
#define CGOMLX_H

#if __has_include("../../../../include/gomlx.h")
#include "../../../../include/gomlx.h"
#elif __has_include("../../../../../include/gomlx.h")
#include "../../../../../include/gomlx.h"
#elif __has_include(<gomlx.h>)
#include <gomlx.h>
#else
#error "gomlx.h is missing: `make install PREFIX=/usr/local` (PKG_CONFIG_PATH names other prefixes), or -Xcc -I<prefix>/include"
#endif

#endif
