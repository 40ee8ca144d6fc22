/*
 * libmtaw: recommendations from an mtaw_fast bundle, for C and for every language that calls C.
 *
 *     mtaw_recommender *shop = NULL;
 *     mtaw_answer *answer = NULL;
 *     mtaw_error error;
 *     mtaw_options options;
 *     mtaw_id clicks[] = {MTAW_TEXT("sku-9"), MTAW_TEXT("sku-4")};
 *
 *     mtaw_options_init(&options);
 *     if (mtaw_open("shop.bundle", NULL, &shop, &error) != MTAW_OK) fail(error.message);
 *     if (mtaw_recommend(shop, clicks, 2, &options, &answer, &error) != MTAW_OK) fail(error.message);
 *     for (size_t i = 0; i < answer->n; ++i) printf("%s %f\n", answer->items[i].text, answer->scores[i]);
 *     mtaw_answer_free(answer);
 *     mtaw_close(shop);
 *
 * Answers equal those of the Python package to the bit. Both link the same objects for the model, the index, the
 * session memory, rules and reasons; reading the bundle, popularity and the log are written a second time, and tests
 * compare them.
 *
 * Threads. Every function may be called from any thread at any time. A recommender, a filter and rules are immutable.
 * Calls on one session or one log wait for each other. The one rule: no call may use an object while another thread
 * frees it, or after. Objects may be freed in any order: a session outlives the recommender that it was made by.
 * A request to cancel a thread (pthread_cancel) waits until its call is over.
 *
 * Fork. A child may use the recommenders of its parent if no other thread of the parent was inside a call during the
 * fork. A log belongs to the process that opened it.
 *
 * Errors. A function that can fail returns a status, MTAW_OK or another. If its last argument `error` is not NULL, it
 * is set to the status and to one line of English: what is wrong, where, and what to do. What a function returns
 * through pointers is set only if it returns MTAW_OK. No C++ exception leaves the library.
 *
 * Texts are UTF-8. Times are Unix milliseconds. A function that frees takes NULL and does nothing then.
 *
 * Compatibility. Within one MTAW_ABI, functions and enumerators are only added. Structures that begin with
 * `struct_size`, and mtaw_answer, only grow at their end: each side reads what it knows. All others never change, for
 * they stand in arrays: what is new comes in structures of its own. The library's SONAME ends with MTAW_ABI.
 */
#ifndef MTAW_H
#define MTAW_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) || !defined(__GNUC__)
#define MTAW_API
#else
#define MTAW_API __attribute__((visibility("default")))
#endif

#define MTAW_VERSION "0.2.0"
#define MTAW_ABI 1

/* ---- Status ---------------------------------------------------------------------------------------------------- */

typedef int32_t mtaw_status;

enum {
    MTAW_OK = 0,
    MTAW_USAGE = 1,     /* an argument is wrong; the call changed nothing */
    MTAW_BUNDLE = 2,    /* the bundle is missing, damaged, or of a format that only a later release reads */
    MTAW_LOG = 3,       /* the log cannot be opened or written */
    MTAW_NO_MEMORY = 4, /* the allocator returned NULL */
    MTAW_INTERNAL = 5   /* a defect of the library; please report the message */
};

#define MTAW_MESSAGE_SIZE 1024

typedef struct mtaw_error {
    mtaw_status status;
    char message[MTAW_MESSAGE_SIZE]; /* one line, always terminated; cut if it is longer */
} mtaw_error;

/* The name of a status in words: "ok", "usage", "bundle", "log", "no memory", "internal"; "unknown" for others. */
MTAW_API const char *mtaw_status_name(mtaw_status status);

/* ---- The library ----------------------------------------------------------------------------------------------- */

/* The release, such as "0.2.0". Compare it with MTAW_VERSION, that of the header. */
MTAW_API const char *mtaw_version(void);

/* MTAW_ABI of the library. A program that was compiled with another number must not call it. */
MTAW_API int32_t mtaw_abi(void);

/*
 * Names of what this library can do, separated by spaces: "session similar filter rules reasons types log map
 * placement", and "bundle-1" .. for every bundle format that it reads. Later releases add names.
 */
MTAW_API const char *mtaw_capabilities(void);

/*
 * The instruction set in use: "portable", "neon", "avx2", "avx512", "vnni", "bf16" or "amx", chosen at the first call
 * by what the CPU has. The environment variable MTAW_ISA names a lower one. Scores of the same instruction set are
 * equal to the bit; docs/architecture.md of the package says what differs between them. NULL if MTAW_ISA is wrong:
 * mtaw_open says why.
 */
MTAW_API const char *mtaw_instruction_set(void);

/*
 * Where the library takes memory from. `allocate` returns `size` bytes at a multiple of `alignment`, a power of two, or
 * NULL; `release` gets what it returned, with the same size and alignment. Both are called from any thread.
 */
