// Checks the arrays of a filter's program and of an arrangement, and releases the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "rules/arrange.hpp"
#include "rules/program.hpp"
#include "rules/python_rules.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

template <typename T>
struct Named;
template <>
struct Named<double> {
    static constexpr const char* name = "float64";
};
template <>
struct Named<std::int64_t> {
    static constexpr const char* name = "int64";
};
template <>
struct Named<std::int32_t> {
    static constexpr const char* name = "int32";
};
template <>
struct Named<std::int8_t> {
    static constexpr const char* name = "int8";
};
template <>
struct Named<std::uint8_t> {
    static constexpr const char* name = "uint8";
};

// A vector in a tuple; its length goes into `size`.
template <typename T>
const T* column(const py::handle& object, std::int64_t& size) {
    const auto array = py::cast<py::array>(object);
    size = array.size();
    return checked_data<T>(array, 1, "a column", Named<T>::name);
}

Compare compare_of(const std::string& op) {
    static const std::pair<const char*, Compare> kNames[] = {
        {"<", Compare::less},           {"<=", Compare::less_equal}, {">", Compare::greater},
        {">=", Compare::greater_equal}, {"==", Compare::equal},      {"!=", Compare::not_equal}};
    for (const auto& [name, compare] : kNames) {
        if (op == name) return compare;
    }
    throw py::value_error("there is no comparison " + op);
}

template <typename T>
std::vector<T> copied(const py::handle& object) {
    std::int64_t size = 0;
    const T* const data = column<T>(object, size);
    return {data, data + size};
}

template <typename T>
const T* others_of(const py::handle& object, std::int64_t n_rows) {
    if (object.is_none()) return nullptr;
    std::int64_t size = 0;
    const T* const data = column<T>(object, size);
    if (size != n_rows) throw py::value_error("two columns of one table have different lengths");
    return data;
}

Missing missing_of(const std::string& kind, const py::handle& object, std::int64_t& n_rows) {
    Missing missing;
    if (kind == "number") missing.numbers = column<double>(object, n_rows);
    if (kind == "time") missing.times = column<std::int64_t>(object, n_rows);
    if (kind == "boolean") missing.flags = column<std::int8_t>(object, n_rows);
    if (kind == "category") missing.codes = column<std::int32_t>(object, n_rows);
    if (kind == "categories" || kind == "text") {
        missing.offsets = column<std::int64_t>(object, n_rows);
        --n_rows;
    }
    if (kind == "vector") {
        const auto array = py::cast<py::array>(object);
        missing.vectors = checked_data<float>(array, 2, "a column", "float32");
        n_rows = array.shape(0);
        missing.d = array.shape(1);
    }
    return missing;
}

Instruction instruction_of(const py::tuple& one) {
    const auto what = py::cast<std::string>(one[0]);
    std::int64_t n = 0;
    if (what == "all") return Combine{Combine::How::all, py::cast<std::int64_t>(one[1])};
    if (what == "any") return Combine{Combine::How::any, py::cast<std::int64_t>(one[1])};
    if (what == "not") return Combine{Combine::How::opposite, 1};
    if (what == "constant") return Leaf{Constant{py::cast<bool>(one[1])}, 0};
    if (what == "missing") {
        const Missing missing = missing_of(py::cast<std::string>(one[1]), one[2], n);
        return Leaf{missing, n};
    }
    if (what == "number") {
        const double* const values = column<double>(one[1], n);
        return Leaf{NumberIs{values, others_of<double>(one[2], n), py::cast<double>(one[3]),
                             compare_of(py::cast<std::string>(one[4]))},
                    n};
    }
    if (what == "time") {
        const std::int64_t* const values = column<std::int64_t>(one[1], n);
        return Leaf{TimeIs{values, others_of<std::int64_t>(one[2], n), py::cast<std::int64_t>(one[3]),
                           compare_of(py::cast<std::string>(one[4]))},
                    n};
    }
    if (what == "flag") {
        const std::int8_t* const values = column<std::int8_t>(one[1], n);
        const auto constant = static_cast<std::int8_t>(py::cast<bool>(one[3]));
        return Leaf{FlagIs{values, others_of<std::int8_t>(one[2], n), constant, py::cast<bool>(one[4])}, n};
    }
    if (what == "codes") {
        const std::int32_t* const codes = column<std::int32_t>(one[1], n);
        return Leaf{CodeIn{codes, copied<std::uint8_t>(one[2])}, n};
    }
    if (what == "same") {
        const std::int32_t* const codes = column<std::int32_t>(one[1], n);
        return Leaf{
            CodeIs{codes, others_of<std::int32_t>(one[2], n), copied<std::int32_t>(one[3]), py::cast<bool>(one[4])}, n};
    }
    if (what == "list") {
        std::int64_t n_offsets = 0;
        const std::int64_t* const offsets = column<std::int64_t>(one[1], n_offsets);
        const std::int32_t* const codes = column<std::int32_t>(one[2], n);
        return Leaf{ListHas{offsets, codes, copied<std::uint8_t>(one[3]), py::cast<bool>(one[4])}, n_offsets - 1};
    }
    if (what == "text") {
        std::int64_t n_offsets = 0;
        const std::int64_t* const offsets = column<std::int64_t>(one[1], n_offsets);
        const std::uint8_t* const data = column<std::uint8_t>(one[2], n);
        return Leaf{TextIn{offsets, data, py::cast<std::vector<std::string>>(one[3]), py::cast<bool>(one[4])},
                    n_offsets - 1};
    }
    throw py::value_error("there is no instruction " + what);
}

