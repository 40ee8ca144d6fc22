// MTAW's encoder for serving: the clicks of one session in, the unit query vector of its last prefix out.
//
//     const Encoder encoder(weights);              // packs the small matrices; item_embedding stays where it is
//     EncodeScratch scratch;                       // one a thread
//     encoder.encode(clicks, n_clicks, query, scratch);   // float32[d]
#pragma once

#include <cstdint>
#include <memory>

#include "aligned.hpp"
#include "isa.hpp"
#include "kernel.hpp"

namespace mtaw {

// The model's arrays as a bundle holds them: float32, row-major, a linear layer as weight[out, in].
// `item_embedding` and `added_embedding` are kept by pointer and must outlive the encoder; all else is copied.
struct EncoderWeights {
    std::int64_t n_items;
    std::int64_t d;
    std::int64_t n_positions;  // click t takes position row min(t, n_positions - 1)
    std::int64_t max_len;      // of longer sessions the last max_len clicks count
    const float* item_embedding;
    const float* position_embedding;
    const float* itl_query_weight;
    const float* itl_query_bias;
    const float* ffn_in_weight;
    const float* ffn_in_bias;
    const float* ffn_out_weight;
    const float* ffn_out_bias;
    const float* norm_weight;
    const float* norm_bias;
    const float* iel_query_weight;
    const float* iel_query_bias;
    // Items behind those of item_embedding, with ids from n_items on.
    std::int64_t n_added = 0;
    const float* added_embedding = nullptr;
    // The query is o_m + recent * r_m, where r_m = sqrt(d) * sum_k recent_decay^k u_(m-k) / sum_k recent_decay^k over
    // the last kRecentClicks clicks and u is the direction of a click's item.
    double recent = 0;
    double recent_decay = 0;
};

// One thread's working memory. Grows to the longest session met (0.7 MB at 512 clicks and d = 100), never shrinks.
class EncodeScratch {
   public:
    EncodeScratch() = default;

   private:
    friend class Encoder;
    friend class SessionState;

    // At least `size` floats, uninitialized; what was there before is lost.
    float* reserve(std::int64_t size) {
        if (buffer_.size() < size) buffer_ = AlignedFloats(size);
        return buffer_.data();
    }

    AlignedFloats buffer_;
};

// Immutable once made: any number of threads may call it at once, each with a scratch of its own. A copy shares the
// packed weights.
//
// A vector depends on its session and on the instruction set alone, to the bit.
class Encoder {
   public:
    // Throws std::invalid_argument on a size below 1.
    explicit Encoder(const EncoderWeights& weights, Isa isa = active_isa());

    // The same model with other added items: float32[n, d], kept by pointer. Their ids follow those of item_embedding.
    // It shares the packed weights, so it costs nothing.
    Encoder with_added(const float* added, std::int64_t n) const;

    // clicks int32[n_clicks], oldest first. Writes the query float32[d] at length 1, or zeros if it is zero. Throws
    // std::invalid_argument if n_clicks < 1, std::out_of_range on a click outside 0..n_items()-1.
    void encode(const std::int32_t* clicks, std::int64_t n_clicks, float* out, EncodeScratch& scratch) const;

    // How many items there are, the added ones included.
    std::int64_t n_items() const { return model_.n_items; }
    std::int64_t d() const { return model_.d; }
    std::int64_t max_len() const { return max_len_; }

    // Throws std::out_of_range unless all clicks are in 0..n_items-1.
    void check(const std::int32_t* clicks, std::int64_t n_clicks) const;

   private:
    friend class SessionState;

    // Identifies the weights and the added items, on which an interest depends besides its clicks. These are numbers
    // and not addresses, because an address may be used again.
    struct Key {
        std::uint64_t weights = 0;
        std::uint64_t added = 0;  // 0: none
    };

    // Whether an encoder with the key `state_key` gives the same interests to these clicks as this one.
    bool agrees(const Key& state_key, const std::int32_t* clicks, std::int64_t n_clicks) const;

    Key key_;
    const EncodeKernel* kernel_;
    std::int64_t max_len_;
    std::shared_ptr<const AlignedFloats> packed_;
    EncodeModel model_;
};

}  // namespace mtaw
