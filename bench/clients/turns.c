/* Takes turns with other clients: turns BUNDLE AT SESSIONS, a file with a line of ids for each session. Says "ready",
 * then answers each line of the input: "time BEGIN COUNT" with nanoseconds, "answer SESSION" with the items. */
#define _POSIX_C_SOURCE 200809L
#include <mtaw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_CLICKS 64
#define MOST_SESSIONS 65536

static mtaw_id clicks[MOST_SESSIONS][MOST_CLICKS];
static size_t lengths[MOST_SESSIONS];

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return 1000000000LL * at.tv_sec + at.tv_nsec;
}

static size_t read_sessions(const char *path, int text) {
    static char line[1 << 16];
    size_t count = 0;
    FILE *file = fopen(path, "r");
    while (file != NULL && count < MOST_SESSIONS && fgets(line, sizeof line, file) != NULL) {
        char *word = strtok(line, " \n");
        for (; word != NULL && lengths[count] < MOST_CLICKS; word = strtok(NULL, " \n")) {
            clicks[count][lengths[count]++] = text ? MTAW_TEXT(strdup(word)) : MTAW_NUMBER(atoll(word));
        }
        ++count;
    }
    if (file != NULL) fclose(file);
    return count;
}

int main(int count, char **arguments) {
    char line[256];
    size_t n_sessions;
    mtaw_error error;
    mtaw_recommender *shop = NULL;
    mtaw_options options;
    mtaw_info info = {.struct_size = sizeof info};
    if (count != 4) return 2;
    if (mtaw_open(arguments[1], NULL, &shop, &error) != MTAW_OK || mtaw_describe(shop, &info, &error) != MTAW_OK)
        return puts(error.message), 1;
    n_sessions = read_sessions(arguments[3], info.id_kind == MTAW_TEXT_IDS);
    if (n_sessions == 0) return 1;
    mtaw_options_init(&options);
    options.at = atoll(arguments[2]);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long begin = 0, calls = 1;
        const int timed = sscanf(line, "time %lu %lu", &begin, &calls) == 2;
        if (!timed && sscanf(line, "answer %lu", &begin) != 1) return 2;
        for (; calls > 0; --calls, ++begin) {
            const size_t session = begin % n_sessions;
            mtaw_answer *answer = NULL;
            const long long start = now();
            const mtaw_status status =
                mtaw_recommend(shop, clicks[session], lengths[session], &options, &answer, &error);
            const long long taken = now() - start;
            if (status != MTAW_OK) return puts(error.message), 1;
            if (timed) printf("%lld ", taken);
            for (size_t i = 0; !timed && i < answer->n; ++i) {
                if (answer->items[i].text != NULL)
                    printf("%s ", answer->items[i].text);
                else
                    printf("%lld ", (long long)answer->items[i].value);
            }
            mtaw_answer_free(answer);
        }
        puts("");
        fflush(stdout);
    }
    mtaw_close(shop);
    return 0;
}
