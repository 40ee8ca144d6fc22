/* Opens a bundle and a log again and again, with an allocator that fails at a later call each time: the call ends with
 * MTAW_NO_MEMORY, no file stays open, and the log's lock is free. Ranks in a bundle with times likewise, also in a
 * session whose later allocations fail too: the next answer is as without the failure. Prints "ok". */
#include <dirent.h>
#include <fcntl.h>
#include <mtaw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static long left; /* allocations until one fails; 0: none fails */
static int later; /* whether all later ones fail too; `left` stays at 1 then */

static void *allocate(void *context, size_t size, size_t alignment) {
    void *memory = NULL;
    (void)context;
    if (left == 1) {
        left = later;
        return NULL;
    }
    if (left > 0) --left;
    return posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) == 0 ? memory : NULL;
}

static void release(void *context, void *memory, size_t size, size_t alignment) {
    (void)context;
    (void)size;
    (void)alignment;
    free(memory);
}

static int open_files(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(folder) != NULL) ++count;
    closedir(folder);
    return count;
}

static void check(int holds, const char *what, long at, const mtaw_error *error) {
    if (holds) return;
    fprintf(stderr, "allocation %ld: %s (status %d, %s)\n", at, what, (int)error->status, error->message);
    exit(1);
}

static int equal(const mtaw_answer *one, const mtaw_answer *other) {
    size_t i;
    if (one->n != other->n) return 0;
    for (i = 0; i < one->n; ++i) {
        if (strcmp(one->items[i].text, other->items[i].text) != 0 || one->scores[i] != other->scores[i]) return 0;
    }
    return 1;
}

static void check_rankings(const char *bundle) {
    const mtaw_id failing[] = {MTAW_TEXT("sku-1"), MTAW_TEXT("sku-7"), MTAW_TEXT("sku-9")};
    const mtaw_id next[] = {MTAW_TEXT("sku-5"), MTAW_TEXT("sku-7"), MTAW_TEXT("sku-2")};
    mtaw_error error;
    mtaw_recommender *recommender = NULL;
    mtaw_answer *expected = NULL, *answer = NULL;
    mtaw_options options;
    mtaw_status status;
    long at;
    int last = 0;
    mtaw_options_init(&options);
    options.at = 1764150000000;
    left = 0;
    check(mtaw_open(bundle, NULL, &recommender, &error) == MTAW_OK, "the bundle", 0, &error);
    check(mtaw_recommend(recommender, next, 3, &options, &expected, &error) == MTAW_OK, "the ranking", 0, &error);
    mtaw_close(recommender);
    for (at = 1; !last; ++at) {
        check(mtaw_open(bundle, NULL, &recommender, &error) == MTAW_OK, "the bundle", at, &error);
        left = at;
        status = mtaw_recommend(recommender, failing, 3, &options, &answer, &error);
        last = left > 0;
        left = 0;
        if (status == MTAW_OK) {
            mtaw_answer_free(answer); /* a sort does without its buffer */
        } else {
            check(!last && status == MTAW_NO_MEMORY, "a ranking", at, &error);
        }
        check(mtaw_recommend(recommender, next, 3, &options, &answer, &error) == MTAW_OK, "the next ranking", at,
              &error);
        check(equal(answer, expected), "the next ranking has another answer", at, &error);
        mtaw_answer_free(answer);
        mtaw_close(recommender);
    }
    mtaw_answer_free(expected);
}

static void check_session(const char *bundle) {
    const mtaw_id clicks[] = {MTAW_TEXT("sku-1"), MTAW_TEXT("sku-7"), MTAW_TEXT("sku-9")};
    mtaw_error error;
    mtaw_recommender *recommender = NULL;
    mtaw_answer *expected = NULL, *answer = NULL;
    mtaw_session *session = NULL;
    mtaw_options options;
    mtaw_status status = MTAW_NO_MEMORY;
    long at;
    mtaw_options_init(&options);
    options.at = 1764150000000;
    check(mtaw_open(bundle, NULL, &recommender, &error) == MTAW_OK, "the bundle", 0, &error);
    check(mtaw_recommend(recommender, clicks, 3, &options, &expected, &error) == MTAW_OK, "the ranking", 0, &error);
    mtaw_close(recommender);
    later = 1;
    for (at = 1; status != MTAW_OK; ++at) {
        check(mtaw_open(bundle, NULL, &recommender, &error) == MTAW_OK, "the bundle", at, &error);
        check(mtaw_session_open(recommender, &session, &error) == MTAW_OK, "the session", at, &error);
        check(mtaw_session_click(session, clicks, 2, &error) == MTAW_OK, "two clicks", at, &error);
        left = at;
        status = mtaw_session_recommend(session, &options, &answer, &error);
        left = 0;
        if (status == MTAW_OK) {
            mtaw_answer_free(answer);
        } else {
            check(status == MTAW_NO_MEMORY, "a session's ranking", at, &error);
        }
        check(mtaw_session_click(session, clicks + 2, 1, &error) == MTAW_OK, "a click", at, &error);
        check(mtaw_session_recommend(session, &options, &answer, &error) == MTAW_OK, "a session's next ranking", at,
              &error);
        check(equal(answer, expected), "a session's next ranking has another answer", at, &error);
        mtaw_answer_free(answer);
        mtaw_session_close(session);
        mtaw_close(recommender);
    }
    later = 0;
    mtaw_answer_free(expected);
}

int main(int count, char **arguments) {
    const mtaw_allocator allocator = {sizeof allocator, NULL, allocate, release};
    mtaw_error error;
    mtaw_recommender *recommender = NULL;
    mtaw_log *log = NULL;
    char lock[4096];
    int before, other;
    long at;
    mtaw_event event;
    if (count != 4) return 2;
    check(mtaw_set_allocator(&allocator, &error) == MTAW_OK, "the allocator", 0, &error);
    before = open_files();
    for (at = 1;; at += at < 300 ? 1 : at / 4) {
        left = at;
        if (mtaw_open(arguments[1], NULL, &recommender, &error) == MTAW_OK && left > 0) break;
        check(error.status == MTAW_NO_MEMORY, "the bundle", at, &error);
        check(open_files() == before, "a file of the bundle stays open", at, &error);
    }
    mtaw_close(recommender);
    for (at = 1;; ++at) {
        left = at;
        if (mtaw_log_open(arguments[2], MTAW_NO_SYNC, &log, &error) == MTAW_OK && left > 0) break;
        check(error.status == MTAW_NO_MEMORY || error.status == MTAW_LOG, "the log", at, &error);
        check(open_files() == before, "a file of the log stays open", at, &error);
    }
    left = 0;
    snprintf(lock, sizeof lock, "%s/.append.lock", arguments[2]);
    other = open(lock, O_RDWR);
    memset(&event, 0, sizeof event);
    event.session = "a session with a name that is no short text";
    event.item = MTAW_TEXT("sku-1");
    event.time = MTAW_NOW;
    for (at = 1;; ++at) {
        left = at;
        if (mtaw_log_append(log, &event, 1, NULL, &error) == MTAW_OK && left > 0) break;
        check(error.status == MTAW_NO_MEMORY, "an append", at, &error);
        check(flock(other, LOCK_EX | LOCK_NB) == 0 && flock(other, LOCK_UN) == 0, "the lock stays held", at, &error);
    }
    left = 0;
    mtaw_log_close(log);
    close(other);
    check_rankings(arguments[3]);
    check_session(arguments[3]);
    puts("ok");
    return 0;
}