typedef struct mtaw_allocator {
    size_t struct_size;
    void *context;
    void *(*allocate)(void *context, size_t size, size_t alignment);
    void (*release)(void *context, void *memory, size_t size, size_t alignment);
} mtaw_allocator;

/*
 * Replaces malloc and free for what the library allocates, from now to the end of the process. Exceptions, threads and
 * directory listings of the system's libraries use malloc still; the sums of rankings with a session memory come from
 * calloc. Must be the first call of the process into the library that can fail: MTAW_USAGE after another one.
 */
MTAW_API mtaw_status mtaw_set_allocator(const mtaw_allocator *allocator, mtaw_error *error);

/*
 * How a bundle's files are read, for bundles that are not in a file system. Functions that can fail return 0 or an
 * errno value. They are called from the thread that opens a bundle, and `close` from the one that frees the last object
 * of it.
 *
 * open   opens a file for reading and sets its size; `path` is the folder, a slash and a plain name
 * read   fills `buffer` with the `size` bytes from `offset` on
 * map    returns all bytes of the file at a multiple of 64, valid until `close`; NULL as the function or the result
 *        means that the library copies them by `read`
 * close  is called once for each file
 */
typedef struct mtaw_file_methods {
    size_t struct_size;
    void *context;
    int (*open)(void *context, const char *path, void **file, uint64_t *size);
    int (*read)(void *context, void *file, uint64_t offset, void *buffer, size_t size);
    const void *(*map)(void *context, void *file);
    void (*close)(void *context, void *file);
} mtaw_file_methods;

/* ---- Opening a bundle ------------------------------------------------------------------------------------------ */

typedef struct mtaw_recommender mtaw_recommender;

enum {
    /* Do not check the hashes of the files and that all values are finite. Opening is faster, and still safe: whatever
     * the files hold, no call reads outside them. */
    MTAW_NO_VERIFY = 1,
    /* Map the files instead of copying them into sealed memory, which processes with one parent share. For folders that
     * nobody writes into: if a file is cut short while it is mapped, the process gets SIGBUS. */
    MTAW_MAP = 2
};

typedef struct mtaw_open_options {
    size_t struct_size;             /* sizeof(mtaw_open_options) */
    uint32_t flags;                 /* MTAW_NO_VERIFY | MTAW_MAP, or 0 */
    const mtaw_file_methods *files; /* NULL: the file system. Copied, but `context` must outlive every object. */
} mtaw_open_options;

/*
 * Opens a bundle: what `mtaw-fast train` or Bundle.save wrote, or the compacted bundle of a learning service. The
 * manifest is checked, then every file that it names, by its SHA-256 and by its content. If the bundle is replaced
 * meanwhile, the old one or the new one is opened. options: NULL for the defaults.
 */
MTAW_API mtaw_status mtaw_open(const char *folder, const mtaw_open_options *options, mtaw_recommender **recommender,
                               mtaw_error *error);
MTAW_API void mtaw_close(mtaw_recommender *recommender);

enum { MTAW_INT_IDS = 0, MTAW_TEXT_IDS = 1 };

typedef struct mtaw_info {
    size_t struct_size;   /* sizeof(mtaw_info), set by the caller */
    int64_t n_items;      /* items that can be recommended */
    int64_t catalog_size; /* with the hidden and unavailable ones */
    int32_t id_kind;      /* MTAW_INT_IDS or MTAW_TEXT_IDS */
    int32_t dimensions;   /* of an item's vector */
    int32_t has_memory;   /* 1 if it ranks by past sessions */
    int32_t has_times;    /* 1 if `at` matters */
    int32_t bundle_format;
    char version[17]; /* 16 hex digits that name the bundle, as the HTTP service's answers do */
} mtaw_info;

MTAW_API mtaw_status mtaw_describe(const mtaw_recommender *recommender, mtaw_info *info, mtaw_error *error);

/*
 * Names that the bundle knows: the types of clicks for `types` of the options, and the columns of the visit's context.
 * NULL if `index`, from 0, is behind the last. Valid until the recommender is closed.
 */
MTAW_API const char *mtaw_click_type(const mtaw_recommender *recommender, size_t index);
MTAW_API const char *mtaw_context_column(const mtaw_recommender *recommender, size_t index);

/* ---- Ids, options and answers ---------------------------------------------------------------------------------- */

/*
 * An external id: a text or a number. An id of the other kind than the catalog's is an unknown item, not an error.
 */
typedef struct mtaw_id {
    const char *text; /* NULL: the id is the number `value` */
    int64_t value;    /* of a text: its bytes, or -1 if it ends with a zero byte */
} mtaw_id;

