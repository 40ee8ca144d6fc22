// Sessions in, ranked items out: encode, scan, top-K, on the calling thread and without Python.
#pragma once

#include <cstdint>
#include <vector>

#include "encode/encoder.hpp"
#include "encode/session.hpp"
#include "scan/scanner.hpp"

namespace mtaw {

// Which items may be found; all conditions hold together.
struct Conditions {
    const std::uint8_t* allowed = nullptr;   // bit i % 8 of byte i / 8, ceil(N / 8) bytes; null = all
    const std::int32_t* excluded = nullptr;  // ascending ids that no session may find: a short list
    std::int64_t n_excluded = 0;
    bool exclude_seen = false;  // nor may a session find its own clicks
};

// B sessions of internal ids, packed: session b is clicks[offsets[b] .. offsets[b + 1]), at least one click each.
struct PackedSessions {
    const std::int32_t* clicks;
    const std::int64_t* offsets;  // int64[B + 1]
    std::int64_t count;           // B
};

// How long the stages of one call took.
struct Stages {
    std::int64_t encode_ns = 0;
    std::int64_t retrieve_ns = 0;
};

// One thread's working memory: made once, grown to what the largest call needed.
struct EngineScratch {
    EncodeScratch encode;
    ScanScratch scan;
    std::vector<float> queries;
    std::vector<std::int32_t> excluded;
    std::vector<std::int64_t> excluded_offsets;
};

// Immutable: any number of threads may call it at once, each with a scratch of its own. Encoder and scanner must be of
// one catalog and outlive it.
//
// Both write ids int32[B, k] and scores float32[B, k], best first, padded with -1 / -infinity, as Scanner::search of
// Encoder::encode does. What they throw, these throw.
class Engine {
 public:
    // scale: the factor on the cosine that makes a logit. Throws std::invalid_argument where encoder and scanner
    // differ in catalog or dimensions, or scale is not positive.
    Engine(const Encoder& encoder, const Scanner& scanner, double scale);

    Stages rank(const PackedSessions& sessions, std::int64_t k, const Conditions& conditions, std::int32_t* ids,
                float* scores, EngineScratch& scratch) const;

    // The one session whose encoder state is kept. clicks int32[m]: all of it, m >= 1; the last `fresh` of them are
    // appended to the state first.
    Stages rank_live(SessionState& state, const std::int32_t* clicks, std::int64_t m, std::int64_t fresh,
                     std::int64_t k, const Conditions& conditions, std::int32_t* ids, float* scores,
                     EngineScratch& scratch) const;

    std::int64_t n_items() const { return encoder_->n_items(); }

 private:
    // The stage after the encoder: scratch.queries [B, d] to ids and scores. What reorders the scan's ranking by more
    // than the query goes here, between the search (of a larger k) and the first k.
    void retrieve(const PackedSessions& sessions, std::int64_t k, const Conditions& conditions, std::int32_t* ids,
                  float* scores, EngineScratch& scratch) const;

    const Encoder* encoder_;
    const Scanner* scanner_;
    double scale_;
};

}  // namespace mtaw
