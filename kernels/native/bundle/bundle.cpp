#include "bundle/bundle.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

#include "bundle/content.hpp"
#include "bundle/failure.hpp"
#include "bundle/learned.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kCheckedRows = 4096;  // rows: in a part of another model nearly every row differs

bool is_finite(const float* values, std::int64_t count) {
    // By their bits, so that compilers vectorize it: an exponent of ones alone carries into the sign's place.
    constexpr std::uint32_t kExponent = 0x7F800000, kLowest = 0x00800000, kSign = 0x80000000;
    std::uint32_t any = 0;
    for (std::int64_t i = 0; i < count; ++i) any |= (std::bit_cast<std::uint32_t>(values[i]) & kExponent) + kLowest;
    return (any & kSign) == 0;
}

}  // namespace

Bundle::Bundle(Manifest manifest, const std::string& folder, std::string text, Files files, bool verify, Keep keep)
    : manifest_(std::move(manifest)), text_(std::move(text)), files_(std::move(files)) {
    try {
        if (has("memory") != has("ranker")) {
            throw bundle_error(folder + ": a '" + (has("memory") ? "memory" : "ranker") + "' without its '" +
                               (has("memory") ? "ranker" : "memory") + "' can rank nothing; retrain the bundle");
        }
        ids_ = read_ids(file("items"), size(), verify);
        read_popularity(verify);
        read_embedding();
        read_rows();
        make_encoder(verify);
        make_scanner(verify, keep);
        if (has("item_table")) items_.emplace(file("item_table"), size());
        if (has("memory")) make_ranker();
        if ((ranker_ != nullptr && ranker_->has_trends()) != has("trends"))
            throw bundle_error(folder + ": its ranker and its trends do not belong together; retrain the bundle");
        if (has("trends")) make_trends();
        if (has("memory")) {
            make_memory();
            make_content();
        }
        read_context();
        check_unranked();
        mark_unavailable();
    } catch (const std::logic_error& error) {  // of the core's own checks
        const std::string reason = folder + ": " + error.what();
        throw bundle_error(reason.find(';') == std::string::npos ? reason + kRetrain : reason);
    }
    if (keep == Keep::ranking) {  // they can be large, and no ranking reads more of them
        for (const char* const part : {"learned", "times", "types", "content"}) files_.erase(part);
    }
}

// The parts that no ranking of libmtaw reads, or only at load.
void Bundle::check_unranked() const {
    const std::int64_t n_sessions = has_memory() ? tables_.n_sessions : 0;
    const std::int64_t n_clicks = has_memory() ? file("memory").length("session_items") : 0;
    if (has("times")) file("times").get<std::int64_t>("times", {n_clicks});
    if (has("types")) file("types").get<std::uint8_t>("types", {n_clicks});
    if (has("content")) check_content(file("content"), manifest_.settings.d);
    if (has("learned")) check_learned(file("learned"), size(), n_sessions);
}

void Bundle::read_popularity(bool verify) {
    const TensorFile& from = file("popularity");
    popularity_ = from.get<std::int64_t>("popularity", {size()});
    const auto ranks_before = [this](std::int32_t a, std::int32_t b) {
        return popularity_[a] != popularity_[b] ? popularity_[a] > popularity_[b] : a < b;
    };
    most_clicked_ = from.get<std::int32_t>("most_clicked", {size()});
    for (std::int64_t i = 0; i < size(); ++i) {
        if (most_clicked_[i] < 0 || most_clicked_[i] >= size() ||
            (verify && i > 0 && !ranks_before(most_clicked_[i - 1], most_clicked_[i]))) {
            throw bundle_error(from.bytes().path() + ": 'most_clicked' is not the order of 'popularity'" + kRetrain);
        }
    }
}

