// Rankings of a bundle, and the working memory of the threads that ask for them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "answer.hpp"
#include "bundle/bundle.hpp"
#include "placements.hpp"
#include "rank/engine.hpp"
#include "rank/item_lists.hpp"
#include "rules.hpp"

namespace mtaw {

// The items that a prepared filter allows.
struct Filter {
    std::string version;  // of its bundle
    std::vector<std::uint8_t> bits;
};

// The options of a call, checked.
struct Request {
    std::int64_t k = 20;
    std::int64_t at = 0;
    bool exclude_seen = false;
    std::vector<std::int32_t> excluded;  // ascending
    std::optional<std::vector<std::uint8_t>> allowed;
    std::vector<std::uint16_t> context;
    const Rules* rules = nullptr;
    const std::string* rule_set = nullptr;  // its name, where the rules are a placement's
    bool reasons = false;
    std::optional<std::size_t> n_types;  // as many as the call has clicks
    std::vector<std::uint8_t> types;     // of all these clicks; empty if the ranker reads none

    Conditions conditions() const;
};

// The known clicks of a session, oldest first, and the positions of the others among all.
struct Clicks {
    std::vector<std::int32_t> known;
    std::vector<std::size_t> unknown;
    std::vector<std::uint8_t> types;  // of the known ones; empty: unknown
};

// Immutable, except for its working memory: any number of threads may use it at once.
class Recommender {
   public:
    explicit Recommender(std::shared_ptr<const Bundle> bundle);

    const Bundle& bundle() const { return *bundle_; }
    const std::shared_ptr<const Bundle>& shared_bundle() const { return bundle_; }

    // Throws Failure on a wrong option.
    Request request_of(const mtaw_options* caller_options) const;
    std::vector<std::uint8_t> filter_bits(IdList exclude, IdList allow) const;
    Clicks clicks_of(IdList session) const;
    // Gives clicks, `count` with the unknown ones, their types: those of the request from `first` on.
    static void add_types(Clicks& clicks, std::size_t count, const Request& request, std::size_t first = 0);
    // Throws Failure unless the request has a type for each of `count` clicks, or none.
    static void check_types(std::size_t count, const Request& request);
    // Throws Failure if there are ids, and all are of the other kind.
    void refuse_other_kind(IdList session) const;

    std::unique_ptr<Answer> recommend(Clicks clicks, const Request& request) const;
    std::vector<std::unique_ptr<Answer>> recommend_batch(std::vector<Clicks> sessions, const Request& request) const;
    // The session whose encoder state is kept; the last `n_new` of its known clicks are new to it.
    std::unique_ptr<Answer> recommend_growing(SessionState& state, const Clicks& clicks, std::int64_t n_new,
                                              const Request& request) const;
    std::unique_ptr<Answer> similar(std::int32_t item, bool by_sessions, Request request) const;

   private:
    // A scratch of the pool, given back at the end of a call.
    class Borrowed {
       public:
        explicit Borrowed(const Recommender& from);
        ~Borrowed();
        Borrowed(const Borrowed&) = delete;
        Borrowed& operator=(const Borrowed&) = delete;
        EngineScratch& operator*() const { return *scratch_; }

       private:
        const Recommender& from_;
        std::unique_ptr<EngineScratch> scratch_;
    };

    ItemClicks item_clicks() const { return {bundle_->most_clicked(), bundle_->popularity()}; }
    // Writes the first `depth` items, padded.
    using Rank =
        std::function<void(std::int64_t depth, const Conditions& conditions, std::int32_t* ids, float* scores)>;
    std::unique_ptr<Answer> answer_with(Clicks clicks, const Request& request, const Rank& rank) const;
    std::unique_ptr<Answer> answer_of(Clicks clicks, const Request& request, Arranged ranking) const;

    std::shared_ptr<const Bundle> bundle_;
    Placements placements_;
    Engine engine_;
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<EngineScratch>> scratches_;
};

}  // namespace mtaw
