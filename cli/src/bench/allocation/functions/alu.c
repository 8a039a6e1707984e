/* Arithmetic on four threads at once: `rounds` million steps of a generator of numbers on each. A native function of Windfall: one
   line of JSON in, one line out on descriptor 3. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4

static uint64_t rounds;

static void *work(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed, sum = 0;
    for (uint64_t round = 0; round < rounds * 1000000; round++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sum += state % 1000003;
    }
    return (void *)(uintptr_t)sum;
}

int main(void) {
    char *line = NULL;
    size_t size = 0;
    FILE *answer = fdopen(3, "w");
    if (!answer) return 1;
    while (getline(&line, &size, stdin) > 0) {
        char *found = strstr(line, "\"rounds\":");
        rounds = found ? strtoull(found + 9, NULL, 10) : 1;
        pthread_t threads[THREADS];
        uint64_t sum = 0;
        for (uintptr_t n = 0; n < THREADS; n++) pthread_create(&threads[n], NULL, work, (void *)(n + 1));
        for (int n = 0; n < THREADS; n++) {
            void *part;
            pthread_join(threads[n], &part);
            sum += (uint64_t)(uintptr_t)part;
        }
        fprintf(answer, "{\"sum\":\"%llu\"}\n", (unsigned long long)sum);
        fflush(answer);
    }
    return 0;
}
