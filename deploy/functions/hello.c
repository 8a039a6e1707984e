/* A native function: any executable that speaks OpenWhisk's action loop.
 *
 * For each line of JSON on standard input,
 *     {"value": {...the argument...}, "activation_id": "...", ...}
 * it writes one line of JSON to file descriptor 3: the result. What it writes to standard output and standard
 * error is its log. It ends when standard input does. A host that sets __OW_WAIT_FOR_ACK wants to hear {"ok":true}
 * first.
 *
 *     cc -O2 -o hello hello.c
 *
 * There is no JSON library here: what is between the quotes of a JSON string is a JSON string again when it is
 * copied as it stands, escapes and all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *after_blanks(const char *at) { return at + strspn(at, " \t\r\n"); }

/* The end of the JSON value that begins at `at`; NULL if it does not end. */
static const char *after_value(const char *at) {
    if (*at == '"') {
        for (at++; *at != '"'; at++) {
            if (*at == '\\') at++;
            if (*at == '\0') return NULL;
        }
        return at + 1;
    }
    if (*at != '{' && *at != '[') return at + strcspn(at, ",}] \t\r\n");
    int depth = 0;
    do {
        if (*at == '\0') return NULL;
        if (*at == '"') {
            at = after_value(at);
            if (at == NULL) return NULL;
            continue;
        }
        if (*at == '{' || *at == '[') depth++;
        if (*at == '}' || *at == ']') depth--;
        at++;
    } while (depth > 0);
    return at;
}

/* The value of a member of the JSON object that begins at `object`; NULL if there is none. A key that is
 * written with escapes is not recognised. */
static const char *member(const char *object, const char *key) {
    size_t length = strlen(key);
    const char *at = object == NULL ? NULL : after_blanks(object);
    if (at == NULL || *at != '{') return NULL;
    at = after_blanks(at + 1);
    while (*at == '"') {
        const char *name = at + 1;
        at = after_value(at);
        if (at == NULL) return NULL;
        int found = (size_t)(at - 1 - name) == length && strncmp(name, key, length) == 0;
        at = after_blanks(at);
        if (*at != ':') return NULL;
        at = after_blanks(at + 1);
        if (found) return at;
        at = after_value(at);
        if (at == NULL) return NULL;
        at = after_blanks(at);
        if (*at != ',') return NULL;
        at = after_blanks(at + 1);
    }
    return NULL;
}

int main(void) {
    FILE *answers = fdopen(3, "w");
    if (answers == NULL) {
        fputs("hello: nothing is open on file descriptor 3\n", stderr);
        return 1;
    }
    if (getenv("__OW_WAIT_FOR_ACK") != NULL) {
        fputs("{\"ok\":true}\n", answers);
        fflush(answers);
    }

    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0) {
        const char *name = member(member(line, "value"), "name");
        const char *end = name != NULL && *name == '"' ? after_value(name) : NULL;
        if (end == NULL) {
            name = "\"stranger\"";
            end = name + strlen(name);
        }
        int length = (int)(end - name) - 2;
        printf("greeting %.*s\n", length, name + 1);
        fflush(stdout);
        fprintf(answers, "{\"greeting\":\"Hello %.*s, from C\"}\n", length, name + 1);
        fflush(answers);
    }
    free(line);
    return 0;
}