#ifdef __cplusplus
#define MTAW_TEXT(text_) (mtaw_id{(text_), -1})
#define MTAW_NUMBER(number_) (mtaw_id{nullptr, (number_)})
#else
#define MTAW_TEXT(text_) ((mtaw_id){(text_), -1})
#define MTAW_NUMBER(number_) ((mtaw_id){NULL, (number_)})
#endif

/* A value of the visit's context, by the name of its column. Both end with a zero byte. */
typedef struct mtaw_context {
    const char *name;
    const char *value; /* NULL or "": none */
} mtaw_context;

typedef struct mtaw_filter mtaw_filter;
typedef struct mtaw_rules mtaw_rules;

#define MTAW_NOW INT64_MIN /* as a time: the moment of the call */

/*
 * What may be recommended, and the moment. All conditions hold together; if they leave fewer than k items, the answer
 * is shorter. mtaw_options_init sets the defaults: 20 items, all of the catalog, now. Unknown ids are ignored.
 */
typedef struct mtaw_options {
    size_t struct_size;     /* set by mtaw_options_init */
    size_t k;               /* how many items, at least 1 */
    int64_t at;             /* of the request, for bundles with times and for placements */
    int32_t exclude_seen;   /* 1: not the session's own items */
    int32_t reasons;        /* 1: the answer has `reasons` */
    const mtaw_id *exclude; /* ids that are never recommended */
    size_t n_exclude;
    const mtaw_id *allow; /* the only ids that may be recommended; NULL: all. Not NULL and n_allow 0: none */
    size_t n_allow;
    const mtaw_filter *filter; /* of this recommender, or NULL */
    const mtaw_rules *rules;   /* of this recommender, or NULL */
    const mtaw_context *context;
    size_t n_context;
    /* The type of each click, such as "cart", for bundles trained on clicks with types; NULL for an unknown one. One
     * for each click of the call, of all sessions in their order, or of the growing session so far. NULL: all are
     * unknown. mtaw_similar refuses these, `at`, `context` and `reasons`. */
    const char *const *types;
    size_t n_types;
    /* Where the list will stand, such as "cart": its saved rules (docs/how-to/placements.md), by `at` and by the id of
     * the session, or else those of the placement "default". They never go together with rules of the call: both are
     * MTAW_USAGE, also where the placement says `together`. The first call with a rule set binds it to the catalog. */
    const char *placement;  /* NULL: none */
    const char *session_id; /* decides between sets that share the sessions; NULL: none of the shares */
} mtaw_options;

MTAW_API void mtaw_options_init_sized(mtaw_options *options, size_t struct_size);
#define mtaw_options_init(options_) mtaw_options_init_sized((options_), sizeof(mtaw_options))

enum { MTAW_FULL = 0, MTAW_SHORT = 1 };

/* Of a reason: the item is in the session; past sessions contain it together with items of the session; or neither, so
 * it is close to the session's vector. */
enum { MTAW_IN_SESSION = 0, MTAW_TOGETHER = 1, MTAW_ENCODER = 2 };

/* What rules did to an item: nothing, added to its score, lowered it, or put it at its position. */
enum { MTAW_UNCHANGED = 0, MTAW_BOOSTED = 1, MTAW_BURIED = 2, MTAW_PINNED = 3 };

/* Why an item was recommended. */
typedef struct mtaw_reason {
    int32_t kind;
    int32_t rule;
    size_t n;
    const mtaw_id *items; /* [n], of the session, the closest first; at most 3, and none unless MTAW_TOGETHER */
} mtaw_reason;

/*
 * A ranking, best first. Owned by the caller, who frees it; independent of all other objects. Read only.
 */
typedef struct mtaw_answer {
    size_t n;
    const mtaw_id *items; /* [n]; texts end with a zero byte, which `value` does not count */
    const float *scores;  /* [n] */
    size_t n_unknown;
    const size_t *unknown;      /* [n_unknown] positions, from 0, of clicks that the catalog does not know */
    int32_t fallback;           /* 1: no click was known, so this is the popularity ranking */
    int32_t completeness;       /* MTAW_SHORT: with rules, no more items meet the conditions than these n < k */
    const mtaw_reason *reasons; /* [n] if the options ask for them and this is no popularity ranking, else NULL */
    const char *rule_set;       /* the name of the placement's set that it follows, else NULL */
} mtaw_answer;

MTAW_API void mtaw_answer_free(mtaw_answer *answer);

/* ---- Ranking --------------------------------------------------------------------------------------------------- */

/*
 * The best next items after the clicks, oldest first. Without a known click it is the popularity ranking. options: NULL
 * for the defaults. MTAW_USAGE if all ids are of the other kind than the catalog's.
 */
MTAW_API mtaw_status mtaw_recommend(const mtaw_recommender *recommender, const mtaw_id *clicks, size_t n_clicks,
                                    const mtaw_options *options, mtaw_answer **answer, mtaw_error *error);

