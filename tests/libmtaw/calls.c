/* A program in C99 that makes every call of mtaw.h: with a bundle of text ids and an item table, and with arguments
 * that are wrong. Prints the answer to two clicks, and at last "ok". */
#include <mtaw.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, error.message); \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

static mtaw_error error;
static size_t in_use, most_in_use;

/* Rules with a boost by a number of `zeros` digits 0 before or behind the point. */
static int boost_by(const mtaw_recommender *shop, const char *before, int zeros, const char *behind) {
    char text[1000];
    mtaw_rules *rules = NULL;
    const int n =
        snprintf(text, sizeof text, "{\"boost\": [{\"when\": \"True\", \"by\": %s%0*d%s}]}", before, zeros, 0, behind);
    const int status = mtaw_rules_open(shop, text, (size_t)n, &rules, &error);
    mtaw_rules_close(rules);
    return status;
}

static void *allocate(void *context, size_t size, size_t alignment) {
    void *memory = NULL;
    if (*(size_t *)context != 0 && --*(size_t *)context == 0) return NULL;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) != 0) return NULL;
    in_use += size;
    if (in_use > most_in_use) most_in_use = in_use;
    return memory;
}

static void release(void *context, void *memory, size_t size, size_t alignment) {
    (void)context;
    (void)alignment;
    in_use -= size;
    memset(memory, 0xA5, size); /* what is used after it was freed shows */
    free(memory);
}

/* What programs that were compiled with this MTAW_ABI rely on; none of these numbers may change. */
static void layout(void) {
    if (sizeof(void *) != 8) return;
    CHECK(MTAW_ABI == 1);
    CHECK(sizeof(mtaw_id) == 16 && sizeof(mtaw_context) == 16 && sizeof(mtaw_clicks) == 16);
    CHECK(sizeof(mtaw_event) == 64 && sizeof(mtaw_reason) == 24 && sizeof(mtaw_error) == 1028);
    CHECK(sizeof(mtaw_allocator) == 32 && sizeof(mtaw_file_methods) == 48);
    CHECK(offsetof(mtaw_open_options, files) == 16 && offsetof(mtaw_info, version) == 44);
    CHECK(offsetof(mtaw_options, n_types) == 104 && offsetof(mtaw_options, session_id) == 120);
    CHECK(offsetof(mtaw_answer, reasons) == 48 && offsetof(mtaw_answer, rule_set) == 56);
}

