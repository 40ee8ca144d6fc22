#include "ids/python_ids.hpp"

#include <pybind11/gil_safe_call_once.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace py = pybind11;

namespace mtaw {
namespace {

// numpy.integer, never released: a type object that outlives every table.
PyObject* numpy_integer() {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> type;
    return type.call_once_and_store_result([] { return py::module_::import("numpy").attr("integer"); })
        .get_stored()
        .ptr();
}

// Whether `id` is a whole number within int64, and which. Of a numpy integer its __index__ counts.
bool number_in(PyObject* id, std::int64_t& number) {
    if (!PyLong_Check(id)) {
        if (PyObject_IsInstance(id, numpy_integer()) != 1) {
            PyErr_Clear();
            return false;
        }
        PyObject* plain = PyNumber_Index(id);
        if (plain == nullptr) PyErr_Clear();
        const bool found = plain != nullptr && number_in(plain, number);
        Py_XDECREF(plain);
        return found;
    }
    int overflow = 0;
    number = PyLong_AsLongLongAndOverflow(id, &overflow);
    return overflow == 0 && !PyBool_Check(id);
}

// Whether `id` is a text, and which: a view of the object's own bytes, or of `encoded` where it has none.
bool text_in(PyObject* id, std::string_view& text, py::object& encoded) {
    if (!PyUnicode_Check(id)) return false;
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(id, &size);
    if (bytes == nullptr) {
        PyErr_Clear();  // a lone surrogate
        encoded = py::reinterpret_steal<py::object>(PyUnicode_AsEncodedString(id, "utf-8", "surrogatepass"));
        if (!encoded) throw py::error_already_set();  // out of memory
        bytes = PyBytes_AS_STRING(encoded.ptr());
        size = PyBytes_GET_SIZE(encoded.ptr());
    }
    text = std::string_view(bytes, static_cast<std::size_t>(size));
    return true;
}

// Up to IdTable::kGroup ids on their way, with the positions of their answers.
struct Group {
    std::size_t count = 0;
    std::size_t positions[IdTable::kGroup];
    std::int64_t numbers[IdTable::kGroup];
    std::string_view texts[IdTable::kGroup];
    py::object owned_ids[IdTable::kGroup], encoded[IdTable::kGroup];  // own what the views see

    void add(const IdTable& table, py::object id, std::size_t position) {
        const bool fits =
            table.text() ? text_in(id.ptr(), texts[count], encoded[count]) : number_in(id.ptr(), numbers[count]);
        if (!fits) return;
        owned_ids[count] = std::move(id);
        positions[count++] = position;
    }

    void find(const BoundIds& ids, std::vector<std::int32_t>& found) {
        const IdTable& table = ids.table;
        std::int32_t internal[IdTable::kGroup];
        if (table.text()) {
            table.find(texts, count, internal);
        } else {
            table.find(numbers, count, internal);
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (ids.added) internal[i] = added_id(*ids.added, key(table, i), internal[i]);
            found[positions[i]] = internal[i];
        }
        count = 0;
    }

   private:
    // The id as a plain str or int, so that looking it up runs nobody's code.
    py::object key(const IdTable& table, std::size_t i) const {
        if (!table.text()) return py::int_(numbers[i]);
        if (PyUnicode_CheckExact(owned_ids[i].ptr())) return owned_ids[i];
        auto plain = py::reinterpret_steal<py::object>(PyUnicode_FromObject(owned_ids[i].ptr()));
        if (!plain) throw py::error_already_set();  // out of memory
        return plain;
    }

    static std::int32_t added_id(const AddedIds& added, const py::object& key, std::int32_t otherwise) {
        PyObject* const internal = PyDict_GetItemWithError(added.internal_ids.ptr(), key.ptr());
        if (internal != nullptr) return py::cast<std::int32_t>(py::handle(internal));
        if (PyErr_Occurred() != nullptr) throw py::error_already_set();
        return otherwise;
    }
};

py::object external_object(const IdTable& table, std::int32_t internal) {
    PyObject* made = nullptr;
    if (table.text()) {
        const std::string_view bytes = table.text_of(internal);
        made = PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogatepass");
        if (made == nullptr && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
            throw py::value_error("the external id of item " + std::to_string(internal) +
                                  " is no UTF-8: the id table is damaged; restore it or build it again");
        }
    } else {
        made = PyLong_FromLongLong(table.number_of(internal));
    }
    if (made == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
}

}  // namespace

std::vector<std::int32_t> find_objects(const BoundIds& ids, PyObject* sequence) {
    const IdTable& table = ids.table;
    std::vector<std::int32_t> found;
    found.reserve(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(sequence)));
    Group group;
    for (Py_ssize_t position = 0; position < PySequence_Fast_GET_SIZE(sequence); ++position) {
        found.push_back(kUnknownId);
        group.add(table, py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(sequence, position)),
                  static_cast<std::size_t>(position));
        if (group.count == IdTable::kGroup) group.find(ids, found);
    }
    group.find(ids, found);
    return found;
}

py::list external_list(const BoundIds& ids, const std::int32_t* internal, std::int64_t count) {
    const std::int64_t n_base = ids.table.size();
    for (std::int64_t i = 0; i < count; ++i) {
        if (internal[i] < n_base) ids.table.prefetch(internal[i]);
    }
    py::list external(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t item = internal[i];
        py::object id;
        if (item < n_base) {
            id = external_object(ids.table, item);
        } else {
            id = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(ids.added->items.ptr(), item - n_base));
        }
        PyList_SET_ITEM(external.ptr(), i, id.release().ptr());
    }
    return external;
}

}  // namespace mtaw
