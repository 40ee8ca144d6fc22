#include "memory/query.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "compiler.hpp"
#include "kth_largest.hpp"

namespace mtaw {
namespace {

constexpr float kMinWeight = 1e-30F;  // far from underflow: a session with a weight never looks untouched
constexpr std::int64_t kRowsAhead = 8;

std::int64_t weigh_sessions(const MergedTables& memory, const OwnItems& own, const CurrentSession& current,
                            std::int64_t n_sessions, const MemoryKernels& kernels, SimilarScratch& scratch) {
    float rarity[kMaxOwn + kPadding];
    for (std::int64_t u = 0; u < own.count; ++u) {
        rarity[u] = static_cast<float>(n_sessions + 1) / static_cast<float>(own.counts[u][kSessions] + 1);
    }
    std::fill(rarity + own.count, rarity + own.count + kPadding, 1.0F);
    kernels.log(rarity, own.count);
    std::int64_t touched = 0;
    for (std::int64_t u = 0; u < own.count; ++u) {
        const std::int32_t item = own.list[u].item;
        const float weight = session_decay(own.list[u].back) * rarity[u];
        if (!(weight >= kMinWeight)) continue;
        const Postings postings = memory.postings(item);
        const auto add_weight = [&](std::int32_t session) {
            float& sum = scratch.weights[session];
            scratch.touched[touched] = session;
            touched += sum == 0 ? 1 : 0;
            sum += weight;
        };
        if (memory.has_gaps()) {
            for (std::int64_t p = 0; p < postings.n_base; ++p) {
                if (!memory.is_dropped(postings.base[p])) add_weight(postings.base[p]);
            }
        } else {
            for (std::int64_t p = 0; p < postings.n_base; ++p) add_weight(postings.base[p]);
        }
        const auto first_delta_id = static_cast<std::int32_t>(memory.tables().n_sessions);
        for (std::int64_t p = 0; p < postings.n_delta; ++p) {
            if (postings.delta[p] != current.slot) add_weight(first_delta_id + postings.delta[p]);
        }
    }
    return touched;
}

// The heaviest sessions into `chosen` and `kept`, in the order in which they were touched; how many.
std::int64_t choose_sessions(const MergedTables& memory, std::int64_t max_sessions, std::int64_t touched,
                             const MemoryKernels& kernels, SimilarScratch& scratch) {
    for (std::int64_t i = 0; i < touched; ++i) {
        float& weight = scratch.weights[scratch.touched[i]];
        scratch.keys[i] = std::bit_cast<std::int32_t>(weight);
        weight = 0;
    }
    // The later session is the better one: numbers count downwards.
    const auto reversed_number = [&](std::int32_t session) {
        return static_cast<std::int32_t>(-memory.number(session));
    };
    KeyCut cut{0};
    if (touched > max_sessions) {
        const auto reversed_number_of = [&](std::int32_t i) { return reversed_number(scratch.touched[i]); };
        cut = cut_of(kernels, scratch.keys, touched, max_sessions, 0, reversed_number_of, scratch.ties);
    }
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < touched && count < max_sessions; ++i) {
        const std::int32_t key = scratch.keys[i], session = scratch.touched[i];
        scratch.chosen[count] = session;
        scratch.chosen_weights[count] = std::bit_cast<float>(key);
        count += key > cut.lowest || (key == cut.lowest && reversed_number(session) <= cut.last) ? 1 : 0;
    }
    return count;
}

}  // namespace

void add_similar_sessions(const MergedTables& memory, const OwnItems& own, const CurrentSession& current,
                          std::int64_t max_sessions, const MemoryKernels& kernels, SimilarScratch& scratch, Pool& pool,
                          float* largest) {
    const std::int64_t n_sessions = memory.n_sessions() - (current.found() ? 1 : 0);
    const std::int64_t touched = weigh_sessions(memory, own, current, n_sessions, kernels, scratch);
    const std::int64_t count = choose_sessions(memory, max_sessions, touched, kernels, scratch);
    const float span = 0.02F * static_cast<float>(n_sessions);
    for (std::int64_t i = 0; i < count; ++i) memory.prefetch_session(scratch.chosen[i]);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t number = current.number_without(memory.number(scratch.chosen[i]));
        scratch.recency[i] = -static_cast<float>(n_sessions - 1 - number) / span;
    }
    std::fill(scratch.recency + count, scratch.recency + count + kPadding, 0.0F);
    kernels.exp(scratch.recency, count);
    const auto prefetch = [&](std::int64_t i) { MTAW_PREFETCH(memory.clicks(scratch.chosen[i]).clicks); };
    for (std::int64_t i = 0; i < std::min(kRowsAhead, count); ++i) prefetch(i);
    std::fill(largest, largest + kSignalLanes, 0.0F);
    for (std::int64_t i = 0; i < count; ++i) {
        if (i + kRowsAhead < count) prefetch(i + kRowsAhead);
        kernels.add_session(memory.counting_clicks(scratch.chosen[i], scratch.firsts), own.count,
                            scratch.chosen_weights[i], scratch.chosen_weights[i] * scratch.recency[i], pool,
                            scratch.slots, largest);
    }
}

}  // namespace mtaw
