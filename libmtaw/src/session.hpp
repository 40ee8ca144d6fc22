// A session that grows click by click.
#pragma once

#include <memory>
#include <mutex>

#include "recommender.hpp"

namespace mtaw {

// Calls wait for each other.
class Session {
   public:
    explicit Session(std::shared_ptr<const Recommender> recommender) : recommender_(std::move(recommender)) {}

    const Recommender& recommender() const { return *recommender_; }
    void click(IdList clicks);
    std::unique_ptr<Answer> recommend(const Request& request);

   private:
    std::shared_ptr<const Recommender> recommender_;
    std::mutex mutex_;
    std::unique_ptr<SessionState> state_;  // null: the clicks are to be encoded from the first
    std::size_t encoded_ = 0;              // known clicks that the state has
    std::size_t n_clicks_ = 0;
    bool other_kind_ = true;  // whether no click is of the catalog's kind
    Clicks clicks_;
};

}  // namespace mtaw
