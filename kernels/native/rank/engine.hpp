// Sessions in, ranked items out: encode, scan, top-K, and the session memory if there is one, on the calling thread
// and without Python.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "encode/encoder.hpp"
#include "encode/session.hpp"
#include "rank/segments.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"

namespace mtaw {

struct PackedSessions;

// What another encoder or another index does for a call; an empty function leaves the stage to the native one.
struct OtherStages {
    // Writes the query vectors float32[B, d], each of length 1 or 0.
    std::function<void(const PackedSessions& sessions, float* queries)> encode;
    // Writes ids and scores as Segments::search. It knows itself which items are allowed.
    std::function<void(const ScanRequest& request, std::int32_t* ids, float* scores)> search;
};

// What one session's ranking went through, for explanations. With a memory also the query's dense list.
struct RankingTrace {
    QueryTrace memory;
    std::vector<std::int32_t> ids, dense;
    std::vector<float> scores, logits;
};

// Which items may be found, all conditions together, and the moment of the request.
struct Conditions {
    const std::uint8_t* allowed = nullptr;   // bit i % 8 of byte i / 8, ceil(N / 8) bytes; null = all
    const std::int32_t* excluded = nullptr;  // ascending ids that no session may find: a short list
    std::int64_t n_excluded = 0;
    bool exclude_seen = false;  // nor may a session find its own clicks
    std::int64_t now = 0;       // ms since 1970, of sessions without times; only an engine with trends reads it
    const std::uint16_t* context = nullptr;       // as MemoryRequest, of sessions without context
    const std::uint8_t* always_ranked = nullptr;  // as MemoryRequest
    const OtherStages* other = nullptr;
    RankingTrace* trace = nullptr;  // of a single session
};

// B sessions of internal ids, packed: session b is clicks[offsets[b] .. offsets[b + 1]), at least one click each.
struct PackedSessions {
    const std::int32_t* clicks;
    const std::int64_t* offsets;          // int64[B + 1]
    std::int64_t count;                   // B
    const std::int64_t* times = nullptr;  // of the clicks: a session is ranked right after its last one; null: unknown
    const std::uint16_t* context = nullptr;  // [clicks, columns], of the clicks' visits; null: unknown
    const std::uint8_t* types = nullptr;     // of the clicks, as MemoryRequest; null: unknown
};

// How long the stages of one call took.
struct Stages {
    std::int64_t encode_ns = 0;
    std::int64_t retrieve_ns = 0;
    std::int64_t memory_ns = 0;  // candidates, features and ranker; 0 without a memory

    Stages& operator+=(const Stages& other) {
        encode_ns += other.encode_ns;
        retrieve_ns += other.retrieve_ns;
        memory_ns += other.memory_ns;
        return *this;
    }
};

// One thread's working memory: made once, enlarged as calls need it.
struct EngineScratch {
    EncodeScratch encode;
    SegmentScratch segments;
    std::vector<float> queries;
    std::vector<std::int32_t> excluded;
    std::vector<std::int64_t> excluded_offsets;
    std::vector<std::int32_t> dense;
    std::vector<float> logits;
    MemoryScratch memory;
};

// What ranks by more than the query vector: a memory and its ranker, or neither; trends if the ranker reads them.
struct MemoryParts {
    const SessionMemory* memory = nullptr;
    const RankerNet* ranker = nullptr;
    const Trends* trends = nullptr;
    const ItemContent* content = nullptr;  // what the ranker reads of the items; with trends alone
};

// Immutable: any number of threads may call it at once, each with a scratch of its own. Its parts must be of one
// catalog and outlive it.
//
// Both write ids int32[B, k] and scores float32[B, k], best first, padded with -1 / -infinity, as Scanner::search of
// Encoder::encode does, or with a memory as SessionMemory::rank of what these give. What they throw, these throw.
class Engine {
   public:
    // encoder: null if every call brings another. segments: without a scanner, every call brings another index. With an
    // update the encoder knows the added items too, and the memory has room for them. scale: the factor on the cosine
    // that makes a logit. Throws std::invalid_argument if encoder, segments, memory and trends differ in catalog or
    // dimensions, ranker and trends in features, or scale is not positive.
    Engine(const Encoder* encoder, const Segments& segments, double scale, const MemoryParts& memory = {});
    Engine(const Encoder& encoder, const Scanner& scanner, double scale, const MemoryParts& memory = {},
           const CatalogUpdate& update = {})
        : Engine(&encoder, Segments(scanner, update), scale, memory) {}

    Stages rank(const PackedSessions& sessions, std::int64_t k, const Conditions& conditions, std::int32_t* ids,
                float* scores, EngineScratch& scratch) const;

    // Ranks for one session whose encoder state is kept, by this or another engine of the same weights. clicks: all
    // int32[n_clicks] of it, n_clicks >= 1; the last n_new are appended to the state first. types: uint8[n_clicks], of
    // the clicks, or null.
    Stages rank_growing(SessionState& state, const std::int32_t* clicks, std::int64_t n_clicks, std::int64_t n_new,
                        std::int64_t k, const Conditions& conditions, std::int32_t* ids, float* scores,
                        EngineScratch& scratch, const std::uint8_t* types = nullptr) const;

    std::int64_t n_items() const { return segments_.n_items(); }
    std::int64_t d() const { return segments_.d(); }
    bool has_memory() const { return memory_.memory != nullptr; }
    const MemoryParts& memory_parts() const { return memory_; }
    const Segments& segments() const { return segments_; }
    // Codes of a visit's context.
    std::int64_t n_context() const { return memory_.trends == nullptr ? 0 : memory_.trends->context_shape().n_columns; }

   private:
    const Encoder& checked_encoder() const;
    // The stages after the encoder, whose times go into `stages`: scratch.queries [B, d] to ids and scores.
    void retrieve(const PackedSessions& sessions, std::int64_t k, const Conditions& conditions, std::int32_t* ids,
                  float* scores, EngineScratch& scratch, Stages& stages) const;
    // scratch.dense and scratch.logits [B, width] to ids and scores.
    void rank_with_memory(const PackedSessions& sessions, std::int64_t k, std::int64_t width,
                          const Conditions& conditions, const ScanRequest& search, std::int32_t* ids, float* scores,
                          EngineScratch& scratch) const;
    // What the trends read of session b.
    void add_moment(const PackedSessions& sessions, std::int64_t b, const Conditions& conditions,
                    MemoryRequest& request) const;

    const Encoder* encoder_;
    Segments segments_;
    double scale_;
    MemoryParts memory_;
};

// Checks of a caller's arguments before the engine uses them. The bindings call these checks, as
// must every other caller. All throw std::invalid_argument.

// Conditions of a call over n_items: `allowed`, if it is given, of n_allowed bytes, has a bit an item; the excluded ids
// ascend.
void check_conditions(const Conditions& conditions, std::optional<std::int64_t> n_allowed, std::int64_t n_items);

// The offsets of `sessions` rise from 0 to n_clicks, with no empty session unless `with_empty`.
void check_sessions(const PackedSessions& sessions, std::int64_t n_clicks, bool with_empty = false);

// Checks that a growing session has n_clicks >= 1 clicks, of which the last `n_new` are new.
void check_growing(std::int64_t n_clicks, std::int64_t n_new);

}  // namespace mtaw
