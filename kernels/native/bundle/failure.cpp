#include "bundle/failure.hpp"

#include <cstring>

namespace mtaw {

// Not std::error_code's: its text is allocated inside libstdc++, which does not know our allocator.
std::string reason_of_system(int error) {
    char buffer[128];
#if defined(__GLIBC__)
    return strerror_r(error, buffer, sizeof buffer);
#else
    return strerror_r(error, buffer, sizeof buffer) == 0 ? buffer : "error " + std::to_string(error);
#endif
}

std::string with_commas(std::uint64_t number) {
    std::string text = std::to_string(number);
    for (std::size_t end = text.size(); end > 3;) text.insert(end -= 3, ",");
    return text;
}

}  // namespace mtaw
