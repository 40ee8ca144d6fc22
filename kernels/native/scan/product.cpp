#include "scan/product.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "scan/layout.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kStretchBytes = 512 << 10;

}  // namespace

std::uint64_t multiply_codes(const ProductRequest& request, Isa isa) {
    std::uint64_t (*multiply)(const ProductRequest&, std::int64_t, std::int64_t) = nullptr;
#if defined(__x86_64__)
    if (isa >= Isa::vnni) multiply = isa == Isa::amx ? multiply_codes_amx : multiply_codes_vnni;
#endif
    if (multiply == nullptr) {
        throw std::invalid_argument(std::string("the product of codes is written for vnni and amx, not for ") +
                                    isa_name(isa));
    }
    const std::int64_t stretch = std::max<std::int64_t>(2, kStretchBytes / ((request.lines + 1) * kLineBytes) / 2 * 2);
    std::uint64_t sum = 0;
    for (std::int64_t begin = 0; begin < request.n_blocks; begin += stretch) {
        sum += multiply(request, begin, std::min(begin + stretch, request.n_blocks));
    }
    return sum;
}

}  // namespace mtaw
