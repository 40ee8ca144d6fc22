/* Times one call after the other: speed BUNDLE AT < SESSIONS, a line of ids each, as text. Prints the microseconds of
 * opening and the median of a call. */
#define _POSIX_C_SOURCE 200809L
#include <mtaw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_CLICKS 64

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return 1e6 * (double)at.tv_sec + 1e-3 * (double)at.tv_nsec;
}

static int ascending(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

int main(int count, char **arguments) {
    static char line[1 << 16];
    static double times[1 << 20];
    size_t calls = 0;
    mtaw_error error;
    mtaw_recommender *shop = NULL;
    mtaw_options options;
    double start = now(), opened;
    if (count != 3) return 2;
    if (mtaw_open(arguments[1], NULL, &shop, &error) != MTAW_OK) return puts(error.message), 1;
    opened = now() - start;
    mtaw_options_init(&options);
    options.at = atoll(arguments[2]);
    while (calls < sizeof times / sizeof *times && fgets(line, sizeof line, stdin) != NULL) {
        mtaw_id clicks[MOST_CLICKS];
        mtaw_answer *answer = NULL;
        size_t n = 0;
        char *word = strtok(line, " \n");
        for (; word != NULL && n < MOST_CLICKS; word = strtok(NULL, " \n")) clicks[n++] = MTAW_TEXT(word);
        start = now();
        if (mtaw_recommend(shop, clicks, n, &options, &answer, &error) != MTAW_OK) return puts(error.message), 1;
        times[calls++] = now() - start;
        mtaw_answer_free(answer);
    }
    qsort(times, calls, sizeof *times, ascending);
    printf("%.0f %.2f\n", opened, times[calls / 2]);
    mtaw_close(shop);
    return 0;
}