py::array_t<std::uint8_t> rule_bits(const py::list& instructions, std::int64_t n_items) {
    std::vector<Instruction> program;
    for (const py::handle& one : instructions) program.push_back(instruction_of(py::cast<py::tuple>(one)));
    const RuleProgram checked(std::move(program));
    py::array_t<std::uint8_t> bits((n_items + 7) / 8);
    std::uint8_t* const data = bits.mutable_data();
    {
        const Unlocked unlocked;
        checked.run(n_items, data);
    }
    return bits;
}

class ArrangementObject {
 public:
    ArrangementObject(std::int64_t n_items, const py::list& boosts, const py::list& limits)
        : owners_(py::make_tuple(boosts, limits)), arrangement_(n_items, boosts_of(n_items, boosts), limits_of(limits)) {}

    py::object arrange(const py::array& ids, const py::array& scores, std::int64_t k, bool whole,
                       const Places& places) const {
        const RankedPart part{checked_data<std::int32_t>(ids, 1, "ids", "int32"),
                              checked_data<float>(scores, 1, "scores", "float32"), ids.size(), whole};
        if (scores.size() != ids.size()) throw py::value_error("there must be a score for each id");
        const std::vector<Pin> pins = pins_of(arrangement_, places);
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

    const Arrangement& arrangement() const { return arrangement_; }

 private:
    static std::vector<Boost> boosts_of(std::int64_t n_items, const py::list& boosts) {
        std::vector<Boost> found;
        for (const py::handle& one : boosts) {
            const auto parts = py::cast<py::tuple>(one);
            std::int64_t size = 0;
            const std::uint8_t* const bits = column<std::uint8_t>(parts[0], size);
            if (size != (n_items + 7) / 8) throw py::value_error("a boost needs a bit for each item");
            found.push_back({bits, py::cast<double>(parts[1]), py::cast<std::int64_t>(parts[2])});
        }
        return found;
    }

    static std::vector<Limit> limits_of(const py::list& limits) {
        std::vector<Limit> found;
        for (const py::handle& one : limits) {
            const auto parts = py::cast<py::tuple>(one);
            const auto kind = py::cast<std::string>(parts[0]);
            Limit limit;
            std::int64_t size = 0;
            limit.most = py::cast<std::int64_t>(parts[2]);
            if (kind == "categories") {
                const auto arrays = py::cast<py::tuple>(parts[1]);
                limit.offsets = column<std::int64_t>(arrays[0], size);
                limit.n_rows = size - 1;
                limit.codes = column<std::int32_t>(arrays[1], size);
            } else if (kind == "boolean") {
                limit.flags = column<std::int8_t>(parts[1], limit.n_rows);
            } else {
                limit.codes = column<std::int32_t>(parts[1], limit.n_rows);
            }
            found.push_back(limit);
        }
        return found;
    }

    py::tuple owners_;  // kept alive
    Arrangement arrangement_;
};

}  // namespace

const Arrangement& arrangement_of(py::handle object) { return py::cast<const ArrangementObject&>(object).arrangement(); }

std::vector<Pin> pins_of(const Arrangement& arrangement, const Places& places) {
    std::vector<Pin> pins;
    for (const auto& [place, item] : places) {
        if (item < 0 || item >= arrangement.n_items()) throw py::index_error("a pinned item is outside the items");
        pins.push_back({place, item});
    }
    return pins;
}

void bind_rules(py::module_& module) {
    module.def("rule_bits", &rule_bits, py::arg("instructions"), py::arg("n_items"),
               "The items that pass a filter; see mtaw_fast.kernels.native.rules.");
    py::class_<ArrangementObject>(module, "Arrangement", "See mtaw_fast.kernels.native.rules.")
        .def(py::init<std::int64_t, const py::list&, const py::list&>(), py::arg("n_items"), py::arg("boosts"),
             py::arg("limits"))
        .def("arrange", &ArrangementObject::arrange, py::arg("ids"), py::arg("scores"), py::arg("k"), py::arg("whole"),
             py::arg("pins"));
}

}  // namespace mtaw
