#include "bundle/item_table.hpp"

#include <algorithm>
#include <stdexcept>

#include "bundle/failure.hpp"

namespace mtaw {
namespace {

[[noreturn]] void damaged_table(const TensorFile& file, const std::string& what) {
    throw bundle_error(file.bytes().path() + ": the item table is damaged (" + what + "); write the file again");
}

void check_offsets(const TensorFile& file, const std::string& name, const std::int64_t* offsets, std::int64_t count,
                   std::int64_t end) {
    bool fits = count >= 0 && offsets[0] == 0 && offsets[count] == end;
    for (std::int64_t i = 0; fits && i < count; ++i) fits = offsets[i] <= offsets[i + 1];
    if (!fits) damaged_table(file, "offsets of " + shown(name));
}

void read_labels(const TensorFile& file, const std::string& prefix, Column& column) {
    const auto* const offsets = file.get<std::int64_t>(prefix + "label_offsets", {kAny});
    const std::string_view text = file.text(prefix + "label_text");
    const std::int64_t count = file.length(prefix + "label_offsets") - 1;
    check_offsets(file, column.name, offsets, count, static_cast<std::int64_t>(text.size()));
    column.n_labels = count;
    column.label_offsets = offsets;
    column.label_text = text.data();
}

void check_codes(const TensorFile& file, const Column& column, std::int64_t count, std::int32_t minimum) {
    const auto end = static_cast<std::int32_t>(column.n_labels);
    const bool fits = std::all_of(column.codes, column.codes + count,
                                  [&](std::int32_t code) { return code >= minimum && code < end; });
    if (!fits) damaged_table(file, "codes of " + shown(column.name));
}

Column column_of(const TensorFile& file, const std::string& prefix, std::string name, ColumnKind kind) {
    Column column;
    column.name = std::move(name);
    column.kind = kind;
    const auto rows = [&](const char* part) { return file.length(prefix + part); };
    switch (kind) {
        case ColumnKind::number:
            column.numbers = file.get<double>(prefix + "values", {kAny});
            column.n_rows = rows("values");
            break;
        case ColumnKind::time:
            column.times = file.get<std::int64_t>(prefix + "values", {kAny});
            column.n_rows = rows("values");
            break;
        case ColumnKind::boolean:
            column.flags = file.get<std::int8_t>(prefix + "values", {kAny});
            column.n_rows = rows("values");
            break;
        case ColumnKind::category:
            column.codes = file.get<std::int32_t>(prefix + "codes", {kAny});
            column.n_rows = rows("codes");
            read_labels(file, prefix, column);
            check_codes(file, column, column.n_rows, -1);
            break;
        case ColumnKind::categories:
        case ColumnKind::text: {
            column.offsets = file.get<std::int64_t>(prefix + "offsets", {kAny});
            column.n_rows = rows("offsets") - 1;
            const char* const part = kind == ColumnKind::text ? "data" : "codes";
            if (kind == ColumnKind::text) {
                column.data = file.get<std::uint8_t>(prefix + part, {kAny});
            } else {
                column.codes = file.get<std::int32_t>(prefix + part, {kAny});
                read_labels(file, prefix, column);
                check_codes(file, column, rows(part), 0);
            }
            check_offsets(file, column.name, column.offsets, column.n_rows, rows(part));
            break;
        }
        case ColumnKind::vector:
            column.vectors = file.get<float>(prefix + "values", {kAny, kAny});
            column.n_rows = rows("values");
            column.d = file.tensors().find(prefix + "values")->second.shape[1];
            break;
    }
    return column;
}

const Json& member(const TensorFile& file, const Json& about, const char* name, Json::Kind kind) {
    const Json* const found = about.find(name);
    if (found == nullptr || !found->is(kind)) damaged_table(file, name);
    return *found;
}

const std::string& text_of(const TensorFile& file, const Json& about, const char* name) {
    return member(file, about, name, Json::Kind::text).text();
}

void whole_of(const TensorFile& file, const Json& about, const char* name) {
    if (!member(file, about, name, Json::Kind::number).whole()) damaged_table(file, name);
}

// Item ids, texts or numbers.
const std::vector<Json>& ids_of(const TensorFile& file, const Json& about, const char* name) {
    const std::vector<Json>& ids = member(file, about, name, Json::Kind::list).list();
    for (const Json& id : ids) {
        if (!id.is(Json::Kind::text) && !id.whole()) damaged_table(file, name);
    }
    return ids;
}

}  // namespace

ItemTable::ItemTable(const TensorFile& file, std::int64_t n_items) {
    Json about;
    try {
        about = Json::parse(file.text("about"));
    } catch (const std::invalid_argument& error) {
        damaged_table(file, error.what());
    }
    const Json *const layout = about.find("layout"), *const rows = about.find("n_rows"),
                      *const columns = about.find("columns"), *const changed = about.find("changed");
    if (layout == nullptr || layout->whole() != 1) damaged_table(file, "its layout is not 1; upgrade mtaw-fast");
    if (rows == nullptr || rows->whole() != n_items)
        damaged_table(file, "it is not of " + std::to_string(n_items) + " items");
    if (columns == nullptr || !columns->is(Json::Kind::list)) damaged_table(file, "columns");
    for (std::size_t at = 0; at < columns->list().size(); ++at) {
        const Json& entry = columns->list()[at];
        const std::string& kind = text_of(file, entry, "kind");
        const std::optional<ColumnKind> found = column_kind_of(kind);
        if (!found) damaged_table(file, "a column of kind " + shown(kind));
        const std::string& name = text_of(file, entry, "name");
        member(file, entry, "public", Json::Kind::boolean);
        whole_of(file, entry, "version");
        if (find_column(columns_, name) != nullptr) damaged_table(file, "two columns " + shown(name));
        columns_.push_back(column_of(file, "rows/" + std::to_string(at) + "/", name, *found));
        if (columns_.back().n_rows != n_items) damaged_table(file, "rows of " + shown(name));
    }
    whole_of(file, about, "version");
    whole_of(file, about, "made");
    if (changed != nullptr) whole_of(file, about, "changed");
    check_waiting(file, about);
    const Json* const available = about.find("availability");
    if (available == nullptr) damaged_table(file, "availability");
    if (!available->is(Json::Kind::null)) {
        availability_ = find_column(columns_, text_of(file, about, "availability"));
        if (availability_ == nullptr || availability_->kind != ColumnKind::boolean) damaged_table(file, "availability");
    }
    check_new(file, about);
    hidden_ = ids_of(file, about, "hidden");
    read_placements(file, about);
}

const Json* ItemTable::placement(const std::string& name) const {
    const auto found = placements_.find(name);
    return found == placements_.end() ? nullptr : &found->second;
}

// The rows of ids that the catalog does not know yet.
void ItemTable::check_waiting(const TensorFile& file, const Json& about) const {
    const auto count = static_cast<std::int64_t>(ids_of(file, about, "waiting").size());
    for (const Json& name : member(file, about, "waiting_columns", Json::Kind::list).list()) {
        const Column* const column = find_column(columns_, name.text());
        if (column == nullptr) damaged_table(file, "waiting_columns");
        const std::string prefix = "waiting/" + std::to_string(column - columns_.data()) + "/";
        if (column_of(file, prefix, column->name, column->kind).n_rows != count)
            damaged_table(file, "waiting rows of " + shown(column->name));
    }
}

// The rows that count as new, and the column of dates that says so. Older tables have neither.
void ItemTable::check_new(const TensorFile& file, const Json& about) const {
    const Json *const since = about.find("new_since"), *const rows = about.find("new");
    if (since != nullptr && !since->is(Json::Kind::null)) {
        const Column* const column = find_column(columns_, text_of(file, about, "new_since"));
        if (column == nullptr || column->kind != ColumnKind::time) damaged_table(file, "new_since");
    }
    if (rows == nullptr) return;
    for (const Json& row : member(file, about, "new", Json::Kind::list).list()) {
        const bool known = row.is(Json::Kind::list) && row.list().size() == 2 &&
                           (row.list()[0].is(Json::Kind::text) || row.list()[0].whole()) && row.list()[1].whole();
        if (!known) damaged_table(file, "new");
    }
}

// Of the revisions of a placement, number, time and content, the last one is in force.
void ItemTable::read_placements(const TensorFile& file, const Json& about) {
    for (const auto& [name, revisions] : member(file, about, "placements", Json::Kind::object).members()) {
        const std::vector<Json>& list = revisions.list();
        const bool known = !list.empty() && std::all_of(list.begin(), list.end(), [](const Json& revision) {
            const std::vector<Json>& parts = revision.list();
            return parts.size() == 3 && parts[0].whole() && parts[1].whole() && parts[2].is(Json::Kind::object);
        });
        if (!known) damaged_table(file, "placement " + shown(name));
        placements_.insert_or_assign(name, list.back().list().back());
    }
}

}  // namespace mtaw
