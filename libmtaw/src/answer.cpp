#include "answer.hpp"

#include <algorithm>

namespace mtaw {

void Ranking::trim() {
    const auto count = static_cast<std::size_t>(std::find(ids.begin(), ids.end(), -1) - ids.begin());
    ids.resize(count);
    scores.resize(count);
}

void Answer::free(mtaw_answer* view) { delete reinterpret_cast<Answer*>(view); }

std::unique_ptr<Answer> Answer::of(const Ids& ids, Ranking ranking, std::vector<std::size_t> unknown, bool fallback, bool cut_short) {
    auto answer = std::make_unique<Answer>();
    answer->scores_ = std::move(ranking.scores);
    answer->unknown_ = std::move(unknown);
    const IdTable& table = ids.table();
    for (const std::int32_t id : ranking.ids) table.prefetch(id);
    std::size_t room = 0;
    for (const std::int32_t id : ranking.ids) room += ids.text() ? table.text_of(id).size() + 1 : 0;
    answer->text_.reserve(room);  // the texts stay where they are
    answer->items_.reserve(ranking.ids.size());
    for (const std::int32_t id : ranking.ids) {
        if (!ids.text()) {
            answer->items_.push_back({nullptr, table.number_of(id)});
            continue;
        }
        const std::string_view text = table.text_of(id);
        const char* const begin = answer->text_.data() + answer->text_.size();
        answer->text_.append(text).push_back('\0');
        answer->items_.push_back({begin, static_cast<std::int64_t>(text.size())});
    }
    mtaw_answer& view = answer->view_;
    view.n = answer->items_.size();
    view.items = answer->items_.data();
    view.scores = answer->scores_.data();
    view.n_unknown = answer->unknown_.size();
    view.unknown = answer->unknown_.data();
    view.fallback = fallback ? 1 : 0;
    view.completeness = cut_short ? MTAW_SHORT : MTAW_FULL;
    return answer;
}

}  // namespace mtaw
