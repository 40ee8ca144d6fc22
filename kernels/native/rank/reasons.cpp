#include "rank/reasons.hpp"

#include <algorithm>
#include <optional>

#include "memory/co_clicked.hpp"

namespace mtaw {

std::vector<Reason> reasons_of(const SessionMemory* memory, const std::vector<std::int32_t>& clicks,
                               const Arranged& answer) {
    const std::vector<std::int32_t>& items = answer.ids;
    std::vector<std::int32_t> own;  // the latest first, each once
    for (auto click = clicks.rbegin(); click != clicks.rend(); ++click) {
        if (std::find(own.begin(), own.end(), *click) == own.end()) own.push_back(*click);
    }
    std::optional<CoClicked> co_clicked;
    if (memory != nullptr) co_clicked.emplace(memory->tables(), memory->delta());
    std::vector<Reason> reasons(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (std::find(own.begin(), own.end(), items[i]) != own.end()) {
            reasons[i].kind = Reason::Kind::session;
        } else if (co_clicked) {
            for (const std::size_t index : co_clicked->closest(items[i], own)) reasons[i].items.push_back(own[index]);
            if (!reasons[i].items.empty()) reasons[i].kind = Reason::Kind::together;
        }
        if (answer.boosts.empty()) continue;
        reasons[i].rule = answer.pinned[i] != 0  ? Reason::Rule::pinned
                          : answer.boosts[i] > 0 ? Reason::Rule::boosted
                          : answer.boosts[i] < 0 ? Reason::Rule::buried
                                                 : Reason::Rule::unchanged;
    }
    return reasons;
}

}  // namespace mtaw
