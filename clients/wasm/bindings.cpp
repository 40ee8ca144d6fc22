// What index.mjs calls: libmtaw with ids in one text, so that no structure crosses the border.
#include <emscripten/emscripten.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "mtaw.h"

namespace {

mtaw_error failure;

// The ids of a text: each ends with a zero byte. Of a catalog with numbers, each is one in decimal digits; one that
// no int64 holds stays a text, which is unknown.
std::vector<mtaw_id> ids_of(const mtaw_recommender* recommender, const char* text, std::size_t n) {
    mtaw_info info{};
    info.struct_size = sizeof info;
    std::vector<mtaw_id> found;
    if (mtaw_describe(recommender, &info, &failure) != MTAW_OK) return found;
    for (std::size_t i = 0; i < n; ++i, text += std::strlen(text) + 1) {
        char* end = nullptr;
        errno = 0;
        const long long number = info.id_kind == MTAW_INT_IDS ? std::strtoll(text, &end, 10) : 0;
        const bool is_number = end != nullptr && end != text && *end == '\0' && errno != ERANGE;
        found.push_back(is_number ? MTAW_NUMBER(number) : MTAW_TEXT(text));
    }
    return found;
}

// The texts of one text, each with a zero byte at its end; an empty one is none.
std::vector<const char*> texts_of(const char* text, std::size_t n) {
    std::vector<const char*> found;
    for (std::size_t i = 0; i < n; ++i, text += std::strlen(text) + 1) found.push_back(*text == '\0' ? nullptr : text);
    return found;
}

}  // namespace

extern "C" {

EMSCRIPTEN_KEEPALIVE const char* mtaw_js_error() { return failure.message; }

EMSCRIPTEN_KEEPALIVE mtaw_recommender* mtaw_js_open(const char* folder, int verify) {
    mtaw_open_options options{};
    options.struct_size = sizeof options;
    options.flags = verify ? 0 : MTAW_NO_VERIFY;
    mtaw_recommender* recommender = nullptr;
    return mtaw_open(folder, &options, &recommender, &failure) == MTAW_OK ? recommender : nullptr;
}

EMSCRIPTEN_KEEPALIVE void mtaw_js_close(mtaw_recommender* recommender) { mtaw_close(recommender); }

// k and at are whole numbers: index.mjs has checked them.
EMSCRIPTEN_KEEPALIVE mtaw_answer* mtaw_js_recommend(const mtaw_recommender* recommender, const char* clicks,
                                                    std::size_t n_clicks, const char* exclude, std::size_t n_exclude,
                                                    const char* types, std::size_t n_types, std::size_t k,
                                                    int exclude_seen, double at) {
    const std::vector<const char*> kinds = texts_of(types, n_types);
    const std::vector<mtaw_id> ids = ids_of(recommender, clicks, n_clicks),
                               left_out = ids_of(recommender, exclude, n_exclude);
    mtaw_options options;
    mtaw_options_init(&options);
    options.k = k;
    options.exclude_seen = exclude_seen;
    options.exclude = left_out.data();
    options.n_exclude = left_out.size();
    options.types = kinds.data();
    options.n_types = kinds.size();
    options.at = static_cast<std::int64_t>(at);
    mtaw_answer* answer = nullptr;
    const mtaw_status status = mtaw_recommend(recommender, ids.data(), ids.size(), &options, &answer, &failure);
    return status == MTAW_OK ? answer : nullptr;
}

EMSCRIPTEN_KEEPALIVE std::size_t mtaw_js_n(const mtaw_answer* answer) { return answer->n; }
EMSCRIPTEN_KEEPALIVE int mtaw_js_fallback(const mtaw_answer* answer) { return answer->fallback; }
EMSCRIPTEN_KEEPALIVE const float* mtaw_js_scores(const mtaw_answer* answer) { return answer->scores; }
EMSCRIPTEN_KEEPALIVE const char* mtaw_js_text(const mtaw_answer* answer, std::size_t i) {
    return answer->items[i].text;
}
// Of a text, in bytes.
EMSCRIPTEN_KEEPALIVE std::size_t mtaw_js_size(const mtaw_answer* answer, std::size_t i) {
    return static_cast<std::size_t>(answer->items[i].value);
}
EMSCRIPTEN_KEEPALIVE double mtaw_js_number(const mtaw_answer* answer, std::size_t i) {
    return static_cast<double>(answer->items[i].value);
}
// The number's halves, where a double would round it.
EMSCRIPTEN_KEEPALIVE std::int32_t mtaw_js_high(const mtaw_answer* answer, std::size_t i) {
    return static_cast<std::int32_t>(answer->items[i].value >> 32);
}
EMSCRIPTEN_KEEPALIVE std::uint32_t mtaw_js_low(const mtaw_answer* answer, std::size_t i) {
    return static_cast<std::uint32_t>(answer->items[i].value);
}
EMSCRIPTEN_KEEPALIVE void mtaw_js_free(mtaw_answer* answer) { mtaw_answer_free(answer); }
}
