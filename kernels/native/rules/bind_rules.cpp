// Python bindings of rules: sets of them, columns over numpy arrays, and arrangements.
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
#include "rules/arrange.hpp"
#include "rules/rule_set.hpp"
#include "text/json.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

// A vector in a tuple; its length goes into `size`.
const std::uint8_t* bits_in(const py::handle& object, std::int64_t& size) {
    const auto array = py::cast<py::array>(object);
    size = array.size();
    return checked_data<std::uint8_t>(array, 1, "bits", "uint8");
}

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

    std::vector<std::pair<std::string, std::int64_t>> limits() const {
        std::vector<std::pair<std::string, std::int64_t>> found;
        for (const RuleSet::Limited& limit : rules_.limits) found.emplace_back(limit.per, limit.most);
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

class ArrangementObject {
   public:
    // rules, columns: null without limits; the columns are kept alive.
    ArrangementObject(std::int64_t n_items, const py::list& boosts, const RuleSetObject* rules,
                      const py::object& columns)
        : owners_(py::make_tuple(boosts, columns)),
          arrangement_(n_items, boosts_of(n_items, boosts), limits_of(rules, columns)) {}

    py::object arrange(const py::array& ids, const py::array& scores, std::int64_t k, bool whole,
                       const PinPairs& pin_pairs) const {
        const RankedPart part{checked_data<std::int32_t>(ids, 1, "ids", "int32"),
                              checked_data<float>(scores, 1, "scores", "float32"), ids.size(), whole};
        if (scores.size() != ids.size()) throw py::value_error("there must be a score for each id");
        const std::vector<Pin> pins = pins_of(arrangement_, pin_pairs);
        Arranged result;
        bool done = false;
        {
            const Unlocked unlocked;
            done = arrangement_.arrange(part, k, pins, result);
        }
        if (!done) return py::none();
        const auto array_of = [](const auto& values) {
            using T = typename std::decay_t<decltype(values)>::value_type;
            return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
        };
        return py::make_tuple(array_of(result.ids), array_of(result.scores), array_of(result.boosts),
                              array_of(result.pinned).attr("view")("bool"));
    }

    std::optional<py::array_t<std::uint8_t>> raised() const {
        const std::uint8_t* const bits = arrangement_.raised();
        if (bits == nullptr) return std::nullopt;
        return py::array_t<std::uint8_t>((arrangement_.n_items() + 7) / 8, bits);
    }

    const Arrangement& arrangement() const { return arrangement_; }

   private:
    static std::vector<Boost> boosts_of(std::int64_t n_items, const py::list& boosts) {
        std::vector<Boost> found;
        for (const py::handle& boost : boosts) {
            const auto parts = py::cast<py::tuple>(boost);
            std::int64_t size = 0;
            const std::uint8_t* const bits = bits_in(parts[0], size);
            if (size != (n_items + 7) / 8) throw py::value_error("a boost needs a bit for each item");
            found.push_back({bits, py::cast<double>(parts[1]), py::cast<std::int64_t>(parts[2])});
        }
        return found;
    }

    static std::vector<Limit> limits_of(const RuleSetObject* rules, const py::object& columns) {
        if (rules == nullptr || columns.is_none()) return {};
        const Columns& item_columns = py::cast<const ColumnsObject&>(columns).columns();
        rules->rules().check(&item_columns);  // what follows relies on it
        return rules->rules().limits_of(item_columns);
    }

    py::tuple owners_;  // kept alive
    Arrangement arrangement_;
};

}  // namespace

const Arrangement& arrangement_of(py::handle object) {
    return py::cast<const ArrangementObject&>(object).arrangement();
}

std::vector<Pin> pins_of(const Arrangement& arrangement, const PinPairs& pin_pairs) {
    std::vector<Pin> pins;
    for (const auto& [position, item] : pin_pairs) {
        if (item < 0 || item >= arrangement.n_items()) throw py::index_error("a pinned item is outside the items");
        pins.push_back({position, item});
    }
    return pins;
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
        .def_property_readonly("limits", &RuleSetObject::limits)
        .def_property_readonly("pins", [](const RuleSetObject& self) { return self.rules().pins; })
        .def_property_readonly("columns", [](const RuleSetObject& self) { return self.rules().columns(); })
        .def_property_readonly("current", [](const RuleSetObject& self) { return self.rules().columns(true); })
        .def("check", &RuleSetObject::check, py::arg("columns"), py::arg("public_only"));
    py::class_<ArrangementObject>(module, "Arrangement", "See mtaw_fast.kernels.native.rules.")
        .def(py::init<std::int64_t, const py::list&, const RuleSetObject*, const py::object&>(), py::arg("n_items"),
             py::arg("boosts"), py::arg("rules") = nullptr, py::arg("columns") = py::none())
        .def_property_readonly("raised", &ArrangementObject::raised)
        .def("arrange", &ArrangementObject::arrange, py::arg("ids"), py::arg("scores"), py::arg("k"), py::arg("whole"),
             py::arg("pins"));
}

}  // namespace mtaw
