/* A small JSON reader for the scenarios: enough for files of our own, strict about anything else. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

typedef enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } json_kind;

/* A value. Members of an object and elements of an array hang on `first` and on each other's `next`. */
typedef struct json {
    json_kind kind;
    char *key;     /* of a member, else NULL */
    double number; /* JSON_NUMBER, and 0 or 1 for JSON_BOOL */
    char *text;    /* JSON_STRING, NUL-terminated UTF-8 */
    struct json *first, *next;
} json;

/* NULL where the text is not one JSON value. */
json *json_parse(const char *text);
void json_free(json *value);

/* A member of an object by its key; NULL where there is none, also for a NULL object. */
const json *json_get(const json *object, const char *key);

/* A member's number or text, or what stands for a missing one. */
double json_number(const json *object, const char *key, double otherwise);
const char *json_text(const json *object, const char *key, const char *otherwise);

#endif
