/* The least a function can do: one empty object on descriptor 3 for every line on standard input. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin)) {
        /* A long line comes in parts; its end is the newline. */
        size_t length = 0;
        while (line[length] != '\0') {
            length++;
        }
        if (length > 0 && line[length - 1] == '\n' && write(3, "{}\n", 3) != 3) {
            return 1;
        }
    }
    return 0;
}
