#include "memory/build.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>

#include "memory/row_builder.hpp"
#include "threads.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kItemsPerBlock = 64;  // items that a thread takes at a time
constexpr std::int64_t kMaxWindow = std::numeric_limits<std::int32_t>::max();

std::int64_t limited(std::int64_t count, std::int64_t limit) { return limit == 0 ? count : std::min(count, limit); }

void accumulate(std::vector<std::int64_t>& offsets) {
    for (std::size_t i = 1; i < offsets.size(); ++i) offsets[i] += offsets[i - 1];
}

}  // namespace

void check_settings(const MemorySettings& settings) {
    if (settings.window < 1) throw std::invalid_argument("window must be at least 1 click");
    if (settings.span < 1) throw std::invalid_argument("span must be at least 1 click");
    if (std::max(settings.window, settings.span) > kMaxWindow) {
        throw std::invalid_argument("window and span must be at most " + std::to_string(kMaxWindow) + " clicks");
    }
    if (!(settings.recency > 0 && std::isfinite(settings.recency))) {
        throw std::invalid_argument("recency must be a positive number of sessions");
    }
    if (settings.max_neighbors < 0) throw std::invalid_argument("max_neighbors must be at least 1, or 0 for all");
    if (settings.max_postings < 0) throw std::invalid_argument("max_postings must be at least 1, or 0 for all");
}

TableBuild::TableBuild(const PastSessions& sessions, const MemorySettings& settings, int threads,
                       const OlderTables* older, ItemRange items)
    : sessions_(sessions), settings_(settings), threads_(threads), older_(older), items_(items) {
    check_settings(settings);
    if (items.begin < 0 || items.begin > items.end || items.end > sessions.n_items) {
        throw std::invalid_argument("items " + std::to_string(items.begin) + " .. " + std::to_string(items.end) +
                                    " are no range of 0 .. " + std::to_string(sessions.n_items));
    }
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    index_ = index_clicks(sessions_);
    is_copied_ = find_copied_rows();
    row_offsets_.assign(static_cast<std::size_t>(sessions_.n_items) + 1, 0);
    post_offsets_.assign(static_cast<std::size_t>(sessions_.n_items) + 1, 0);
    for_each_item([&](RowBuilder& builder, std::int64_t item) {
        const auto index = static_cast<std::size_t>(item);
        row_offsets_[index + 1] =
            is_copied_[index] != 0
                ? older_->tables.row_offsets[item + 1] - older_->tables.row_offsets[item]
                : limited(builder.count_neighbors(static_cast<std::int32_t>(item)), settings_.max_neighbors);
        post_offsets_[index + 1] = limited(index_.sessions[index], settings_.max_postings);
    });
    accumulate(row_offsets_);
    accumulate(post_offsets_);
}

void TableBuild::write(const TablesOut& out) const {
    std::copy(row_offsets_.begin(), row_offsets_.end(), out.row_offsets);
    std::copy(post_offsets_.begin(), post_offsets_.end(), out.post_offsets);
    for_each_item([&](RowBuilder& builder, std::int64_t item) {
        if (is_copied_[static_cast<std::size_t>(item)] != 0) {
            copy_row(item, out);
        } else {
            builder.write_row(static_cast<std::int32_t>(item), out);
        }
        builder.write_counts(static_cast<std::int32_t>(item), out);
        builder.write_postings(static_cast<std::int32_t>(item), out);
    });
}

// Calls work(builder, item) for every item of the range once, on some thread.
template <typename Work>
void TableBuild::for_each_item(const Work& work) const {
    std::atomic<std::int64_t> next{items_.begin};
    fork_join(threads_, [&](int) {
        RowBuilder builder(sessions_, settings_, index_);
        while (true) {
            const std::int64_t begin = next.fetch_add(kItemsPerBlock);
            if (begin >= items_.end) return;
            const std::int64_t end = std::min(begin + kItemsPerBlock, items_.end);
            for (std::int64_t item = begin; item < end; ++item) work(builder, item);
        }
    });
}

std::vector<std::uint8_t> TableBuild::find_copied_rows() const {
    if (older_ == nullptr) return std::vector<std::uint8_t>(static_cast<std::size_t>(sessions_.n_items), 0);
    std::vector<std::uint8_t> is_copied(static_cast<std::size_t>(sessions_.n_items), 1);
    const TablesView& tables = older_->tables;
    const auto rebuild = [&](const std::int32_t* items, std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) is_copied[static_cast<std::size_t>(items[t])] = 0;
    };
    rebuild(tables.session_items, 0, tables.session_offsets[older_->expired]);
    rebuild(sessions_.items, sessions_.offsets[tables.n_sessions - older_->expired],
            sessions_.offsets[sessions_.count]);
    return is_copied;
}

// The same row with renumbered sessions.
void TableBuild::copy_row(std::int64_t item, const TablesOut& out) const {
    const TablesView& from = older_->tables;
    const auto expired = static_cast<std::int32_t>(older_->expired);
    const std::int64_t begin = from.row_offsets[item], to = out.row_offsets[item];
    const std::int64_t length = from.row_offsets[item + 1] - begin;
    std::copy_n(from.neighbors + begin, length, out.neighbors + to);
    std::copy_n(from.values + begin * kPairKinds, length * kPairKinds, out.values + to * kPairKinds);
    for (std::int64_t p = 0; p < length; ++p) out.latest[to + p] = from.latest[begin + p] - expired;
    std::copy_n(from.totals + item * kPairKinds, kPairKinds, out.totals + item * kPairKinds);
}

}  // namespace mtaw
