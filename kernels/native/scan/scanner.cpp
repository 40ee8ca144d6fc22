#include "scan/scanner.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "scan/search.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kSamples = 16;

}  // namespace

ScanScratch::ScanScratch() : state_(std::make_unique<State>()) {}
ScanScratch::~ScanScratch() = default;
ScanScratch::ScanScratch(ScanScratch&&) noexcept = default;
ScanScratch& ScanScratch::operator=(ScanScratch&&) noexcept = default;

namespace {

void check_request(const ScanRequest& request) {
    if (request.k < 1) throw std::invalid_argument("k must be at least 1, not " + std::to_string(request.k));
    if (!(request.scale > 0) || !std::isfinite(request.scale)) {
        throw std::invalid_argument("scale must be positive and finite, not " + std::to_string(request.scale));
    }
}

// The codes that a search reads bounds from.
enum class Codes { whole, half, joined };

// The word of an item, or of a slot without one.
std::uint32_t word_at(const ScanCatalog& catalog, Codes codes, std::int64_t item) {
    const std::int64_t block = item / kBlockItems, slot = item % kBlockItems;
    if (codes == Codes::whole) {
        return load_word(catalog.blocks + (block + 1) * block_bytes(catalog.d) - kLineBytes + slot * 4);
    }
    if (codes == Codes::half) {
        return load_word(catalog.half_blocks + (block + 1) * half_block_bytes(catalog.d) - kLineBytes + slot * 4);
    }
    return load_word(catalog.low_blocks + (item + 1) * low_bytes(catalog.d) - 4);
}

// Whether the slots past the last item say so: no kernel then gives an id that is not there.
bool padding_is_marked(const ScanCatalog& catalog, Codes codes) {
    for (std::int64_t slot = catalog.n_items; slot < block_count(catalog.n_items) * kBlockItems; ++slot) {
        if (word_at(catalog, codes, slot) != kNoItem) return false;
    }
    return true;
}

// The code of dimension j of an item.
double code_at(const ScanCatalog& catalog, Codes codes, std::int64_t item, std::int64_t j) {
    const std::int64_t offset = item % kBlockItems * kLineDims + j % kLineDims;
    if (codes == Codes::whole) {
        const std::uint8_t* block = catalog.blocks + item / kBlockItems * block_bytes(catalog.d);
        return block[j / kLineDims * kLineBytes + offset] - 128;
    }
    const std::int64_t pair = j / (2 * kLineDims);  // of lines
    const auto half_of = [&](int both) { return j % (2 * kLineDims) < kLineDims ? both & 15 : both >> 4; };
    const std::uint8_t* half = catalog.half_blocks + item / kBlockItems * half_block_bytes(catalog.d);
    const int high = half_of(half[pair * kLineBytes + offset]);
    if (codes == Codes::half) return 2 * high - 15;
    const std::uint8_t* record = catalog.low_blocks + item * low_bytes(catalog.d);
    return 16 * high - 128 + half_of(record[pair * kLineDims + j % kLineDims]);
}

// Whether rows spread over the catalog are what the codes say, within the residuals they state.
bool sample_agrees(const ScanCatalog& catalog, Codes codes) {
    const double scale_down = std::ldexp(1.0, -static_cast<int>(catalog.summary.exponent));
    for (std::int64_t sample = 0; sample < std::min(kSamples, catalog.n_items); ++sample) {
        const std::int64_t item = sample * (catalog.n_items - 1) / std::max<std::int64_t>(1, kSamples - 1);
        const std::uint32_t word = word_at(catalog, codes, item);
        const double step = std::bit_cast<float>(word & 0xFFFF0000U);
        const double residual = std::bit_cast<float>(word << 16);
        double square = 0;
        for (std::int64_t j = 0; j < catalog.d; ++j) {
            const double value = static_cast<double>(catalog.rows[item * catalog.d + j]) * scale_down;
            const double error = value - step * code_at(catalog, codes, item, j);
            square += error * error;
        }
        if (!(std::sqrt(square) <= residual && residual <= catalog.summary.largest_residual)) return false;
    }
    return true;
}

}  // namespace

Scanner::Scanner(const ScanCatalog& catalog, Isa isa) : catalog_(catalog), isa_(isa) {
    if (catalog.n_items < 0 || catalog.n_items > std::numeric_limits<std::int32_t>::max() - kBlockItems) {
        throw std::invalid_argument("a scanner takes a catalog of up to 2^31 items, not " +
                                    std::to_string(catalog.n_items));
    }
    if (catalog.d < 1 || catalog.d > kMaxScanDims) {
        throw std::invalid_argument("a scanner takes vectors of 1 to " + std::to_string(kMaxScanDims) +
                                    " dimensions, not " + std::to_string(catalog.d));
    }
    const ScanSummary& summary = catalog.summary;
    const bool plausible = summary.largest_norm >= 0 && summary.largest_norm < 2 && summary.largest_residual >= 0 &&
                           summary.largest_residual < 64 && summary.exponent > -256 && summary.exponent < 256;
    const auto fits = [&](Codes codes) { return padding_is_marked(catalog, codes) && sample_agrees(catalog, codes); };
    if (!plausible || !(catalog.nested() ? fits(Codes::half) && fits(Codes::joined) : fits(Codes::whole))) {
        throw std::invalid_argument(
            "the catalog's codes belong to other vectors than its rows; quantize the catalog again");
    }
}

void Scanner::search(const ScanRequest& request, std::int32_t* ids, float* scores, ScanScratch& scratch) const {
    check_request(request);
    search_catalog(catalog_, isa_, request, scratch.state(), ids, scores);
}

}  // namespace mtaw