void Bundle::make_encoder(bool verify) {
    constexpr double kRate = 10.0, kFarthest = 6.9;  // mtaw_fast/model/parameters.py
    const TensorFile& from = file("weights");
    const Settings& settings = manifest_.settings;
    const std::int64_t d = settings.d;
    std::vector<std::string_view> names = {"item_embedding", "position_embedding", "itl_query_weight",
                                           "itl_query_bias", "ffn_in_weight",      "ffn_in_bias",
                                           "ffn_out_weight", "ffn_out_bias",       "norm_weight",
                                           "norm_bias",      "iel_query_weight",   "iel_query_bias"};
    if (settings.recent_weight > 0) names.emplace_back("recent");
    from.check_names(names);
    const auto matrix = [&](const char* name) { return from.get<float>(name, {d, d}); };
    const auto vector = [&](const char* name) { return from.get<float>(name, {d}); };
    EncoderWeights weights{
        .n_items = size(),
        .d = d,
        .n_positions = settings.max_positions,
        .max_len = settings.max_session_length,
        .item_embedding = embedding_,
        .position_embedding = from.get<float>("position_embedding", {settings.max_positions, d}),
        .itl_query_weight = matrix("itl_query_weight"),
        .itl_query_bias = vector("itl_query_bias"),
        .ffn_in_weight = matrix("ffn_in_weight"),
        .ffn_in_bias = vector("ffn_in_bias"),
        .ffn_out_weight = matrix("ffn_out_weight"),
        .ffn_out_bias = vector("ffn_out_bias"),
        .norm_weight = vector("norm_weight"),
        .norm_bias = vector("norm_bias"),
        .iel_query_weight = matrix("iel_query_weight"),
        .iel_query_bias = vector("iel_query_bias"),
        .n_added = 0,
        .added_embedding = nullptr,
        .recent = 0,
        .recent_decay = 0,
    };
    if (settings.recent_weight > 0) {
        const float* const recent = from.get<float>("recent", {2});
        const double log_gain = static_cast<double>(recent[0]) * kRate, logit = static_cast<double>(recent[1]) * kRate;
        if (!(std::abs(log_gain) <= kFarthest && std::abs(logit) <= kFarthest)) {
            throw bundle_error(from.bytes().path() + ": the array 'recent' is out of range" + kRetrain);
        }
        weights.recent = std::exp(log_gain);
        weights.recent_decay = 1 / (1 + std::exp(-logit));
    }
    for (const auto& [name, tensor] : from.tensors()) {
        if (verify && tensor.dtype == Dtype::f32 && !is_finite(static_cast<const float*>(tensor.data), tensor.size())) {
            throw bundle_error(from.bytes().path() + ": " + shown(name) + " has a value that is not finite" + kRetrain);
        }
    }
    if (verify && made_embedding_.size() > 0 && !is_finite(embedding_, size() * d)) {
        throw bundle_error(from.bytes().path() + ": item_embedding has a value that is not finite" + kRetrain);
    }
    encoder_.emplace(weights);
}

void Bundle::make_scanner(bool verify, Keep keep) {
    constexpr std::int64_t kLarge = std::int64_t{1} << 25;  // as kernels/native/scan.py
    constexpr double kLargestExponent = 256;
    const std::int64_t n = size(), d = manifest_.settings.d;
    if ((verify || !has("scan")) && !is_finite(rows_, n * d)) {
        throw bundle_error(file(has("catalog") ? "catalog" : "weights").bytes().path() +
                           ": the catalog has a value that is not finite" + kRetrain);
    }
    if (verify && has("catalog")) check_rows();
    ScanCatalog catalog{rows_, nullptr, n, d, {}};
    if (has("scan")) {
        const TensorFile& from = file("scan");
        if (from.has("low_blocks")) {
            from.check_names({"half_blocks", "low_blocks", "summary"});
        } else {
            from.check_names({"blocks", "summary"});
        }
        const double* const summary = from.get<double>("summary", {8});
        if (summary[0] != 1 || summary[1] != static_cast<double>(n) || summary[2] != static_cast<double>(d) ||
            !(std::abs(summary[3]) < kLargestExponent && summary[3] == std::floor(summary[3]))) {
            throw bundle_error(from.bytes().path() + " is of another catalog" + kRetrain);
        }
        catalog.summary = {static_cast<std::int64_t>(summary[3]), summary[4], summary[5]};
        if (from.has("low_blocks")) {
            catalog.half_blocks =
                from.get<std::uint8_t>("half_blocks", {block_count(n), half_lines(d) + 1, kLineBytes});
            catalog.low_blocks = from.get<std::uint8_t>("low_blocks", {block_count(n), half_lines(d) + 1, kLineBytes});
        } else {
            catalog.blocks = from.get<std::uint8_t>("blocks", {block_count(n), code_lines(d) + 1, kLineBytes});
        }
    }
    constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
    if (keep == Keep::all && !has("scan")) return;  // Python makes the codes that its index reads
    if (keep == Keep::ranking && n * d >= kLarge && catalog.low_blocks == nullptr) {
        // The bundle stores no codes, or whole ones.
        made_half_blocks_ = AlignedFloats(block_count(n) * half_block_bytes(d) / kFloat);
        made_low_blocks_ = AlignedFloats(block_count(n) * half_block_bytes(d) / kFloat);
        auto* const half_blocks = reinterpret_cast<std::uint8_t*>(made_half_blocks_.data());
        auto* const low_blocks = reinterpret_cast<std::uint8_t*>(made_low_blocks_.data());
        if (catalog.blocks != nullptr) {
            nest_codes(catalog.blocks, block_count(n), d, half_blocks, low_blocks, &catalog.summary);
        } else {
            catalog.summary = quantize_nested(rows_, n, d, half_blocks, low_blocks);
        }
        catalog.blocks = nullptr;
        catalog.half_blocks = half_blocks;
        catalog.low_blocks = low_blocks;
    } else if (!has("scan")) {
        made_blocks_ = AlignedFloats(block_count(n) * block_bytes(d) / kFloat);
        auto* const blocks = reinterpret_cast<std::uint8_t*>(made_blocks_.data());
        catalog.summary = quantize_catalog(rows_, n, d, blocks);
        catalog.blocks = blocks;
    }
    scanner_.emplace(catalog);
}

