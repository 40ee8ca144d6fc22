#include "memory/current_session.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "memory/pair_terms.hpp"

namespace mtaw {
namespace {

double* sums_with(OwnEvidence& row, std::int32_t neighbor) {
    for (OwnEvidence::Pair& pair : row.pairs) {
        if (pair.neighbor == neighbor) return pair.sums;
    }
    row.pairs.push_back({neighbor, {}});
    return row.pairs.back().sums;
}

}  // namespace

void list_own_evidence(const std::int32_t* clicks, std::int64_t n_clicks, const OwnItems& own,
                       const MemorySettings& settings, bool once, std::vector<OwnEvidence>& rows) {
    const std::vector<std::uint8_t> first = first_clicks(clicks, n_clicks);
    if (rows.size() < static_cast<std::size_t>(own.count)) rows.resize(static_cast<std::size_t>(own.count));
    for (std::int64_t u = 0; u < own.count; ++u) {
        OwnEvidence& row = rows[static_cast<std::size_t>(u)];
        row.pairs.clear();
        std::fill_n(row.totals, kFixedKinds, 0.0);
        const auto add = [&](std::int32_t other, int kind, double value) {
            sums_with(row, other)[kind] += value;
            row.totals[kind] += value;
        };
        visit_session(
            own.list[u].item, clicks, n_clicks, first, settings, once,
            [&](std::int32_t other, std::int64_t distance) {
                add(other, distance > 0 ? kFwd : kBwd, 1.0 / static_cast<double>(std::abs(distance)));
                if (distance == 1) add(other, kNext, 1.0);
            },
            [&](std::int32_t other) { add(other, kSes, 1.0); });
    }
}

}  // namespace mtaw
