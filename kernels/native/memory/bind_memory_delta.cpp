// Python bindings of the session memory's delta.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "memory/delta.hpp"
#include "python_objects.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

template <typename T>
py::array_t<T> array_of(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

class DeltaObject {
   public:
    DeltaObject(const py::dict& tables, const MemorySettings& settings, std::int64_t capacity, std::int64_t max_clicks)
        : owners_(tables.attr("copy")()),
          delta_({bound_tables(owners_).view, settings.recency, settings.once_from}, settings,
                 bound_tables(owners_).view.n_items + capacity, max_clicks) {}

    const MemoryDelta& delta() const { return delta_; }

    void click(const py::array& handles, const py::array& items) {
        const auto* handle_data = checked_data<std::int64_t>(handles, 1, "handles", "int64");
        const auto* item_data = checked_data<std::int32_t>(items, 1, "items", "int32");
        const std::int64_t count = items.size();
        if (handles.size() != count) {
            throw py::value_error("there are " + std::to_string(handles.size()) + " handles for " +
                                  std::to_string(count) + " items: give one for each click");
        }
        const Unlocked unlocked;
        delta_.click(handle_data, item_data, count);
    }

    void resume(std::int64_t handle, std::int64_t base_session) {
        const Unlocked unlocked;
        delta_.resume(handle, base_session);
    }

    bool forget(std::int64_t handle) {
        const Unlocked unlocked;
        return delta_.forget(handle);
    }

    bool forget_base(std::int64_t base_session) {
        const Unlocked unlocked;
        return delta_.forget_base(base_session);
    }

    void add_prior(std::int32_t item, std::int32_t neighbor, const py::array& values) {
        const auto* data = checked_data<double>(values, 1, "values", "float64");
        if (values.size() != kPairKinds) {
            throw py::value_error("values must be the " + std::to_string(int{kPairKinds}) + " of a pair, not " +
                                  std::to_string(values.size()));
        }
        const Unlocked unlocked;
        delta_.add_prior(item, neighbor, data);
    }

    py::tuple ordered() const {
        MemoryDelta::Ordered found;
        {
            const Unlocked unlocked;
            found = delta_.ordered();
        }
        return py::make_tuple(array_of(found.handles), array_of(found.items), array_of(found.offsets));
    }

    py::tuple row(std::int32_t item) const {
        MemoryDelta::Row found;
        {
            const Unlocked unlocked;
            found = delta_.row(item);
        }
        py::array_t<double> values({static_cast<py::ssize_t>(found.neighbors.size()), py::ssize_t{kPairKinds}});
        std::copy(found.values.begin(), found.values.end(), values.mutable_data());
        return py::make_tuple(array_of(found.neighbors), values);
    }

    py::array_t<std::int64_t> counts(std::int32_t item) const {
        MemoryDelta::Counts found{};
        {
            const Unlocked unlocked;
            found = delta_.counts(item);
        }
        return py::array_t<std::int64_t>(py::ssize_t{kCountKinds}, found.values);
    }

    // Of the tables without what was dropped: neighbors int32[n] and their values uint16[n, kPairKinds].
    py::tuple base_row(std::int64_t item) const {
        const std::int64_t n_items = delta_.base().tables().n_items;
        if (item < 0 || item >= n_items)
            throw py::index_error("item " + std::to_string(item) + " is outside 0.." + std::to_string(n_items - 1));
        const auto lock = delta_.read();
        const RowView row = delta_.base().row(item);
        py::array_t<std::uint16_t> values({static_cast<py::ssize_t>(row.count), py::ssize_t{kPairKinds}});
        std::copy_n(row.values, row.count * kPairKinds, values.mutable_data());
        return py::make_tuple(py::array_t<std::int32_t>(row.count, row.neighbors), values);
    }

    MemoryDelta::Sizes sizes() const {
        const Unlocked unlocked;
        return delta_.sizes();
    }

   private:
    py::dict owners_;  // kept alive
    MemoryDelta delta_;
};

template <std::int64_t MemoryDelta::Sizes::* Size>
std::int64_t size_of(const DeltaObject& self) {
    return self.sizes().*Size;
}

}  // namespace

const MemoryDelta& memory_delta_of(py::handle object) { return py::cast<const DeltaObject&>(object).delta(); }

void bind_memory_delta(py::module_& module) {
    using Sizes = MemoryDelta::Sizes;
    py::class_<DeltaObject>(module, "MemoryDelta", "See mtaw_fast.kernels.native.memory_delta.")
        .def(py::init(
                 [](const py::dict& tables, const py::tuple& settings, std::int64_t capacity, std::int64_t max_clicks) {
                     return std::make_unique<DeltaObject>(tables, memory_settings_of(settings), capacity, max_clicks);
                 }),
             py::arg("tables"), py::arg("settings"), py::arg("capacity"), py::arg("max_clicks"))
        .def("click", &DeltaObject::click, py::arg("handles"), py::arg("items"))
        .def("resume", &DeltaObject::resume, py::arg("handle"), py::arg("base_session"))
        .def("forget", &DeltaObject::forget, py::arg("handle"))
        .def("forget_base", &DeltaObject::forget_base, py::arg("base_session"))
        .def("add_prior", &DeltaObject::add_prior, py::arg("item"), py::arg("neighbor"), py::arg("values"))
        .def("ordered", &DeltaObject::ordered)
        .def("row", &DeltaObject::row, py::arg("item"))
        .def("counts", &DeltaObject::counts, py::arg("item"))
        .def("base_row", &DeltaObject::base_row, py::arg("item"))
        .def_property_readonly("n_catalog", [](const DeltaObject& self) { return self.delta().n_catalog(); })
        .def_property_readonly("n_sessions", &size_of<&Sizes::sessions>)
        .def_property_readonly("n_clicks", &size_of<&Sizes::clicks>)
        .def_property_readonly("n_rows", &size_of<&Sizes::items>)
        .def_property_readonly("n_pairs", &size_of<&Sizes::pairs>)
        .def_property_readonly("n_terms", &size_of<&Sizes::terms>)
        .def_property_readonly("n_ignored", &size_of<&Sizes::ignored>)
        .def_property_readonly("n_dropped", &size_of<&Sizes::dropped>)
        .def_property_readonly("n_bytes", &size_of<&Sizes::bytes>);
}

}  // namespace mtaw
