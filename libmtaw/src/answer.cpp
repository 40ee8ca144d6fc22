#include "answer.hpp"

namespace mtaw {

static_assert(static_cast<int>(Reason::Kind::session) == MTAW_IN_SESSION &&
              static_cast<int>(Reason::Kind::together) == MTAW_TOGETHER &&
              static_cast<int>(Reason::Kind::encoder) == MTAW_ENCODER);
static_assert(static_cast<int>(Reason::Rule::boosted) == MTAW_BOOSTED &&
              static_cast<int>(Reason::Rule::buried) == MTAW_BURIED &&
              static_cast<int>(Reason::Rule::pinned) == MTAW_PINNED);

void Answer::free(mtaw_answer* view) { delete reinterpret_cast<Answer*>(view); }

std::unique_ptr<Answer> Answer::of(const IdTable& ids, Arranged ranking, const std::vector<Reason>& reasons,
                                   std::vector<std::size_t> unknown, bool fallback, bool cut_short) {
    auto answer = std::make_unique<Answer>();
    answer->scores_ = std::move(ranking.scores);
    answer->unknown_ = std::move(unknown);
    for (const std::int32_t id : ranking.ids) ids.prefetch(id);
    std::size_t room = 0;
    const auto add_room = [&](std::int32_t id) { room += ids.text() ? ids.text_of(id).size() + 1 : 0; };
    std::size_t n_reason_items = 0;
    for (const std::int32_t id : ranking.ids) add_room(id);
    for (const Reason& reason : reasons) {
        for (const std::int32_t id : reason.items) add_room(id);
        n_reason_items += reason.items.size();
    }
    answer->text_.reserve(room);  // the texts stay where they are, and the items too
    answer->items_.reserve(ranking.ids.size());
    answer->reason_items_.reserve(n_reason_items);
    answer->reasons_.reserve(reasons.size());
    for (const std::int32_t id : ranking.ids) answer->items_.push_back(answer->external(ids, id));
    for (const Reason& reason : reasons) {
        const mtaw_id* const begin = answer->reason_items_.data() + answer->reason_items_.size();
        for (const std::int32_t id : reason.items) answer->reason_items_.push_back(answer->external(ids, id));
        answer->reasons_.push_back({static_cast<std::int32_t>(reason.kind), static_cast<std::int32_t>(reason.rule),
                                    reason.items.size(), begin});
    }
    mtaw_answer& view = answer->view_;
    view.n = answer->items_.size();
    view.items = answer->items_.data();
    view.scores = answer->scores_.data();
    view.n_unknown = answer->unknown_.size();
    view.unknown = answer->unknown_.data();
    view.reasons = answer->reasons_.empty() ? nullptr : answer->reasons_.data();
    view.fallback = fallback ? 1 : 0;
    view.completeness = cut_short ? MTAW_SHORT : MTAW_FULL;
    return answer;
}

void Answer::name_rule_set(const std::string& name) {
    rule_set_ = name;
    view_.rule_set = rule_set_.c_str();
}

// Its text is added to those of the answer, which have room for it.
mtaw_id Answer::external(const IdTable& ids, std::int32_t item) {
    if (!ids.text()) return {nullptr, ids.number_of(item)};
    const std::string_view text = ids.text_of(item);
    const char* const begin = text_.data() + text_.size();
    text_.append(text).push_back('\0');
    return {begin, static_cast<std::int64_t>(text.size())};
}

}  // namespace mtaw