typedef struct mtaw_clicks {
    const mtaw_id *ids;
    size_t n;
} mtaw_clicks;

/*
 * The same for many sessions, with less work for each. answers: room for n_sessions pointers; each is freed by itself.
 * On an error there is none. Every answer is that of mtaw_recommend, to the bit.
 */
MTAW_API mtaw_status mtaw_recommend_batch(const mtaw_recommender *recommender, const mtaw_clicks *sessions,
                                          size_t n_sessions, const mtaw_options *options, mtaw_answer **answers,
                                          mtaw_error *error);

enum { MTAW_BY_VECTORS = 0, MTAW_BY_SESSIONS = 1 };

/*
 * The items most similar to one, without itself, with their cosines: of the item vectors, or of the past sessions with
 * both. For rules, `current` is the item. MTAW_USAGE if the catalog does not know the item, the bundle has no sessions,
 * or the options have at, exclude_seen, context, types or reasons.
 */
MTAW_API mtaw_status mtaw_similar(const mtaw_recommender *recommender, mtaw_id item, int32_t by,
                                  const mtaw_options *options, mtaw_answer **answer, mtaw_error *error);

/*
 * A session that grows click by click: a ranking costs one step of the encoder, not the whole session, and equals
 * mtaw_recommend of all clicks so far. With rules the whole session is encoded again.
 */
typedef struct mtaw_session mtaw_session;

MTAW_API mtaw_status mtaw_session_open(const mtaw_recommender *recommender, mtaw_session **session, mtaw_error *error);
MTAW_API mtaw_status mtaw_session_click(mtaw_session *session, const mtaw_id *clicks, size_t n_clicks,
                                        mtaw_error *error);
MTAW_API mtaw_status mtaw_session_recommend(mtaw_session *session, const mtaw_options *options, mtaw_answer **answer,
                                            mtaw_error *error);
MTAW_API void mtaw_session_close(mtaw_session *session);

/* ---- Filters and rules ----------------------------------------------------------------------------------------- */

/*
 * Prepares long lists for many calls. allow: NULL for all items. The filter belongs to the recommender it was made by,
 * or to another one of the same bundle.
 */
MTAW_API mtaw_status mtaw_filter_open(const mtaw_recommender *recommender, const mtaw_id *exclude, size_t n_exclude,
                                      const mtaw_id *allow, size_t n_allow, mtaw_filter **filter, mtaw_error *error);
MTAW_API void mtaw_filter_close(mtaw_filter *filter);

/*
 * Rules on the columns of the item table, as JSON: the object of docs/rules.md, checked against the columns. json:
 * `size` bytes, not terminated.
 */
MTAW_API mtaw_status mtaw_rules_open(const mtaw_recommender *recommender, const char *json, size_t size,
                                     mtaw_rules **rules, mtaw_error *error);
MTAW_API void mtaw_rules_close(mtaw_rules *rules);

/* ---- The learning log ------------------------------------------------------------------------------------------ */

/*
 * The log in a learning folder. Whatever is appended is learned by the Python processes that share the folder
 * (`mtaw-fast serve --learn FOLDER`, Recommender.load(.., learn=FOLDER)); libmtaw itself does not learn.
 */
typedef struct mtaw_log mtaw_log;

enum {
    /* Return after write(2) and leave it to the system when the events reach the disk. Without it every append waits
     * for the disk. */
    MTAW_NO_SYNC = 1
};

/* Opens the log in a folder, which is created if it is missing, for this user alone. */
MTAW_API mtaw_status mtaw_log_open(const char *folder, uint32_t flags, mtaw_log **log, mtaw_error *error);
MTAW_API void mtaw_log_close(mtaw_log *log);

typedef struct mtaw_event {
    const char *session; /* the session's id, 1 to 512 characters */
    mtaw_id item;
    int64_t time;     /* MTAW_NOW, or when the click was */
    const char *type; /* such as "view" or "cart"; NULL: none */
    const char *id;   /* events of a session with the same id count once; NULL: none */
    const mtaw_context *context;
    size_t n_context;
} mtaw_event;

#define MTAW_POSITION_SIZE 32

/*
 * Appends clicks in this order, with none of others between. position: gets the log position after the last one, which
 * answers of learning processes name; NULL if it is not wanted. They are acknowledged together: after MTAW_LOG some may
 * be stored, so send them again with the same ids; each counts once then.
 */
MTAW_API mtaw_status mtaw_log_append(mtaw_log *log, const mtaw_event *events, size_t n_events,
                                     char position[MTAW_POSITION_SIZE], mtaw_error *error);

/* Appends the request to forget what was learned from a session; position as in mtaw_log_append. */
MTAW_API mtaw_status mtaw_log_forget(mtaw_log *log, const char *session, char position[MTAW_POSITION_SIZE],
                                     mtaw_error *error);

#ifdef __cplusplus
}
#endif

#endif
