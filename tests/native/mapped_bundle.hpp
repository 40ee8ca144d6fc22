// A bundle's arrays mapped into memory without Python, as mtaw_fast/bundle/bundle.py maps them. For tests: it reads
// what this package wrote and stops the program at anything else.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "encode/encoder.hpp"
#include "ids/id_table.hpp"
#include "memory/ranker_net.hpp"
#include "memory/tables.hpp"
#include "scan/scanner.hpp"

namespace mtaw {

// A read-only mapping of a safetensors file.
class TensorFile {
   public:
    explicit TensorFile(const std::filesystem::path& path) {
        const int file = open(path.c_str(), O_RDONLY);
        struct stat status{};
        if (file < 0 || fstat(file, &status) != 0) throw std::runtime_error("cannot open " + path.string());
        size_ = static_cast<std::size_t>(status.st_size);
        memory_ = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (memory_ == MAP_FAILED) throw std::runtime_error("cannot map " + path.string());
        std::uint64_t length = 0;
        std::memcpy(&length, memory_, 8);
        header_.assign(static_cast<const char*>(memory_) + 8, length);
        data_ = static_cast<const std::uint8_t*>(memory_) + 8 + length;
    }
    TensorFile(const TensorFile&) = delete;
    TensorFile& operator=(const TensorFile&) = delete;
    ~TensorFile() { munmap(memory_, size_); }

    template <typename T>
    const T* at(const char* name) const {
        return reinterpret_cast<const T*>(data_ + numbers(name, "data_offsets")[0]);
    }

    std::vector<std::int64_t> shape(const char* name) const { return numbers(name, "shape"); }

    bool has(const char* name) const { return header_.find("\"" + std::string(name) + "\":{") != std::string::npos; }

   private:
    std::vector<std::int64_t> numbers(const char* name, const char* field) const {
        const std::size_t entry = header_.find("\"" + std::string(name) + "\":{");
        const std::size_t found = header_.find("\"" + std::string(field) + "\":[", entry);
        if (entry == std::string::npos || found == std::string::npos) {
            throw std::runtime_error("there is no array " + std::string(name));
        }
        std::vector<std::int64_t> values;
        const char* next = header_.c_str() + header_.find('[', found);
        while (*next != ']') {
            char* end = nullptr;
            values.push_back(std::strtoll(next + 1, &end, 10));
            next = end;
        }
        return values;
    }

    void* memory_;
    std::size_t size_;
    std::string header_;
    const std::uint8_t* data_;
};

// The files of a bundle folder that has text ids and a scan part, with a session memory or without.
class MappedBundle {
   public:
    explicit MappedBundle(const std::filesystem::path& folder)
        : weights_(file_of(folder, "weights-")),
          catalog_(file_of(folder, "catalog-")),
          items_(file_of(folder, "items-")),
          scan_(file_of(folder, "scan-")) {
        if (find(folder, "memory-")) {
            memory_.emplace(file_of(folder, "memory-"));
            ranker_.emplace(file_of(folder, "ranker-"));
        }
    }

    EncoderWeights weights(std::int64_t max_len) const {
        const std::vector<std::int64_t> items = weights_.shape("item_embedding");
        const auto array = [this](const char* name) { return weights_.at<float>(name); };
        return {items[0],
                items[1],
                weights_.shape("position_embedding")[0],
                max_len,
                array("item_embedding"),
                array("position_embedding"),
                array("itl_query_weight"),
                array("itl_query_bias"),
                array("ffn_in_weight"),
                array("ffn_in_bias"),
                array("ffn_out_weight"),
                array("ffn_out_bias"),
                array("norm_weight"),
                array("norm_bias"),
                array("iel_query_weight"),
                array("iel_query_bias")};
    }

    ScanCatalog catalog() const {
        const std::vector<std::int64_t> shape = catalog_.shape("catalog");
        const double* summary = scan_.at<double>("summary");
        const auto part = [&](const char* name) { return scan_.has(name) ? scan_.at<std::uint8_t>(name) : nullptr; };
        return {catalog_.at<float>("catalog"),
                part("blocks"),
                shape[0],
                shape[1],
                {static_cast<std::int64_t>(summary[3]), summary[4], summary[5]},
                part("half_blocks"),
                part("low_blocks")};
    }

    IdTable ids() const {
        return IdTable::of_texts(items_.at<char>("blob"), items_.at<std::int64_t>("offsets"),
                                 items_.shape("offsets")[0] - 1, items_.at<std::uint64_t>("slots"),
                                 static_cast<std::size_t>(items_.shape("slots")[0]));
    }

    bool has_memory() const { return memory_.has_value(); }

    MemoryView memory() const {
        constexpr int kRecency = 4;  // the index in `settings` that mtaw_fast/memory/files.py gives it
        const auto numbers = [this](const char* name) { return memory_->at<std::int32_t>(name); };
        const auto offsets = [this](const char* name) { return memory_->at<std::int64_t>(name); };
        return {{memory_->shape("row_offsets")[0] - 1, memory_->shape("session_offsets")[0] - 1, offsets("row_offsets"),
                 numbers("neighbors"), numbers("latest"), memory_->at<std::uint16_t>("values"),
                 memory_->at<float>("totals"), numbers("counts"), offsets("post_offsets"), numbers("postings"),
                 offsets("session_offsets"), numbers("session_items")},
                memory_->at<double>("settings")[kRecency]};
    }

    // In the order that mtaw_fast/memory/files.py gives them.
    MemorySettings memory_settings() const {
        const double* const numbers = memory_->at<double>("settings");
        const auto whole = [&](int index) { return static_cast<std::int64_t>(numbers[index]); };
        return {whole(1), whole(2), numbers[4], whole(5), whole(6)};
    }

    RankerWeights ranker() const {
        const auto array = [this](const char* name) { return ranker_->at<float>(name); };
        return {ranker_->shape("mean")[0],
                ranker_->shape("b1")[0],
                ranker_->shape("b2")[0],
                array("mean"),
                array("scale"),
                array("linear"),
                array("w1"),
                array("b1"),
                array("w2"),
                array("b2"),
                array("w3"),
                *array("bias")};
    }

   private:
    static std::optional<std::filesystem::path> find(const std::filesystem::path& folder, const std::string& prefix) {
        for (const auto& entry : std::filesystem::directory_iterator(folder)) {
            if (entry.path().filename().string().rfind(prefix, 0) == 0) return entry.path();
        }
        return std::nullopt;
    }

    static std::filesystem::path file_of(const std::filesystem::path& folder, const std::string& prefix) {
        const auto found = find(folder, prefix);
        if (!found) throw std::runtime_error("the bundle has no file " + prefix + "*");
        return *found;
    }

    TensorFile weights_, catalog_, items_, scan_;
    std::optional<TensorFile> memory_, ranker_;
};

}  // namespace mtaw
