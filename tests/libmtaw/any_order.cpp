// Calls in any order from many threads on shared and own objects: any_order BUNDLE LOG THREADS CALLS. Every answer must
// be that of one thread; the sanitizers see the rest. Prints "ok".
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "mtaw.h"

namespace {

constexpr int kSessions = 24, kOptions = 5, kLongest = 9;
constexpr std::int64_t kAt = 1'764'150'000'000;
constexpr char kRules[] =
    R"({"filter": "price < 9", "boost": {"when": "brand == current.brand", "by": 0.5},
        "limit": {"per": "brand", "most": 3}, "pin": {"sku-5": 2}})";

[[noreturn]] void fail(const char* what, const mtaw_error& error) {
    std::fprintf(stderr, "%s: %s\n", what, error.message);
    std::exit(1);
}

struct Call {
    std::vector<std::string> texts;
    std::vector<mtaw_id> ids;

    explicit Call(int number) {
        std::mt19937 random(static_cast<unsigned>(number));
        for (unsigned m = random() % kLongest; m > 0; --m) texts.push_back("sku-" + std::to_string(random() % 95));
        for (const std::string& text : texts) ids.push_back({text.c_str(), -1});
    }
};

std::string text_of(mtaw_answer* answer) {
    std::string text = answer->fallback != 0 ? "popular" : "";
    for (std::size_t i = 0; i < answer->n; ++i) {
        char score[48];
        std::snprintf(score, sizeof score, "=%a ", static_cast<double>(answer->scores[i]));
        text += answer->items[i].text;
        text += score;
        for (std::size_t j = 0; answer->reasons != nullptr && j < answer->reasons[i].n; ++j)
            text += answer->reasons[i].items[j].text;
    }
    mtaw_answer_free(answer);
    return text;
}

struct Shop {
    mtaw_recommender* recommender = nullptr;
    mtaw_filter* filter = nullptr;
    mtaw_rules* rules = nullptr;

    explicit Shop(const char* bundle, std::uint32_t flags = 0) {
        mtaw_error error;
        mtaw_open_options options{sizeof options, flags, nullptr};
        const mtaw_id some[] = {MTAW_TEXT("sku-3"), MTAW_TEXT("sku-4"), MTAW_TEXT("nobody")};
        if (mtaw_open(bundle, &options, &recommender, &error) != MTAW_OK) fail("open", error);
        if (mtaw_filter_open(recommender, some, 3, nullptr, 0, &filter, &error) != MTAW_OK) fail("filter", error);
        if (mtaw_rules_open(recommender, kRules, sizeof kRules - 1, &rules, &error) != MTAW_OK) fail("rules", error);
    }
    ~Shop() {
        mtaw_close(recommender);
        mtaw_filter_close(filter);
        mtaw_rules_close(rules);
    }
    Shop(const Shop&) = delete;
    Shop& operator=(const Shop&) = delete;

    mtaw_options options(int number) const {
        mtaw_options made;
        mtaw_options_init(&made);
        made.k = 12;
        made.at = kAt;
        if (number % 2 == 1) made.filter = filter;
        if (number / 2 == 1) made.rules = rules;
        if (number == 4) {
            made.placement = "cart";
            made.session_id = "s-1";
        }
        made.reasons = number % 2;
        return made;
    }
};

class Threads {
   public:
    Threads(const char* bundle, const char* log, int calls) : bundle_(bundle), shop_(bundle), calls_(calls) {
        mtaw_error error;
        if (mtaw_log_open(log, MTAW_NO_SYNC, &log_, &error) != MTAW_OK) fail("log", error);
        if (mtaw_session_open(shop_.recommender, &shared_, &error) != MTAW_OK) fail("session", error);
        const Shop other(bundle);  // in shop_ the threads are the first to ask for the placement
        for (int i = 0; i < kSessions * kOptions; ++i) expected_.push_back(recommend(other, i));
    }
    ~Threads() {
        mtaw_session_close(shared_);
        mtaw_log_close(log_);
    }
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

    void run(unsigned seed) {
        std::mt19937 random(seed);
        for (int call = 0; call < calls_; ++call) {
            const int number = static_cast<int>(random() % (kSessions * kOptions));
            switch (random() % 8) {
                case 0: batch(number); break;
                case 1: similar(number); break;
                case 2: grow(number); break;
                case 3: share(number); break;
                case 4: wrong(); break;
                case 5: append(number); break;
                case 6:
                    if (random() % 8 == 0) reopen(number, random() % 2 == 0 ? MTAW_MAP : MTAW_NO_VERIFY);
                    break;
                default: check(recommend(shop_, number), number);
            }
        }
    }

   private:
    void check(const std::string& answer, int number) const {
        if (answer == expected_[static_cast<std::size_t>(number)]) return;
        std::fprintf(stderr, "call %d:\n%s\nnot\n%s\n", number, answer.c_str(),
                     expected_[static_cast<std::size_t>(number)].c_str());
        std::exit(1);
    }

    static std::string recommend(const Shop& shop, int number) {
        const Call call(number % kSessions);
        const mtaw_options options = shop.options(number / kSessions);
        mtaw_answer* answer = nullptr;
        mtaw_error error;
        if (mtaw_recommend(shop.recommender, call.ids.data(), call.ids.size(), &options, &answer, &error) != MTAW_OK)
            fail("recommend", error);
        return text_of(answer);
    }

