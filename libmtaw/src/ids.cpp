#include "ids.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "failure.hpp"
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

IdList id_list(const char* name, const mtaw_id* ids, std::size_t count) {
    if (ids == nullptr && count > 0) throw usage(std::string(name) + ": the list is NULL, but not empty");
    return {ids, count};
}

Ids::Ids(const TensorFile& file, std::int64_t n_items, bool verify) {
    if (!file.has("blob")) {
        const Numbers numbers{file.get<std::int64_t>("values", {n_items}), file.get<std::int64_t>("sorted", {n_items}),
                              file.get<std::int32_t>("order", {n_items})};
        check_numbers(file, numbers, n_items, verify);
        table_ = IdTable::of_ints(numbers.values, numbers.sorted, numbers.order, n_items);
        return;
    }
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
    table_ = IdTable::of_texts(blob.data(), offsets, n_items, slots, n_slots);
}

std::vector<std::int32_t> Ids::lookup(IdList ids) const {
    std::vector<std::int32_t> found(ids.count, kUnknownId);
    std::int64_t numbers[IdTable::kGroup];
    std::string_view texts[IdTable::kGroup];
    std::size_t positions[IdTable::kGroup], count = 0;
    std::int32_t internal[IdTable::kGroup];
    const auto flush = [&] {
        if (text()) {
            table_.find(texts, count, internal);
        } else {
            table_.find(numbers, count, internal);
        }
        for (std::size_t i = 0; i < count; ++i) found[positions[i]] = internal[i];
        count = 0;
    };
    for (std::size_t position = 0; position < ids.count; ++position) {
        const mtaw_id& id = ids.ids[position];
        if ((id.text != nullptr) != text()) continue;
        if (id.text == nullptr) {
            numbers[count] = id.value;
        } else {
            texts[count] = {id.text, id.value < 0 ? std::strlen(id.text) : static_cast<std::size_t>(id.value)};
        }
        positions[count++] = position;
        if (count == IdTable::kGroup) flush();
    }
    if (count > 0) flush();
    return found;
}

std::vector<std::int32_t> Ids::known(IdList ids) const {
    std::vector<std::int32_t> found = lookup(ids);
    std::erase(found, kUnknownId);
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

std::int32_t Ids::lookup(std::string_view text_id) const {
    std::int32_t found = kUnknownId;
    if (text()) table_.find(&text_id, 1, &found);
    return found;
}

std::int32_t Ids::lookup(std::int64_t number) const {
    std::int32_t found = kUnknownId;
    if (!text()) table_.find(&number, 1, &found);
    return found;
}

}  // namespace mtaw
