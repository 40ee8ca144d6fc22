#include "session.hpp"

#include <algorithm>

#include "failure.hpp"

namespace mtaw {

void Session::click(IdList clicks) {
    const std::lock_guard lock(mutex_);
    Clicks more = recommender_->clicks_of(clicks);
    // Both have room before anything changes.
    clicks_.known.reserve(clicks_.known.size() + more.known.size());
    clicks_.unknown.reserve(clicks_.unknown.size() + more.unknown.size());
    clicks_.known.insert(clicks_.known.end(), more.known.begin(), more.known.end());
    for (const std::size_t position : more.unknown) clicks_.unknown.push_back(n_clicks_ + position);
    n_clicks_ += clicks.count;
    const bool text = recommender_->bundle().ids().text();
    other_kind_ &= std::none_of(clicks.ids, clicks.ids + clicks.count,
                                [&](const mtaw_id& id) { return (id.text != nullptr) == text; });
}

std::unique_ptr<Answer> Session::recommend(const Request& request) {
    const std::lock_guard lock(mutex_);
    if (clicks_.known.empty() && n_clicks_ > 0 && other_kind_) {
        throw usage("the session has no id of the catalog's kind; convert them");
    }
    Recommender::check_types(n_clicks_, request);
    clicks_.types.clear();
    Recommender::add_types(clicks_, n_clicks_, request);
    const std::size_t known = clicks_.known.size();
    if (request.rules != nullptr || known == 0) return recommender_->recommend(clicks_, request);
    std::unique_ptr<SessionState> state = std::move(state_);  // a ranking that fails may leave it some of the clicks
    if (state == nullptr) {
        state = std::make_unique<SessionState>(recommender_->bundle().encoder());
        encoded_ = 0;
    }
    auto answer =
        recommender_->recommend_growing(*state, clicks_, static_cast<std::int64_t>(known - encoded_), request);
    state_ = std::move(state);
    encoded_ = known;
    return answer;
}

}  // namespace mtaw