static void wrong_arguments(const mtaw_recommender *shop) {
    mtaw_answer *answer = NULL;
    mtaw_session *session = NULL;
    mtaw_rules *rules = NULL;
    mtaw_recommender *none = NULL;
    mtaw_log *log = NULL;
    mtaw_info info;
    mtaw_options options;
    mtaw_id clicks[] = {MTAW_TEXT("sku-1")};
    CHECK(mtaw_open(NULL, NULL, &none, &error) == MTAW_USAGE);
    CHECK(mtaw_open("", NULL, &none, &error) == MTAW_USAGE && strstr(error.message, "folder must not be empty"));
    CHECK(mtaw_log_open("", 0, &log, &error) == MTAW_USAGE && strstr(error.message, "folder must not be empty"));
    CHECK(mtaw_open("/nowhere", NULL, &none, &error) == MTAW_BUNDLE && strstr(error.message, "/nowhere/manifest.json"));
    CHECK(mtaw_open("/nowhere", NULL, &none, NULL) == MTAW_BUNDLE && none == NULL);
    CHECK(mtaw_open("/nowhere", NULL, NULL, &error) == MTAW_USAGE);
    CHECK(mtaw_click_type(NULL, 0) == NULL && mtaw_context_column(NULL, 0) == NULL);
    CHECK(mtaw_click_type(shop, SIZE_MAX) == NULL && mtaw_context_column(shop, SIZE_MAX) == NULL);
    CHECK(mtaw_recommend(NULL, clicks, 1, NULL, &answer, &error) == MTAW_USAGE);
    CHECK(mtaw_recommend(shop, NULL, 1, NULL, &answer, &error) == MTAW_USAGE);
    CHECK(mtaw_recommend(shop, clicks, 1, NULL, NULL, &error) == MTAW_USAGE);
    mtaw_options_init(&options);
    options.k = 0;
    CHECK(mtaw_recommend(shop, clicks, 1, &options, &answer, &error) == MTAW_USAGE &&
          strstr(error.message, "k must be"));
    mtaw_options_init(&options);
    options.placement = "a b";
    CHECK(mtaw_recommend(shop, clicks, 1, &options, &answer, &error) == MTAW_USAGE &&
          strstr(error.message, "placement: a name has 1 to 64 letters"));
    mtaw_options_init(&options);
    options.n_types = 1;
    CHECK(mtaw_recommend(shop, clicks, 1, &options, &answer, &error) == MTAW_USAGE &&
          strstr(error.message, "types: the list is NULL"));
    mtaw_options_init(&options);
    options.at = 1764150000 * (int64_t)1000000;
    CHECK(mtaw_recommend(shop, clicks, 1, &options, &answer, &error) == MTAW_USAGE &&
          strstr(error.message, "milliseconds"));
    options.at = 1764150000;
    CHECK(mtaw_recommend(shop, clicks, 1, &options, &answer, &error) == MTAW_USAGE &&
          strstr(error.message, "is in seconds; write it in milliseconds"));
    memset(&options, 0, sizeof options);
    CHECK(mtaw_recommend(shop, clicks, 1, &options, &answer, &error) == MTAW_USAGE &&
          strstr(error.message, "mtaw_options_init"));
    CHECK(mtaw_similar(shop, MTAW_TEXT("nobody"), MTAW_BY_VECTORS, NULL, &answer, &error) == MTAW_USAGE);
    CHECK(mtaw_similar(shop, MTAW_TEXT("sku-1"), 7, NULL, &answer, &error) == MTAW_USAGE);
    mtaw_options_init(&options);
    options.reasons = 1;
    CHECK(mtaw_similar(shop, MTAW_TEXT("sku-1"), MTAW_BY_VECTORS, &options, &answer, &error) == MTAW_USAGE &&
          strstr(error.message, "similar: there is no"));
    CHECK(mtaw_session_open(NULL, &session, &error) == MTAW_USAGE && session == NULL);
    CHECK(mtaw_session_click(NULL, clicks, 1, &error) == MTAW_USAGE);
    CHECK(mtaw_rules_open(shop, "{", 1, &rules, &error) == MTAW_USAGE && strstr(error.message, "not JSON"));
    CHECK(mtaw_log_open("/proc/nowhere/log", 0, &log, &error) == MTAW_LOG && log == NULL);
    info.struct_size = 0;
    CHECK(mtaw_describe(shop, &info, &error) == MTAW_USAGE);
    CHECK(answer == NULL);
    mtaw_close(NULL);
    mtaw_answer_free(NULL);
    mtaw_session_close(NULL);
    mtaw_filter_close(NULL);
    mtaw_rules_close(NULL);
    mtaw_log_close(NULL);
}

