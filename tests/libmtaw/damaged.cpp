// Opens bundles that may be damaged, named line by line on the input, and calls what opens: damaged. Prints for each
// how often it opened, of three ways, and the last error.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <random>
#include <string>

#include "mtaw.h"

namespace {

constexpr char kRules[] =
    R"json({"filter": ["3 <= price < 9e0 or not (since > '1970-01-02' and item['sale'])", "missing(current.brand)"],
        "boost": {"when": "tags not in ('a\\x62', \"\\u00e9\",) and -5_0 in current['price']", "by": -0.5},
        "limit": {"per": "brand", "most": 3}, "pin": {"sku-5": 2, "17": 3}})json";

void call(const mtaw_recommender* shop, std::mt19937& random) {
    mtaw_error error;
    mtaw_answer* answer = nullptr;
    mtaw_session* session = nullptr;
    mtaw_rules* rules = nullptr;
    mtaw_filter* filter = nullptr;
    const mtaw_id ids[] = {MTAW_TEXT("sku-1"), MTAW_NUMBER(17), MTAW_TEXT("sku-9"), MTAW_NUMBER(97),
                           MTAW_TEXT("nobody")};
    mtaw_options options;
    mtaw_options_init(&options);
    options.k = 1 + random() % 70;
    options.exclude = ids;
    options.n_exclude = random() % 5;
    options.exclude_seen = static_cast<std::int32_t>(random() % 2);
    options.reasons = static_cast<std::int32_t>(random() % 2);
    const char* const types[] = {"view", nullptr, "cart", "view", "other"};
    if (mtaw_filter_open(shop, ids, 2, nullptr, 0, &filter, &error) == MTAW_OK) options.filter = filter;
    std::string text(kRules);
    for (unsigned changes = random() % 4; changes > 0; --changes)
        text[random() % text.size()] = static_cast<char>(random());
    if (mtaw_rules_open(shop, text.data(), text.size() - random() % 2, &rules, &error) == MTAW_OK)
        options.rules = rules;
    for (std::size_t n = 0; n <= 5; ++n) {
        options.types = random() % 2 == 0 ? nullptr : types;
        options.n_types = options.types == nullptr ? 0 : n;
        if (mtaw_recommend(shop, ids, n, &options, &answer, &error) == MTAW_OK) mtaw_answer_free(answer);
        if (n < 5 && mtaw_similar(shop, ids[n], static_cast<std::int32_t>(n % 2), &options, &answer, &error) == MTAW_OK)
            mtaw_answer_free(answer);
        options.rules = n % 2 == 0 ? nullptr : rules;
        options.placement = options.rules != nullptr ? nullptr : random() % 2 == 0 ? "cart" : "default";
        options.session_id = n % 3 == 0 ? nullptr : n % 3 == 1 ? "s-1" : "s-2";
    }
    options.placement = nullptr;
    options.types = nullptr;
    options.n_types = 0;
    if (mtaw_session_open(shop, &session, &error) == MTAW_OK) {
        for (const mtaw_id& id : ids) {
            mtaw_session_click(session, &id, 1, &error);
            if (mtaw_session_recommend(session, &options, &answer, &error) == MTAW_OK) mtaw_answer_free(answer);
        }
        mtaw_session_close(session);
    }
    mtaw_rules_close(rules);
    mtaw_filter_close(filter);
}

}  // namespace

int main() {
    std::string folder;
    std::mt19937 random(7);
    while (std::getline(std::cin, folder)) {
        int opened = 0;
        mtaw_error error;
        std::string message;
        for (const std::uint32_t flags :
             {0U, std::uint32_t{MTAW_NO_VERIFY}, std::uint32_t{MTAW_NO_VERIFY | MTAW_MAP}}) {
            const mtaw_open_options options{sizeof options, flags, nullptr};
            mtaw_recommender* shop = nullptr;
            const mtaw_status status = mtaw_open(folder.c_str(), &options, &shop, &error);
            if (status == MTAW_OK) {
                ++opened;
                call(shop, random);
            } else {
                message = std::string(mtaw_status_name(status)) + ": " + error.message;
            }
            mtaw_close(shop);
        }
        std::printf("%d %s\n", opened, message.c_str());
        std::fflush(stdout);
    }
}
