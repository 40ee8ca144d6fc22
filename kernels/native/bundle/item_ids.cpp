#include "bundle/item_ids.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <vector>

#include "bundle/failure.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

[[noreturn]] void damaged(const TensorFile& file, const std::string& why) {
    throw bundle_error(file.bytes().path() + ": not an item id table: " + why + "; write the file again");
}

struct Numbers {
    const std::int64_t *values, *sorted;
    const std::int32_t* order;
};

void check_numbers(const TensorFile& file, const Numbers& numbers, std::int64_t n_items, bool verify) {
    for (std::int64_t i = 0; i < n_items; ++i) {
        if (numbers.order[i] < 0 || numbers.order[i] >= n_items) damaged(file, "'order' points outside it");
        if (verify && (numbers.values[numbers.order[i]] != numbers.sorted[i] ||
                       (i > 0 && numbers.sorted[i] <= numbers.sorted[i - 1]))) {
            damaged(file, "an id occurs twice or is not where it should be");
        }
    }
}

std::vector<std::uint64_t> slots_of(const TensorFile& file, std::string_view blob, const std::int64_t* offsets,
                                    std::int64_t n_items) {
    std::vector<std::uint64_t> slots(slot_count(n_items), 0);
    if (fill_slots(blob.data(), offsets, n_items, slots.data(), slots.size()) != kUnknownId)
        damaged(file, "an id occurs twice");
    return slots;
}

void check_utf8(const TensorFile& file, std::string_view blob, const std::int64_t* offsets, std::int64_t n_items) {
    for (std::int64_t i = 0; i < n_items; ++i) {
        const auto begin = static_cast<std::size_t>(offsets[i]), end = static_cast<std::size_t>(offsets[i + 1]);
        if (!is_utf8(blob.substr(begin, end - begin), true)) damaged(file, "the text of an id is not UTF-8");
    }
}

}  // namespace

IdTable read_ids(const TensorFile& file, std::int64_t n_items, bool verify) {
    if (!file.has("blob")) {
        file.check_names({"values", "sorted", "order"});
        const Numbers numbers{file.get<std::int64_t>("values", {n_items}), file.get<std::int64_t>("sorted", {n_items}),
                              file.get<std::int32_t>("order", {n_items})};
        check_numbers(file, numbers, n_items, verify);
        return IdTable::of_ints(numbers.values, numbers.sorted, numbers.order, n_items);
    }
    file.check_names({"blob", "offsets", "slots"});
    const std::string_view blob = file.text("blob");
    const auto* const offsets = file.get<std::int64_t>("offsets", {n_items + 1});
    try {
        check_texts(offsets, n_items, static_cast<std::int64_t>(blob.size()));
    } catch (const std::invalid_argument& error) {
        damaged(file, error.what());
    }
    if (verify) check_utf8(file, blob, offsets, n_items);
    const auto* const slots = file.get<std::uint64_t>("slots", {kAny});
    const auto n_slots = static_cast<std::size_t>(file.length("slots"));
    if (!std::has_single_bit(n_slots)) damaged(file, "slots must be a power of two in number");
    if (verify) {
        const std::vector<std::uint64_t> rebuilt_slots = slots_of(file, blob, offsets, n_items);
        if (rebuilt_slots.size() != n_slots || !std::equal(rebuilt_slots.begin(), rebuilt_slots.end(), slots)) {
            damaged(file, "the hash table does not belong to the ids");
        }
    }
    return IdTable::of_texts(blob.data(), offsets, n_items, slots, n_slots);
}

std::int32_t find_id(const IdTable& table, std::string_view text) {
    std::int32_t found = kUnknownId;
    if (table.text()) table.find(&text, 1, &found);
    return found;
}

std::int32_t find_id(const IdTable& table, std::int64_t number) {
    std::int32_t found = kUnknownId;
    if (!table.text()) table.find(&number, 1, &found);
    return found;
}

}  // namespace mtaw
