/* Calls from a thread that is to be canceled: each ends as usual, and the thread after them. Prints "ok".
 * The files of a mapped bundle are closed with the last of its objects. */
#include <mtaw.h>
#include <pthread.h>
#include <stdio.h>

struct work {
    const char *folder, *bundle;
    int failed, closed;
};

static void *calls(void *argument) {
    struct work *work = argument;
    mtaw_event event = {.session = "s", .item = MTAW_TEXT("a"), .time = 1764150000000};
    const mtaw_open_options mapped = {sizeof mapped, MTAW_MAP, NULL};
    const char rules[] = "{\"limit\": {\"per\": \"brand\", \"most\": 2}}";
    mtaw_recommender *shop, *shops[3];
    mtaw_session *visit;
    mtaw_rules *limit;
    mtaw_log *log;
    pthread_cancel(pthread_self());
    work->failed = mtaw_open(work->bundle, NULL, &shop, NULL) != MTAW_OK ||
                   mtaw_open(work->bundle, &mapped, &shops[0], NULL) != MTAW_OK ||
                   mtaw_open(work->bundle, &mapped, &shops[1], NULL) != MTAW_OK ||
                   mtaw_open(work->bundle, &mapped, &shops[2], NULL) != MTAW_OK ||
                   mtaw_session_open(shops[0], &visit, NULL) != MTAW_OK ||
                   mtaw_rules_open(shops[1], rules, sizeof rules - 1, &limit, NULL) != MTAW_OK ||
                   mtaw_log_open(work->folder, 0, &log, NULL) != MTAW_OK ||
                   mtaw_log_append(log, &event, 1, NULL, NULL) != MTAW_OK;
    if (work->failed) return NULL;
    mtaw_log_close(log);
    mtaw_close(shop);
    mtaw_close(shops[0]);
    mtaw_session_close(visit);
    mtaw_close(shops[1]);
    mtaw_rules_close(limit);
    mtaw_close(shops[2]);
    work->closed = 1;
    pthread_testcancel();
    work->failed = 1;
    return NULL;
}

int main(int count, char **arguments) {
    struct work work = {0};
    pthread_t thread;
    void *result;
    if (count != 3) return 2;
    work.bundle = arguments[1];
    work.folder = arguments[2];
    if (pthread_create(&thread, NULL, calls, &work) != 0 || pthread_join(thread, &result) != 0) return 2;
    if (work.failed || !work.closed || result != PTHREAD_CANCELED) return 1;
    puts("ok");
    return 0;
}
