#include "ids/python_ids.hpp"

#include <pybind11/gil_safe_call_once.h>

#include <cstddef>
#include <string_view>

namespace py = pybind11;

namespace mtaw {
namespace {

// numpy.integer, kept for good: a type object that outlives every table.
PyObject* numpy_integer() {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> type;
    return type.call_once_and_store_result([] { return py::module_::import("numpy").attr("integer"); })
        .get_stored()
        .ptr();
}

std::int32_t find_long(const IdTable& table, PyObject* id) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(id, &overflow);
    return overflow != 0 ? kUnknownId : table.find(static_cast<std::int64_t>(number));
}

std::int32_t find_number(const IdTable& table, PyObject* id) {
    if (PyLong_Check(id)) return PyBool_Check(id) ? kUnknownId : find_long(table, id);
    const int is_number = PyObject_IsInstance(id, numpy_integer());
    PyObject* plain = is_number == 1 ? PyNumber_Index(id) : nullptr;
    if (plain == nullptr) {
        PyErr_Clear();
        return kUnknownId;
    }
    const std::int32_t found = find_long(table, plain);
    Py_DECREF(plain);
    return found;
}

std::int32_t find_text(const IdTable& table, PyObject* id) {
    if (!PyUnicode_Check(id)) return kUnknownId;
    Py_ssize_t size = 0;
    if (const char* bytes = PyUnicode_AsUTF8AndSize(id, &size)) {
        return table.find(std::string_view(bytes, static_cast<std::size_t>(size)));
    }
    PyErr_Clear();  // a lone surrogate
    PyObject* encoded = PyUnicode_AsEncodedString(id, "utf-8", "surrogatepass");
    if (encoded == nullptr) throw py::error_already_set();  // out of memory
    const std::int32_t found = table.find(
        std::string_view(PyBytes_AS_STRING(encoded), static_cast<std::size_t>(PyBytes_GET_SIZE(encoded))));
    Py_DECREF(encoded);
    return found;
}

}  // namespace

std::int32_t find_object(const IdTable& table, PyObject* id) {
    return table.text() ? find_text(table, id) : find_number(table, id);
}

py::object external_object(const IdTable& table, std::int32_t internal) {
    PyObject* made = nullptr;
    if (table.text()) {
        const std::string_view bytes = table.text_of(internal);
        made = PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogatepass");
    } else {
        made = PyLong_FromLongLong(table.number_of(internal));
    }
    if (made == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
}

py::list external_list(const IdTable& table, const std::int32_t* internal, std::int64_t count) {
    py::list ids(static_cast<std::size_t>(count));
    for (std::int64_t place = 0; place < count; ++place) {
        PyList_SET_ITEM(ids.ptr(), place, external_object(table, internal[place]).release().ptr());
    }
    return ids;
}

}  // namespace mtaw