static void right_calls(mtaw_recommender *shop, const char *folder) {
    static const char kRules[] = "{\"filter\": \"price < 8\"}";
    mtaw_id clicks[] = {MTAW_TEXT("sku-1"), MTAW_TEXT("sku-2")}, some[] = {MTAW_TEXT("sku-5"), MTAW_NUMBER(5)};
    mtaw_answer *answer = NULL, *two[2] = {NULL, NULL};
    mtaw_clicks sessions[2];
    mtaw_session *session = NULL;
    mtaw_filter *filter = NULL;
    mtaw_rules *rules = NULL;
    mtaw_log *log = NULL;
    mtaw_options options;
    mtaw_event event;
    char position[MTAW_POSITION_SIZE];
    size_t i;
    CHECK(mtaw_recommend(shop, clicks, 2, NULL, &answer, &error) == MTAW_OK && answer->n == 20);
    for (i = 0; i < answer->n; ++i) printf("%s %.9g\n", answer->items[i].text, (double)answer->scores[i]);
    CHECK(mtaw_filter_open(shop, some, 2, NULL, 0, &filter, &error) == MTAW_OK);
    CHECK(mtaw_rules_open(shop, kRules, sizeof kRules - 1, &rules, &error) == MTAW_OK);
    CHECK(boost_by(shop, "0.", 400, "1") == MTAW_OK && boost_by(shop, "-1", 400, "e-400") == MTAW_OK);
    CHECK(boost_by(shop, "1", 400, "") == MTAW_USAGE && boost_by(shop, "1", 400, "e-9") == MTAW_USAGE);
    CHECK(boost_by(shop, "0.", 400, "1e99999999999999999999") == MTAW_USAGE &&
          boost_by(shop, "2.", 1, "e-99999999999999999999") == MTAW_OK);
    mtaw_options_init(&options);
    options.filter = filter;
    options.rules = rules;
    sessions[0].ids = clicks;
    sessions[0].n = 2;
    sessions[1].ids = NULL;
    sessions[1].n = 0;
    CHECK(mtaw_recommend_batch(shop, sessions, 2, &options, two, &error) == MTAW_OK && !two[0]->fallback &&
          two[1]->fallback);
    CHECK(mtaw_recommend_batch(shop, NULL, 0, NULL, NULL, &error) == MTAW_OK);
    CHECK(mtaw_session_open(shop, &session, &error) == MTAW_OK);
    mtaw_answer_free(two[0]);
    CHECK(mtaw_similar(shop, clicks[0], MTAW_BY_SESSIONS, &options, &two[0], &error) == MTAW_OK);
    mtaw_close(shop); /* the session keeps what it needs */
    CHECK(mtaw_session_click(session, clicks, 2, &error) == MTAW_OK);
    mtaw_answer_free(two[1]);
    CHECK(mtaw_session_recommend(session, NULL, &two[1], &error) == MTAW_OK && two[1]->n == answer->n);
    for (i = 0; i < answer->n; ++i)
        CHECK(strcmp(two[1]->items[i].text, answer->items[i].text) == 0 && two[1]->scores[i] == answer->scores[i]);
    mtaw_rules_close(rules);
    mtaw_session_close(session);
    mtaw_filter_close(filter);
    CHECK(mtaw_log_open(folder, MTAW_NO_SYNC, &log, &error) == MTAW_OK);
    memset(&event, 0, sizeof event);
    event.session = "s-1";
    event.item = clicks[0];
    event.time = MTAW_NOW;
    CHECK(mtaw_log_append(log, &event, 1, position, &error) == MTAW_OK && strlen(position) == 23);
    event.session = "";
    CHECK(mtaw_log_append(log, &event, 1, position, &error) == MTAW_USAGE && strstr(error.message, "session"));
    CHECK(mtaw_log_forget(log, "s-1", NULL, &error) == MTAW_OK);
    mtaw_log_close(log);
    for (i = 0; i < 2; ++i) mtaw_answer_free(two[i]);
    mtaw_answer_free(answer);
}

int main(int count, char **arguments) {
    size_t fails_at = 0;
    mtaw_allocator allocator;
    mtaw_recommender *shop = NULL;
    mtaw_info info;
    mtaw_status status;
    size_t before, allocation;
    if (count != 3) return 2;
    allocator.struct_size = sizeof allocator;
    allocator.context = &fails_at;
    allocator.allocate = allocate;
    allocator.release = release;
    CHECK(mtaw_set_allocator(NULL, &error) == MTAW_USAGE);
    CHECK(mtaw_set_allocator(&allocator, &error) == MTAW_OK);
    CHECK(strcmp(mtaw_version(), MTAW_VERSION) == 0 && mtaw_abi() == MTAW_ABI);
    CHECK(mtaw_instruction_set() != NULL && strstr(mtaw_capabilities(), "rules") != NULL);
    CHECK(strcmp(mtaw_status_name(MTAW_LOG), "log") == 0 && strcmp(mtaw_status_name(99), "unknown") == 0);
    CHECK(mtaw_open(arguments[1], NULL, &shop, &error) == MTAW_OK);
    CHECK(most_in_use > 10000);
    CHECK(mtaw_set_allocator(&allocator, &error) == MTAW_USAGE);
    info.struct_size = sizeof info;
    CHECK(mtaw_describe(shop, &info, &error) == MTAW_OK && info.id_kind == MTAW_TEXT_IDS && strlen(info.version) == 16);
    layout();
    wrong_arguments(shop);
    right_calls(shop, arguments[2]);
    before = in_use;
    for (allocation = 1;; allocation += allocation / 8 + 1) { /* memory that ends while a bundle is opened */
        shop = NULL;
        fails_at = allocation;
        status = mtaw_open(arguments[1], NULL, &shop, &error);
        fails_at = 0;
        if (status == MTAW_OK) break;
        CHECK(status == MTAW_NO_MEMORY && shop == NULL && in_use == before);
    }
    mtaw_close(shop);
    CHECK(allocation > 50 && in_use == before);
    puts("ok");
    return 0;
}
