// Python bindings of rules: sets of them, columns over numpy arrays, and rules over a catalog.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "named_arrays.hpp"
#include "python_objects.hpp"
#include "rules/rule_set.hpp"
#include "text/json.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

using MaybeArray = std::optional<py::array>;

void read_labels(const py::dict& arrays, Column& column) {
    column.label_offsets = named<std::int64_t>(arrays, "label_offsets", "int64", {kAny});
    column.n_labels = length(arrays, "label_offsets") - 1;
    column.label_text = reinterpret_cast<const char*>(named<std::uint8_t>(arrays, "label_text", "uint8", {kAny}));
}

Column column_in(const std::string& name, const std::string& kind, bool is_public, const py::dict& arrays) {
    const std::optional<ColumnKind> known = column_kind_of(kind);
    if (!known) throw py::value_error("there is no kind of columns " + kind);
    Column column;
    column.name = name;
    column.kind = *known;
    column.is_public = is_public;
    const char* rows = "values";
    switch (column.kind) {
        case ColumnKind::number: column.numbers = named<double>(arrays, rows, "float64", {kAny}); break;
        case ColumnKind::time: column.times = named<std::int64_t>(arrays, rows, "int64", {kAny}); break;
        case ColumnKind::boolean: column.flags = named<std::int8_t>(arrays, rows, "int8", {kAny}); break;
        case ColumnKind::vector:
            column.vectors = named<float>(arrays, rows, "float32", {kAny, kAny});
            column.d = py::reinterpret_borrow<py::array>(arrays[rows]).shape(1);
            break;
        case ColumnKind::category:
            rows = "codes";
            column.codes = named<std::int32_t>(arrays, rows, "int32", {kAny});
            read_labels(arrays, column);
            break;
        case ColumnKind::categories:
        case ColumnKind::text:
            rows = "offsets";
            column.offsets = named<std::int64_t>(arrays, rows, "int64", {kAny});
            if (column.kind == ColumnKind::text) {
                column.data = named<std::uint8_t>(arrays, "data", "uint8", {kAny});
            } else {
                column.codes = named<std::int32_t>(arrays, "codes", "int32", {kAny});
                read_labels(arrays, column);
            }
            break;
    }
    column.n_rows = length(arrays, rows) - (column.offsets == nullptr ? 0 : 1);
    return column;
}

// Columns over numpy arrays, which it keeps alive.
class ColumnsObject {
   public:
    explicit ColumnsObject(const py::list& columns) : owner_(columns) {
        for (const py::handle& column : columns) {
            const auto parts = py::cast<py::tuple>(column);
            columns_.push_back(column_in(py::cast<std::string>(parts[0]), py::cast<std::string>(parts[1]),
                                         py::cast<bool>(parts[2]), py::cast<py::dict>(parts[3])));
        }
    }
    const Columns& columns() const { return columns_; }

   private:
    py::list owner_;
    Columns columns_;
};

struct ConditionObject {
    Condition condition;
    std::string source;

    std::vector<std::string> columns(bool of_current) const {
        std::set<std::string> names;
        for (const ColumnName& column : condition.names(of_current)) names.insert(column.name);
        return {names.begin(), names.end()};
    }

    py::array_t<std::uint8_t> bits(const ColumnsObject& table, std::optional<std::int32_t> current,
                                   std::int64_t n_items) const {
        condition.check(table.columns(), "condition", false);  // what follows relies on it
        py::array_t<std::uint8_t> bits((n_items + 7) / 8);
        std::uint8_t* const data = bits.mutable_data();
        const Unlocked unlocked;
        program_of(condition, table.columns(), current).run(n_items, data);
        return bits;
    }
};

class RuleSetObject {
   public:
    RuleSetObject(const std::string& json, const std::string& where)
        : source_json_(rules_json(json, where)), rules_(RuleSet::parse(source_json_, where)) {}

    const RuleSet& rules() const { return rules_; }

    std::optional<ConditionObject> filter() const {
        std::optional<Condition> condition = rules_.filter();
        if (!condition) return std::nullopt;
        return ConditionObject{std::move(*condition), source_of(*source_json_.find("filter"))};
    }

    std::vector<std::pair<ConditionObject, double>> boosts() const {
        std::vector<std::pair<ConditionObject, double>> found;
        if (rules_.boosts.empty()) return found;
        const Json& given = *source_json_.find("boost");
        for (std::size_t i = 0; i < rules_.boosts.size(); ++i) {
            const Json& boost = given.is(Json::Kind::list) ? given.list()[i] : given;
            found.push_back({{rules_.boosts[i].when, source_of(*boost.find("when"))}, rules_.boosts[i].by});
        }
        return found;
    }

    std::vector<std::pair<std::string, std::string>> texts() const {
        std::vector<std::pair<std::string, std::string>> found;
        for (const RuleSet::Filtered& filter : rules_.filters) filter.when.add_texts(found);
        for (const RuleSet::Boosted& boost : rules_.boosts) boost.when.add_texts(found);
        return found;
    }

    void check(const ColumnsObject* columns, bool public_only) const {
        rules_.check(columns == nullptr ? nullptr : &columns->columns(), public_only);
    }

   private:
    static std::string source_of(const Json& conditions) {
        std::string out;
        conditions.write_sorted(out);
        return out;
    }

    Json source_json_;
    RuleSet rules_;
};

// Keeps all that it was made of.
class AppliedRulesObject {
   public:
    // ids: of the catalog's items. filter, boosts: the bits of the items that meet the conditions.
    AppliedRulesObject(const RuleSetObject& rules, const ColumnsObject& columns, const py::object& ids,
                       const MaybeArray& present, const MaybeArray& filter, const std::vector<py::array>& boosts)
        : owners_(py::make_tuple(columns, present, filter, boosts)),
          applied_(made(rules.rules(), columns.columns(), bound_ids_of(ids), present, filter, boosts)) {}

