// A bundle: its files opened and checked, and the native objects over them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bundle/bits.hpp"
#include "bundle/item_ids.hpp"
#include "bundle/item_table.hpp"
#include "bundle/manifest.hpp"
#include "bundle/tensors.hpp"
#include "encode/encoder.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"
#include "memory/tables.hpp"
#include "scan/scanner.hpp"
#include "trends/trends.hpp"

namespace mtaw {

// The columns of the visits' context, and the codes of their values.
struct ContextColumns {
    struct Column {
        std::string name;
        std::unordered_map<std::string, std::uint16_t> codes;
    };
    std::vector<Column> columns;
};

// Immutable: any number of threads may use it at once.
class Bundle {
   public:
    using Files = std::map<std::string, std::shared_ptr<const TensorFile>, std::less<>>;
    enum class Keep { ranking, all };  // of the files

    // Throws BundleError, std::bad_alloc.
    static std::shared_ptr<const Bundle> open(const std::string& folder, const FileAccess& access, bool verify,
                                              Keep keep = Keep::ranking);

    const Manifest& manifest() const { return manifest_; }
    const std::string& manifest_text() const { return text_; }
    const Files& files() const { return files_; }  // by part
    const IdTable& ids() const { return ids_; }
    const Scanner& scanner() const { return *scanner_; }
    const Encoder& encoder() const { return *encoder_; }
    // The session memory with its ranker, or neither; null without.
    const SessionMemory* memory() const { return memory_.get(); }
    const RankerNet* ranker() const { return ranker_.get(); }
    const Trends* trends() const { return trends_.get(); }
    const ItemContent* content() const { return content_ ? &*content_ : nullptr; }
    bool has_memory() const { return memory_ != nullptr; }
    const TablesView& tables() const { return tables_; }  // with a memory
    const ItemTable* items() const { return items_ ? &*items_ : nullptr; }
    const ContextColumns& context() const { return context_; }
    // The types of clicks that the ranker reads, by their codes.
    const std::vector<std::string>& types() const { return types_; }

    std::int64_t size() const { return manifest_.n_items; }
    // Items that can be recommended, and their bits; null if that is all.
    std::int64_t n_eligible() const { return n_eligible_; }
    const std::uint8_t* present() const { return present_.empty() ? nullptr : present_.data(); }
    const float* embedding() const { return embedding_; }               // [size, d]
    const float* rows() const { return rows_; }                         // [size, d] of length 1
    const std::int64_t* popularity() const { return popularity_; }      // [size]
    const std::int32_t* most_clicked() const { return most_clicked_; }  // [size], unavailable ones too

   private:
    Bundle(Manifest manifest, const std::string& folder, std::string text, Files files, bool verify, Keep keep);

    const TensorFile& file(const char* part) const { return *files_.at(part); }
    bool has(const char* part) const { return files_.contains(part); }
    static Files open_files(const Manifest& manifest, const std::string& folder, const FileAccess& access, bool verify);
    void read_embedding();
    void read_rows();
    void make_encoder(bool verify);
    void make_scanner(bool verify, Keep keep);
    void check_rows() const;
    void read_popularity(bool verify);
    void make_memory();
    void read_tables(const TensorFile& from, const MemorySettings& settings);
    void make_ranker();
    void make_trends();
    void make_content();
    void read_context();
    void check_unranked() const;
    void mark_by_table(std::vector<char>& unavailable) const;
    void mark_by_log(std::vector<char>& unavailable) const;
    void mark_unavailable();

    Manifest manifest_;
    std::string text_;
    Files files_;
    IdTable ids_;
    const std::int64_t* popularity_ = nullptr;
    const std::int32_t* most_clicked_ = nullptr;
    AlignedFloats made_embedding_, made_rows_;
    const float* embedding_ = nullptr;  // [size, d]
    const float* rows_ = nullptr;       // [size, d] of length 1
    std::optional<Encoder> encoder_;
    AlignedFloats made_blocks_, made_half_blocks_, made_low_blocks_;
    std::optional<Scanner> scanner_;
    TablesView tables_{};
    std::unique_ptr<SessionMemory> memory_;
    std::unique_ptr<RankerNet> ranker_;
    std::vector<std::string> side_;  // names of the ranker's features of context and content
    std::vector<std::string> types_;
    std::unique_ptr<Trends> trends_;
    ContextColumns context_;
    std::optional<ItemTable> items_;
    std::vector<std::vector<std::int32_t>> made_codes_;
    std::vector<std::int64_t> made_times_;
    std::optional<ItemContent> content_;
    std::vector<std::uint8_t> present_;
    std::int64_t n_eligible_ = 0;
};

}  // namespace mtaw
