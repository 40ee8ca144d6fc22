// Growth of the many short arrays of a delta.
#pragma once

#include <vector>

namespace mtaw {

// Makes room for one more. Growing to twice the size would leave a third of the memory of short arrays unused.
template <typename T>
void make_room(std::vector<T>& array) {
    if (array.size() == array.capacity()) array.reserve(array.size() + array.size() / 8 + 1);
}

}  // namespace mtaw
