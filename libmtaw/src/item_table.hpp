// The item table of a bundle: typed columns over the internal ids; mtaw_fast/items/columns.py describes the arrays.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json.hpp"
#include "tensors.hpp"

namespace mtaw {

enum class ColumnKind { number, category, categories, boolean, text, time, vector };

const char* name_of(ColumnKind kind);

struct Column {
    std::string name;
    ColumnKind kind;
    std::int64_t n_rows = 0;
    const double* numbers = nullptr;        // number; missing: NaN
    const std::int64_t* times = nullptr;    // time; missing: the least int64
    const std::int8_t* flags = nullptr;     // boolean; missing: -1
    const std::int32_t* codes = nullptr;    // category, missing: -1; categories, end to end
    const std::int64_t* offsets = nullptr;  // categories and text: [n_rows + 1], an empty row is missing
    const std::uint8_t* data = nullptr;     // text: UTF-8
    const float* vectors = nullptr;         // vector: [n_rows, d]; missing: NaN
    std::int64_t d = 0;
    std::vector<std::string_view> labels;  // of the codes
    std::unordered_map<std::string_view, std::int32_t> label_codes;
};

class ItemTable {
 public:
    // Throws Failure on arrays that are damaged, or of another catalog than n_items.
    ItemTable(const TensorFile& file, std::int64_t n_items);

    const std::vector<Column>& columns() const { return columns_; }
    const Column* find(std::string_view name) const;
    // Column whose false values withhold their items; null without one.
    const Column* availability() const { return availability_; }
    // The ids that are hidden by hand, texts or numbers.
    const std::vector<Json>& hidden() const { return hidden_; }

 private:
    std::vector<Column> columns_;
    const Column* availability_ = nullptr;
    std::vector<Json> hidden_;
};

}  // namespace mtaw