void Bundle::check_rows() const {
    const std::int64_t n = size(), d = manifest_.settings.d, step = std::max<std::int64_t>(1, n / kCheckedRows);
    for (std::int64_t i = 0; i < n; i += step) {
        double length = 0, worst = 0;
        for (std::int64_t j = 0; j < d; ++j)
            length += static_cast<double>(embedding_[i * d + j]) * static_cast<double>(embedding_[i * d + j]);
        length = length > 0 ? std::sqrt(length) : 1;
        for (std::int64_t j = 0; j < d; ++j) {
            worst = std::max(worst, std::abs(static_cast<double>(embedding_[i * d + j]) / length -
                                             static_cast<double>(rows_[i * d + j])));
        }
        if (worst > 1e-6)
            throw bundle_error(file("catalog").bytes().path() + " is of another model than the weights" + kRetrain);
    }
}

void Bundle::mark_by_table(std::vector<char>& unavailable) const {
    if (const Column* const column = items_->availability()) {
        for (std::int64_t i = 0; i < size(); ++i) unavailable[static_cast<std::size_t>(i)] = column->flags[i] == 0;
    }
    for (const Json& id : items_->hidden()) {
        std::int32_t item = kUnknownId;
        if (id.is(Json::Kind::text)) item = find_id(ids_, id.text());
        if (const std::optional<std::int64_t> number = id.whole()) item = find_id(ids_, *number);
        if (item != kUnknownId) unavailable[static_cast<std::size_t>(item)] = 1;
    }
}

// Items that were removed while serving, and new ones with too few clicks.
void Bundle::mark_by_log(std::vector<char>& unavailable) const {
    const TensorFile& from = file("learned");
    for (const char* const name : {"removed", "hidden"}) {
        const std::int64_t count = from.length(name);
        const auto* const items = from.get<std::int32_t>(name, {count});
        for (std::int64_t i = 0; i < count; ++i) unavailable[static_cast<std::size_t>(items[i])] = 1;
    }
}

void Bundle::mark_unavailable() {
    n_eligible_ = size();
    if (!items_ && !has("learned")) return;
    std::vector<std::uint8_t> bits(static_cast<std::size_t>((size() + 7) / 8), 0);
    std::vector<char> unavailable(static_cast<std::size_t>(size()), 0);
    if (items_) mark_by_table(unavailable);
    if (has("learned")) mark_by_log(unavailable);
    n_eligible_ = std::count(unavailable.begin(), unavailable.end(), 0);
    if (n_eligible_ == size()) return;
    for (std::size_t i = 0; i < unavailable.size(); ++i) {
        if (unavailable[i] == 0) set_bit(bits.data(), static_cast<std::int32_t>(i));
    }
    present_ = std::move(bits);
}

}  // namespace mtaw
