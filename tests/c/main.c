/* Runs the tests, or those whose name begins with the first argument, and ends with a line that counts them.
 * From the repository's root: the models are found by relative paths. */
#include "harness.h"

#include <stdarg.h>

static const char *running;
static bool broken, skipped;

void fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("FAIL %s: %s:%d: ", running, file, line);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    broken = true;
}

void skip(const char *why)
{
    printf("skip %s: %s\n", running, why);
    skipped = true;
}

int main(int argc, char **argv)
{
    const test *const files[] = {version_tests,  error_tests,      control_tests,  runtime_tests, memory_tests,
                                 model_tests,    request_tests,    generation_tests, discover_tests, scenario_tests,
                                 classify_tests, sharing_tests, prefixes_tests,
                                 threads_tests,  lifetime_tests,   fork_tests};
    const char *wanted = argc > 1 ? argv[1] : "";
    int passed = 0, failed = 0, left_out = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t file = 0; file < sizeof files / sizeof *files; file++) {
        for (const test *test = files[file]; test->name; test++) {
            if (strncmp(test->name, wanted, strlen(wanted)) != 0)
                continue;
            running = test->name;
            broken = skipped = false;
            test->run();
            if (!broken && !skipped)
                printf("ok %s\n", running);
            failed += broken;
            left_out += skipped && !broken;
            passed += !broken && !skipped;
        }
    }
    running = "after all tests";
    broken = false;
    free_stories();
    if (live_handles() != 0)
        fail(__FILE__, __LINE__, "%llu handles are still alive", (unsigned long long)live_handles());
    failed += broken;
    passed += !broken;
    printf("%d passed, %d failed, %d skipped\n", passed, failed, left_out);
    return failed != 0;
}
