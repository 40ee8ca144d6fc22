#include "rank/engine.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>

namespace mtaw {
namespace {

using Clock = std::chrono::steady_clock;

std::int64_t nanoseconds(Clock::duration time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

// Each session's own list of items it must not find, ascending.
void list_excluded(const PackedSessions& sessions, const Conditions& conditions, EngineScratch& scratch) {
    std::vector<std::int32_t>& ids = scratch.excluded;
    ids.clear();
    scratch.excluded_offsets.assign(1, 0);
    for (std::int64_t b = 0; b < sessions.count; ++b) {
        const auto begin = static_cast<std::ptrdiff_t>(ids.size());
        ids.insert(ids.end(), conditions.excluded, conditions.excluded + conditions.n_excluded);
        if (conditions.exclude_seen) {
            ids.insert(ids.end(), sessions.clicks + sessions.offsets[b], sessions.clicks + sessions.offsets[b + 1]);
            std::sort(ids.begin() + begin, ids.end());
        }
        scratch.excluded_offsets.push_back(static_cast<std::int64_t>(ids.size()));
    }
}

// The ranker's features are those that the other parts give.
void check_features(const MemoryParts& parts) {
    if (parts.memory == nullptr) {
        if (parts.trends == nullptr && parts.content == nullptr) return;
        throw std::invalid_argument("trends and content need a session memory; give it too");
    }
    MemoryRequest features_request{nullptr, 0};
    features_request.trends = parts.trends;
    features_request.content = parts.content;
    if (parts.ranker->has_trends() != (parts.trends != nullptr) ||
        parts.ranker->n_side() != SessionMemory::n_side(features_request)) {
        throw std::invalid_argument(
            "the ranker reads other features of trends, context or content than there are; make "
            "all from one bundle");
    }
    if (parts.trends != nullptr && parts.trends->capacity() < parts.memory->n_catalog()) {
        throw std::invalid_argument("the trends have capacity for " + std::to_string(parts.trends->capacity()) +
                                    " items, the memory for " + std::to_string(parts.memory->n_catalog()));
    }
}

// A list that ends at the first -1.
void keep_list(const std::int32_t* ids, const float* scores, std::int64_t length, std::vector<std::int32_t>& kept_ids,
               std::vector<float>& kept_scores) {
    kept_ids.assign(ids, std::find(ids, ids + length, -1));
    kept_scores.assign(scores, scores + kept_ids.size());
}

}  // namespace

Engine::Engine(const Encoder* encoder, const Segments& segments, double scale, const MemoryParts& memory)
    : encoder_(encoder), segments_(segments), scale_(scale), memory_(memory) {
    if (encoder != nullptr && (encoder->n_items() != segments_.n_items() || encoder->d() != segments_.d())) {
        throw std::invalid_argument("the encoder is for [" + std::to_string(encoder->n_items()) + ", " +
                                    std::to_string(encoder->d()) + "] items, the index for [" +
                                    std::to_string(segments_.n_items()) + ", " + std::to_string(segments_.d()) +
                                    "]; make both from one bundle");
    }
    if ((memory.memory == nullptr) != (memory.ranker == nullptr)) {
        throw std::invalid_argument(
            "a session memory needs a ranker, and a ranker needs a memory; give both or neither");
    }
    if (memory.memory != nullptr && memory.memory->n_catalog() < segments_.n_items()) {
        throw std::invalid_argument("the memory has capacity for " + std::to_string(memory.memory->n_catalog()) +
                                    " items, the index has " + std::to_string(segments_.n_items()) +
                                    "; make both from one bundle");
    }
    check_features(memory);
    if (!(scale > 0)) throw std::invalid_argument("scale must be positive, not " + std::to_string(scale));
}

Stages Engine::rank(const PackedSessions& sessions, std::int64_t k, const Conditions& conditions, std::int32_t* ids,
                    float* scores, EngineScratch& scratch) const {
    const Clock::time_point start = Clock::now();
    const std::int64_t d = segments_.d();
    scratch.queries.resize(static_cast<std::size_t>(sessions.count * d));
    if (conditions.other != nullptr && conditions.other->encode) {
        conditions.other->encode(sessions, scratch.queries.data());
    } else {
        const Encoder& encoder = checked_encoder();
        for (std::int64_t b = 0; b < sessions.count; ++b) {
            const std::int64_t begin = sessions.offsets[b];
            encoder.encode(sessions.clicks + begin, sessions.offsets[b + 1] - begin, scratch.queries.data() + b * d,
                           scratch.encode);
        }
    }
    Stages stages;
    stages.encode_ns = nanoseconds(Clock::now() - start);
    retrieve(sessions, k, conditions, ids, scores, scratch, stages);
    return stages;
}

Stages Engine::rank_growing(SessionState& state, const std::int32_t* clicks, std::int64_t n_clicks, std::int64_t n_new,
                            std::int64_t k, const Conditions& conditions, std::int32_t* ids, float* scores,
                            EngineScratch& scratch, const std::uint8_t* types) const {
    const Clock::time_point start = Clock::now();
    scratch.queries.resize(static_cast<std::size_t>(segments_.d()));
    state.advance(checked_encoder(), clicks, n_clicks, n_new, scratch.queries.data(), scratch.encode);
    Stages stages;
    stages.encode_ns = nanoseconds(Clock::now() - start);
    const std::int64_t offsets[] = {0, n_clicks};
    PackedSessions session{clicks, offsets, 1};
    session.types = types;
    retrieve(session, k, conditions, ids, scores, scratch, stages);
    return stages;
}

const Encoder& Engine::checked_encoder() const {
    if (encoder_ == nullptr) throw std::invalid_argument("this engine has no encoder; give the call one");
    return *encoder_;
}

void Engine::retrieve(const PackedSessions& sessions, std::int64_t k, const Conditions& conditions, std::int32_t* ids,
                      float* scores, EngineScratch& scratch, Stages& stages) const {
    const Clock::time_point start = Clock::now();
    ScanRequest request{scratch.queries.data(), sessions.count, k, scale_};
    request.allowed = segments_.allowed_present(conditions.allowed, scratch.segments);
    if (conditions.n_excluded > 0 || conditions.exclude_seen) {
        list_excluded(sessions, conditions, scratch);
        request.excluded = scratch.excluded.data();
        request.excluded_offsets = scratch.excluded_offsets.data();
    }
    const auto search = [&](std::int32_t* found_ids, float* found_scores) {
        if (conditions.other != nullptr && conditions.other->search) {
            conditions.other->search(request, found_ids, found_scores);
        } else {
            segments_.search(request, found_ids, found_scores, scratch.segments);
        }
    };
    if (!has_memory()) {
        search(ids, scores);
        if (conditions.trace != nullptr) keep_list(ids, scores, k, conditions.trace->ids, conditions.trace->scores);
        stages.retrieve_ns = nanoseconds(Clock::now() - start);
        return;
    }
    // The first k of a ranking by the query hold all that a list of k can need behind the candidates.
    const std::int64_t width = std::max(k, memory_.memory->settings().dense);
    request.k = width;
    scratch.dense.resize(static_cast<std::size_t>(sessions.count * width));
    scratch.logits.resize(scratch.dense.size());
    search(scratch.dense.data(), scratch.logits.data());
    const Clock::time_point search_end = Clock::now();
    stages.retrieve_ns = nanoseconds(search_end - start);
    rank_with_memory(sessions, k, width, conditions, request, ids, scores, scratch);
    if (RankingTrace* const trace = conditions.trace) {
        keep_list(ids, scores, k, trace->ids, trace->scores);
        keep_list(scratch.dense.data(), scratch.logits.data(), width, trace->dense, trace->logits);
    }
    stages.memory_ns = nanoseconds(Clock::now() - search_end);
}

void Engine::rank_with_memory(const PackedSessions& sessions, std::int64_t k, std::int64_t width,
                              const Conditions& conditions, const ScanRequest& search, std::int32_t* ids, float* scores,
                              EngineScratch& scratch) const {
    const ItemVectors vectors = segments_.vectors(scale_);
    for (std::int64_t b = 0; b < sessions.count; ++b) {
        const std::int64_t begin = sessions.offsets[b];
        MemoryRequest request{sessions.clicks + begin, sessions.offsets[b + 1] - begin};
        request.query = scratch.queries.data() + b * vectors.d;
        request.dense = scratch.dense.data() + b * width;
        request.logits = scratch.logits.data() + b * width;
        request.n_dense = width;
        request.allowed = search.allowed;
        request.always_ranked = conditions.always_ranked;
        request.n_items = segments_.n_items();
        if (search.excluded != nullptr) {
            request.excluded = search.excluded + search.excluded_offsets[b];
            request.n_excluded = search.excluded_offsets[b + 1] - search.excluded_offsets[b];
        }
        request.n_types = memory_.ranker->n_types();
        if (sessions.types != nullptr) request.types = sessions.types + begin;
        if (conditions.trace != nullptr) request.trace = &conditions.trace->memory;
        if (memory_.trends != nullptr) add_moment(sessions, b, conditions, request);
        memory_.memory->rank(request, &vectors, *memory_.ranker, k, ids + b * k, scores + b * k, scratch.memory);
    }
}

void Engine::add_moment(const PackedSessions& sessions, std::int64_t b, const Conditions& conditions,
                        MemoryRequest& request) const {
    const std::int64_t last = sessions.offsets[b + 1] - 1;
    request.trends = memory_.trends;
    request.content = memory_.content;
    request.now = conditions.now;
    request.context = conditions.context;
    if (sessions.times != nullptr) {
        request.now = sessions.times[last];
        request.times = sessions.times + sessions.offsets[b];
    }
    if (sessions.context != nullptr) request.context = sessions.context + last * n_context();
}

void check_conditions(const Conditions& conditions, std::optional<std::int64_t> n_allowed, std::int64_t n_items) {
    if (!std::is_sorted(conditions.excluded, conditions.excluded + conditions.n_excluded)) {
        throw std::invalid_argument("excluded ids must ascend");
    }
    if (n_allowed && *n_allowed != (n_items + 7) / 8) {
        throw std::invalid_argument("allowed has " + std::to_string(*n_allowed) + " bytes, not one bit for " +
                                    std::to_string(n_items) + " items");
    }
}

void check_sessions(const PackedSessions& sessions, std::int64_t n_clicks, bool with_empty) {
    const std::int64_t count = sessions.count;
    bool fits = count >= 0 && sessions.offsets[0] == 0 && sessions.offsets[count] == n_clicks;
    for (std::int64_t b = 0; fits && b < count; ++b) {
        const std::int64_t n = sessions.offsets[b + 1] - sessions.offsets[b];
        fits = n > 0 || (with_empty && n == 0);
    }
    if (!fits) {
        throw std::invalid_argument("offsets must rise from 0 to the number of items, with no empty session");
    }
}

void check_growing(std::int64_t n_clicks, std::int64_t n_new) {
    if (n_clicks < 1 || n_new < 0 || n_new > n_clicks) {
        throw std::invalid_argument("a growing session needs at least one click, and 0..all of its clicks can be new");
    }
}

}  // namespace mtaw