    void batch(int number) const {
        std::vector<Call> calls;
        std::vector<mtaw_clicks> sessions;
        for (int i = 0; i < kSessions; ++i) calls.emplace_back(i);
        for (const Call& call : calls) sessions.push_back({call.ids.data(), call.ids.size()});
        const mtaw_options options = shop_.options(number / kSessions);
        mtaw_answer* answers[kSessions];
        mtaw_error error;
        if (mtaw_recommend_batch(shop_.recommender, sessions.data(), kSessions, &options, answers, &error) != MTAW_OK)
            fail("batch", error);
        for (int i = 0; i < kSessions; ++i) check(text_of(answers[i]), number / kSessions * kSessions + i);
    }

    void similar(int number) const {
        const std::string item = "sku-" + std::to_string(number % 90);
        mtaw_options options = shop_.options(number / kSessions);
        options.at = MTAW_NOW;  // similar items have neither a moment nor reasons
        options.reasons = 0;
        mtaw_answer* answer = nullptr;
        mtaw_error error;
        if (mtaw_similar(shop_.recommender, MTAW_TEXT(item.c_str()), number % 2, &options, &answer, &error) != MTAW_OK)
            fail("similar", error);
        mtaw_answer_free(answer);
    }

    // A session that ends after its recommender, if that is its own.
    void grow(int number) const {
        const Call call(number % kSessions);
        mtaw_error error;
        mtaw_session* session = nullptr;
        mtaw_answer* answer = nullptr;
        const mtaw_options options = shop_.options(number / kSessions);
        if (mtaw_session_open(shop_.recommender, &session, &error) != MTAW_OK) fail("session", error);
        for (const mtaw_id& id : call.ids) {
            if (mtaw_session_click(session, &id, 1, &error) != MTAW_OK) fail("click", error);
            if (mtaw_session_recommend(session, &options, &answer, &error) != MTAW_OK) fail("grow", error);
            if (&id == &call.ids.back())
                check(text_of(answer), number);
            else
                mtaw_answer_free(answer);
        }
        mtaw_session_close(session);
    }

    void share(int number) const {
        const Call call(number % kSessions);
        mtaw_error error;
        mtaw_answer* answer = nullptr;
        const mtaw_options options = shop_.options(number / kSessions);
        if (mtaw_session_click(shared_, call.ids.data(), call.ids.size() % 3, &error) != MTAW_OK)
            fail("shared click", error);
        if (mtaw_session_recommend(shared_, &options, &answer, &error) != MTAW_OK) fail("shared", error);
        mtaw_answer_free(answer);
    }

    void wrong() const {
        mtaw_error error;
        mtaw_answer* answer = nullptr;
        mtaw_rules* rules = nullptr;
        mtaw_recommender* none = nullptr;
        const mtaw_id number = MTAW_NUMBER(5);
        const char* const types[] = {"view", nullptr};
        mtaw_options typed = shop_.options(0);
        typed.types = types;
        typed.n_types = 2;
        if (mtaw_recommend(shop_.recommender, &number, 1, &typed, &answer, &error) != MTAW_USAGE)
            fail("too many types", error);
        if (mtaw_recommend(shop_.recommender, &number, 1, nullptr, &answer, &error) != MTAW_USAGE)
            fail("the other kind", error);
        if (mtaw_rules_open(shop_.recommender, "{\"filter\": 1}", 13, &rules, &error) != MTAW_USAGE)
            fail("wrong rules", error);
        if (mtaw_open("/nowhere", nullptr, &none, &error) != MTAW_BUNDLE) fail("nowhere", error);
    }

    void append(int number) const {
        mtaw_error error;
        char position[MTAW_POSITION_SIZE];
        const std::string session = "s-" + std::to_string(number);
        const mtaw_event event{session.c_str(), MTAW_NUMBER(number), kAt, "view", nullptr, nullptr, 0};
        if (mtaw_log_append(log_, &event, 1, position, &error) != MTAW_OK) fail("append", error);
        if (number == 0 && mtaw_log_forget(log_, "s-0", position, &error) != MTAW_OK) fail("forget", error);
    }

    void reopen(int number, std::uint32_t flags) const {
        mtaw_error error;
        mtaw_session* session = nullptr;
        mtaw_info info;
        info.struct_size = sizeof info;
        {
            const Shop other(bundle_, flags);
            check(recommend(other, number), number);
            if (mtaw_describe(other.recommender, &info, &error) != MTAW_OK) fail("describe", error);
            if (mtaw_session_open(other.recommender, &session, &error) != MTAW_OK) fail("session", error);
        }
        const Call call(number % kSessions);
        mtaw_answer* answer = nullptr;
        if (mtaw_session_click(session, call.ids.data(), call.ids.size(), &error) != MTAW_OK) fail("click", error);
        if (mtaw_session_recommend(session, nullptr, &answer, &error) != MTAW_OK)
            fail("a session without its recommender", error);
        mtaw_answer_free(answer);
        mtaw_session_close(session);
    }

    const char* bundle_;
    Shop shop_;
    int calls_;
    mtaw_log* log_ = nullptr;
    mtaw_session* shared_ = nullptr;
    std::vector<std::string> expected_;
};

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) return 2;
    Threads all(arguments[1], arguments[2], std::atoi(arguments[4]));
    std::vector<std::thread> threads;
    for (int t = 0; t < std::atoi(arguments[3]); ++t)
        threads.emplace_back([&all, t] { all.run(static_cast<unsigned>(t)); });
    for (std::thread& thread : threads) thread.join();
    std::puts("ok");
}
