/* A test is a function; a CHECK that does not hold reports its line and leaves the test. main.c runs them all. */
#ifndef HARNESS_H
#define HARNESS_H

#include <gomlx.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct test {
    const char *name;
    void (*run)(void);
} test;

/* Each file's tests, ended by {0}. */
extern const test version_tests[], error_tests[], control_tests[], runtime_tests[], memory_tests[], model_tests[],
    request_tests[], generation_tests[], discover_tests[], threads_tests[], lifetime_tests[], fork_tests[],
    scenario_tests[], classify_tests[], sharing_tests[], prefixes_tests[];

/* Reports a failure of the running test. */
void fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Says that the running test can't run here. */
void skip(const char *why);

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fail(__FILE__, __LINE__, "%s; latest error: %s", #condition, gomlx_last_error()->message);                 \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

/* The call succeeds. */
#define OK(call) CHECK((call) == GOMLX_OK)

/* The call, which must be given `&error`, fails with `status` and a message that contains `words`; record and
 * thread-local copy agree. */
#define FAILS(call, status, words)                                                                                     \
    do {                                                                                                               \
        gomlx_error error;                                                                                             \
        memset(&error, 0x55, sizeof error);                                                                            \
        gomlx_status got = (call);                                                                                     \
        if (!failed_as(__FILE__, __LINE__, #call, got, &error, (status), (words)))                                     \
            return;                                                                                                    \
    } while (0)

bool failed_as(const char *file, int line, const char *call, gomlx_status got, const gomlx_error *error,
               gomlx_status status, const char *words);

/* Whether `text` is valid UTF-8. */
bool is_utf8(const char *text, size_t len);

/* Folder of the small story model. */
#define STORIES "models/llama-tales-16m-4bit"
/* Folder of the small classifier, a Gemma. */
#define DOMAINS "models/gemma3-domains-6m-4bit"

/* The story model, loaded once for all tests that only read from it. NULL after a reported failure. */
const gomlx_model *stories(void);
void free_stories(void);

/* Loads with all defaults; NULL after a reported failure. */
gomlx_model *load(const char *folder);

/* A string literal or C string as the ABI wants it. */
gomlx_string str(const char *text);

/* A request for `max_tokens` greedy tokens after `prompt`. */
gomlx_request greedy(const char *prompt, uint32_t max_tokens);

/* An answer as one text. */
typedef struct answer {
    gomlx_status status;
    char text[65536];
    size_t len, chunks, tokens;
    gomlx_metrics metrics;
    gomlx_error error;
} answer;

/* Runs `request` to its end through gomlx_generation_next (pull) or gomlx_generate (push). */
void pull(const gomlx_model *model, const gomlx_request *request, answer *out);
void push(const gomlx_model *model, const gomlx_request *request, answer *out);

/* Handles that are alive, of all types together. */
uint64_t live_handles(void);

/* Ends a forked child with this code, as another program: a leak checker at its exit would count what its parent's threads
 * hold. */
void leave_child(int code);

/* How often heavy loops run: `usual`, or less where GOMLX_TEST_SHARE (a percentage) says so. */
int rounds(int usual);

#endif
