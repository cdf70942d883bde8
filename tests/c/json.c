#include "json.h"

#include <stdlib.h>
#include <string.h>

static json *value(const char **at);

static void space(const char **at)
{
    *at += strspn(*at, " \t\r\n");
}

static bool take(const char **at, char expected)
{
    space(at);
    if (**at != expected)
        return false;
    ++*at;
    return true;
}

static bool hex4(const char **at, unsigned *code)
{
    char digits[5] = {0};
    size_t len = strspn(*at, "0123456789abcdefABCDEF");
    if (len < 4)
        return false;
    memcpy(digits, *at, 4);
    *code = (unsigned)strtoul(digits, NULL, 16);
    *at += 4;
    return true;
}

static char *put_utf8(char *out, unsigned code)
{
    static const unsigned heads[] = {0, 0xc0, 0xe0, 0xf0};
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *out++ = (char)(heads[more] | code >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (code >> (6 * more) & 0x3f));
    return out;
}

/* The text after an opening quote, up to its closing one; NULL where it is damaged. */
static char *string(const char **at)
{
    char *text = malloc(strlen(*at) + 1), *out = text;
    while (**at && **at != '"') {
        char c = *(*at)++;
        if (c != '\\') {
            *out++ = c;
            continue;
        }
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        unsigned code, low;
        c = *(*at)++;
        const char *known = c ? strchr(from, c) : NULL;
        if (known) {
            *out++ = to[known - from];
        } else if (c == 'u' && hex4(at, &code)) {
            if (code >= 0xd800 && code < 0xdc00 && (*at)[0] == '\\' && (*at)[1] == 'u') {
                *at += 2;
                if (!hex4(at, &low))
                    break;
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
            out = put_utf8(out, code);
        } else {
            break;
        }
    }
    *out = 0;
    if (**at == '"') {
        ++*at;
        return text;
    }
    free(text);
    return NULL;
}

/* Members or elements, up to `close`. */
static bool children(const char **at, json *parent, char close)
{
    json **tail = &parent->first;
    if (take(at, close))
        return true;
    do {
        char *key = NULL;
        if (parent->kind == JSON_OBJECT && (!take(at, '"') || !(key = string(at)) || !take(at, ':'))) {
            free(key);
            return false;
        }
        if (!(*tail = value(at))) {
            free(key);
            return false;
        }
        (*tail)->key = key;
        tail = &(*tail)->next;
    } while (take(at, ','));
    return take(at, close);
}

static bool word(const char **at, const char *expected)
{
    size_t len = strlen(expected);
    if (strncmp(*at, expected, len) != 0)
        return false;
    *at += len;
    return true;
}

static bool fill(const char **at, json *out)
{
    char *end;
    if (take(at, '{')) {
        out->kind = JSON_OBJECT;
        return children(at, out, '}');
    }
    if (take(at, '[')) {
        out->kind = JSON_ARRAY;
        return children(at, out, ']');
    }
    if (take(at, '"')) {
        out->kind = JSON_STRING;
        return (out->text = string(at)) != NULL;
    }
    if (word(at, "true") || word(at, "false")) {
        out->kind = JSON_BOOL;
        out->number = (*at)[-2] == 'u'; /* tr-u-e, fal-s-e */
        return true;
    }
    if (word(at, "null"))
        return true;
    out->kind = JSON_NUMBER;
    out->number = strtod(*at, &end);
    bool some = end != *at;
    *at = end;
    return some;
}

static json *value(const char **at)
{
    json *out = calloc(1, sizeof *out);
    space(at);
    if (fill(at, out))
        return out;
    json_free(out);
    return NULL;
}

json *json_parse(const char *text)
{
    json *out = value(&text);
    space(&text);
    if (out && !*text)
        return out;
    json_free(out);
    return NULL;
}

void json_free(json *value)
{
    while (value) {
        json *next = value->next;
        json_free(value->first);
        free(value->key);
        free(value->text);
        free(value);
        value = next;
    }
}

const json *json_get(const json *object, const char *key)
{
    for (const json *member = object ? object->first : NULL; member; member = member->next)
        if (member->key && strcmp(member->key, key) == 0)
            return member;
    return NULL;
}

double json_number(const json *object, const char *key, double otherwise)
{
    const json *member = json_get(object, key);
    return member ? member->number : otherwise;
}

const char *json_text(const json *object, const char *key, const char *otherwise)
{
    const json *member = json_get(object, key);
    return member && member->text ? member->text : otherwise;
}
