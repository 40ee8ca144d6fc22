#include "memory/click_index.hpp"

#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>

namespace mtaw {
namespace {

void check_offsets(const PastSessions& sessions) {
    constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
    for (std::int64_t s = 0; s < sessions.count; ++s) {
        if (sessions.offsets[s + 1] < sessions.offsets[s]) {
            throw std::invalid_argument("offsets must not descend, but session " + std::to_string(s) + " has " +
                                        std::to_string(sessions.offsets[s]) + " .. " +
                                        std::to_string(sessions.offsets[s + 1]));
        }
    }
    if (sessions.offsets[sessions.count] > kMax || sessions.count > kMax) {
        throw std::invalid_argument(std::to_string(sessions.offsets[sessions.count]) + " clicks in " +
                                    std::to_string(sessions.count) +
                                    " sessions are more than int32 can number: remove the oldest sessions");
    }
}

[[noreturn]] void refuse_item(std::int64_t session, std::int32_t item, std::int64_t n_items) {
    throw std::out_of_range("session " + std::to_string(session) + " holds item " + std::to_string(item) +
                            ", outside 0.." + std::to_string(n_items - 1));
}

}  // namespace

ClickIndex index_clicks(const PastSessions& sessions) {
    check_offsets(sessions);
    const auto n_items = static_cast<std::size_t>(sessions.n_items);
    const auto n_clicks = static_cast<std::size_t>(sessions.offsets[sessions.count]);
    ClickIndex index;
    index.offsets.assign(n_items + 1, 0);
    index.first.assign(n_clicks, 0);
    index.distinct.assign(static_cast<std::size_t>(sessions.count), 0);
    index.sessions.assign(n_items, 0);
    std::vector<std::int32_t> seen_in(n_items, -1);
    for (std::int64_t s = 0; s < sessions.count; ++s) {
        for (std::int64_t t = sessions.offsets[s]; t < sessions.offsets[s + 1]; ++t) {
            const std::int32_t item = sessions.items[t];
            if (item < 0 || item >= sessions.n_items) refuse_item(s, item, sessions.n_items);
            const auto index_of_item = static_cast<std::size_t>(item);
            ++index.offsets[index_of_item + 1];
            if (seen_in[index_of_item] == s) continue;
            seen_in[index_of_item] = static_cast<std::int32_t>(s);
            index.first[static_cast<std::size_t>(t)] = 1;
            ++index.distinct[static_cast<std::size_t>(s)];
            ++index.sessions[index_of_item];
        }
    }
    for (std::size_t i = 0; i < n_items; ++i) index.offsets[i + 1] += index.offsets[i];
    index.clicks.resize(n_clicks);
    std::vector<std::int64_t> next(index.offsets.begin(), index.offsets.end() - 1);
    for (std::int64_t s = 0; s < sessions.count; ++s) {
        for (std::int64_t t = sessions.offsets[s]; t < sessions.offsets[s + 1]; ++t) {
            std::int64_t& next_click = next[static_cast<std::size_t>(sessions.items[t])];
            index.clicks[static_cast<std::size_t>(next_click++)] = {static_cast<std::int32_t>(t),
                                                                    static_cast<std::int32_t>(s)};
        }
    }
    return index;
}

}  // namespace mtaw