    const AppliedRules& applied() const { return applied_; }

    // The items whose pins are shown.
    std::vector<std::int32_t> shown_pins(const py::array& clicks, const MaybeArray& excluded, const MaybeArray& allowed,
                                         bool exclude_seen) const {
        Conditions conditions;
        conditions.exclude_seen = exclude_seen;
        if (excluded) {
            conditions.excluded = checked_data<std::int32_t>(*excluded, 1, "excluded", "int32");
            conditions.n_excluded = excluded->size();
        }
        if (allowed) conditions.allowed = checked_bits(*allowed, "allowed", applied_.arrangement().n_items());
        const auto* const session = checked_data<std::int32_t>(clicks, 1, "clicks", "int32");
        std::vector<std::int32_t> items;
        for (const Pin& pin : applied_.shown_pins(conditions, session, clicks.size())) items.push_back(pin.item);
        return items;
    }

    // The first `count` candidates that the limits let into a list next to the items `kept`.
    std::vector<std::int32_t> within_limits(const py::array& kept, const py::array& candidates,
                                            std::size_t count) const {
        return applied_.arrangement().within_limits(checked_items(kept, "kept"),
                                                    checked_items(candidates, "candidates"), count);
    }

   private:
    std::vector<std::int32_t> checked_items(const py::array& array, const char* name) const {
        const auto* const data = checked_data<std::int32_t>(array, 1, name, "int32");
        for (py::ssize_t i = 0; i < array.size(); ++i) {
            if (data[i] < 0 || data[i] >= applied_.arrangement().n_items()) {
                throw py::index_error(std::string(name) + " has an item outside the catalog");
            }
        }
        return {data, data + array.size()};
    }

    static const std::uint8_t* checked_bits(const py::array& bits, const char* name, std::int64_t n_items) {
        if (bits.size() != (n_items + 7) / 8) {
            throw py::value_error(std::string(name) + " must have a bit for each item");
        }
        return checked_data<std::uint8_t>(bits, 1, name, "uint8");
    }

    static AppliedRules made(const RuleSet& rules, const Columns& columns, const BoundIds& ids,
                             const MaybeArray& present, const MaybeArray& filter,
                             const std::vector<py::array>& boosts) {
        rules.check(&columns);  // what follows relies on it
        if (boosts.size() != rules.boosts.size()) throw py::value_error("boosts must have the bits of each boost");
        const std::int64_t n_items = ids.size();
        RuleBits bits;
        if (filter) bits.filter = checked_bits(*filter, "filter", n_items);
        for (const py::array& boost : boosts) bits.boosts.push_back(checked_bits(boost, "boosts", n_items));
        py::list pins;
        for (const auto& [position, name] : rules.pins) {
            const std::optional<std::int64_t> number = ids.table.text() ? std::nullopt : whole_number(name);
            pins.append(number ? py::object(py::int_(*number)) : py::object(py::str(name)));
        }
        return {rules,   columns,
                bits,    find_objects(ids, pins.ptr()),
                n_items, present ? checked_bits(*present, "present", n_items) : nullptr};
    }

    py::tuple owners_;  // kept alive
    AppliedRules applied_;
};

}  // namespace

const AppliedRules& applied_rules_of(py::handle object) {
    return py::cast<const AppliedRulesObject&>(object).applied();
}

void bind_rules(py::module_& module) {
    py::class_<ColumnsObject>(module, "ItemColumns").def(py::init<const py::list&>(), py::arg("columns"));
    py::class_<ConditionObject>(module, "Condition", "See mtaw_fast.kernels.native.rules.")
        .def_readonly("source", &ConditionObject::source)
        .def_property_readonly("columns", [](const ConditionObject& self) { return self.columns(false); })
        .def_property_readonly("current", [](const ConditionObject& self) { return self.columns(true); })
        .def("bits", &ConditionObject::bits, py::arg("columns"), py::arg("current"), py::arg("n_items"));
    py::class_<RuleSetObject>(module, "RuleSet", "See mtaw_fast.kernels.native.rules.")
        .def(py::init<const std::string&, const std::string&>(), py::arg("json"), py::arg("where"))
        .def_property_readonly("filter", &RuleSetObject::filter)
        .def_property_readonly("boosts", &RuleSetObject::boosts)
        .def_property_readonly("columns", [](const RuleSetObject& self) { return self.rules().columns(); })
        .def_property_readonly("current", [](const RuleSetObject& self) { return self.rules().columns(true); })
        .def_property_readonly("texts", &RuleSetObject::texts)
        .def("check", &RuleSetObject::check, py::arg("columns"), py::arg("public_only"));
    py::class_<AppliedRulesObject>(module, "AppliedRules", "See mtaw_fast.kernels.native.rules.")
        .def(py::init<const RuleSetObject&, const ColumnsObject&, const py::object&, const MaybeArray&,
                      const MaybeArray&, const std::vector<py::array>&>(),
             py::arg("rules"), py::arg("columns"), py::arg("ids"), py::arg("present"), py::arg("filter"),
             py::arg("boosts"))
        .def("shown_pins", &AppliedRulesObject::shown_pins, py::arg("clicks"), py::arg("excluded"), py::arg("allowed"),
             py::arg("exclude_seen"))
        .def("within_limits", &AppliedRulesObject::within_limits, py::arg("kept"), py::arg("candidates"),
             py::arg("count"));
}

}  // namespace mtaw
