#include "rank/batch.hpp"

#include <algorithm>

namespace mtaw {
namespace {

constexpr std::int64_t kMaxSessions = 1024;  // that are ranked together

}  // namespace

Stages rank_batch(const Engine& engine, const ItemClicks* clicks, const PackedSessions& sessions, std::int64_t k,
                  const Conditions& conditions, std::int32_t* ids, float* scores, EngineScratch& scratch) {
    if (clicks == nullptr && sessions.count <= kMaxSessions) {
        return engine.rank(sessions, k, conditions, ids, scores, scratch);
    }
    Stages stages;
    std::vector<std::int32_t> popular_ids, part_ids;
    std::vector<float> popular_scores, part_scores;
    for (std::int64_t begin = 0; begin < sessions.count; begin += kMaxSessions) {
        std::vector<std::int64_t> rows;
        for (std::int64_t row = begin; row < std::min(begin + kMaxSessions, sessions.count); ++row) {
            if (sessions.offsets[row] < sessions.offsets[row + 1]) {
                rows.push_back(row);
                continue;
            }
            if (popular_ids.empty()) {
                popular_ids.resize(static_cast<std::size_t>(k));
                popular_scores.resize(popular_ids.size());
                rank_popular(engine, *clicks, k, conditions, popular_ids.data(), popular_scores.data());
            }
            std::copy(popular_ids.begin(), popular_ids.end(), ids + row * k);
            std::copy(popular_scores.begin(), popular_scores.end(), scores + row * k);
        }
        if (rows.empty()) continue;
        const SelectedSessions selected(sessions, rows, engine.n_context());
        part_ids.resize(rows.size() * static_cast<std::size_t>(k));
        part_scores.resize(part_ids.size());
        stages += engine.rank(selected.sessions(), k, conditions, part_ids.data(), part_scores.data(), scratch);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const auto from = static_cast<std::int64_t>(i) * k;
            std::copy_n(part_ids.data() + from, k, ids + rows[i] * k);
            std::copy_n(part_scores.data() + from, k, scores + rows[i] * k);
        }
    }
    return stages;
}

SelectedSessions::SelectedSessions(const PackedSessions& from, const std::vector<std::int64_t>& rows,
                                   std::int64_t n_context)
    : sessions_(from) {
    if (static_cast<std::int64_t>(rows.size()) == from.count) return;  // the rows ascend
    offsets_.push_back(0);
    for (const std::int64_t row : rows) {
        const std::int64_t begin = from.offsets[row], end = from.offsets[row + 1];
        clicks_.insert(clicks_.end(), from.clicks + begin, from.clicks + end);
        offsets_.push_back(static_cast<std::int64_t>(clicks_.size()));
        if (from.times != nullptr) times_.insert(times_.end(), from.times + begin, from.times + end);
        if (from.types != nullptr) types_.insert(types_.end(), from.types + begin, from.types + end);
        if (from.context != nullptr) {
            context_.insert(context_.end(), from.context + begin * n_context, from.context + end * n_context);
        }
    }
    sessions_ = {clicks_.data(), offsets_.data(), static_cast<std::int64_t>(rows.size())};
    if (from.times != nullptr) sessions_.times = times_.data();
    if (from.types != nullptr) sessions_.types = types_.data();
    if (from.context != nullptr) sessions_.context = context_.data();
}

}  // namespace mtaw
