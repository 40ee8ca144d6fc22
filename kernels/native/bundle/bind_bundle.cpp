// Bundles and tensor files for Python: opened and checked without the GIL, given as read-only views of their bytes.
#include <fcntl.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "bundle/bundle.hpp"
#include "bundle/failure.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

// The system's files, opened by a function of Python: tests put another one in its place.
class PythonFiles {
   public:
    explicit PythonFiles(py::object open) : open_(std::move(open)) {}

    FileAccess access(const std::string& mapping, int threads) {
        FileAccess access = FileAccess::of_system(mapping == "map" ? Mapping::map : Mapping::seal, threads);
        access.methods.context = this;
        access.methods.open = open_file;
        return access;
    }

    // Calls read() without the GIL. An exception of `open` is thrown as it is, a BundleError as Python's `error`, whose
    // cause is the OSError of the call that failed.
    template <typename Read>
    auto run(const char* error, const Read& read) {
        try {
            const Unlocked unlocked;
            return read();
        } catch (const LaterFormatError& failure) {
            fail("LaterFormatError", failure);
        } catch (const BundleError& failure) {
            fail(error, failure);
        }
    }

   private:
    [[noreturn]] void fail(const char* type, const BundleError& failure) const {
        if (failure_) std::rethrow_exception(failure_);
        const std::string text = failure.what();
        const auto message = py::reinterpret_steal<py::object>(
            PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<py::ssize_t>(text.size())));
        const py::object error = py::module_::import("mtaw_fast.errors").attr(type)(message);
        if (failure.errno_value() != 0) {
            py::object cause = py::reinterpret_borrow<py::object>(PyExc_OSError)(
                failure.errno_value(), reason_of_system(failure.errno_value()));
            PyException_SetCause(error.ptr(), cause.release().ptr());
        }
        PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
        throw py::error_already_set();
    }

    static int open_file(void* context, const char* path, void** file, std::uint64_t* size) {
        auto& files = *static_cast<PythonFiles*>(context);
        const py::gil_scoped_acquire lock;
        if (files.failure_) return ECANCELED;
        try {
            const auto name = py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefault(path));
            // Not blocking: a pipe would wait for a writer forever.
            const int descriptor = files.open_(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC).cast<int>();
            return file_of_descriptor(descriptor, file, size);
        } catch (const py::error_already_set& error) {
            const py::object number = py::getattr(error.value(), "errno", py::none());
            if (error.matches(PyExc_OSError) && py::isinstance<py::int_>(number)) return number.cast<int>();
            files.failure_ = std::current_exception();
            return ECANCELED;
        }
    }

    py::object open_;
    std::exception_ptr failure_;
};

py::dtype dtype_of(Dtype dtype) {
    constexpr const char* kNames[] = {"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"};
    return py::dtype(kNames[static_cast<int>(dtype)]);
}

template <typename Owner>
py::array view(py::dtype dtype, std::vector<std::int64_t> shape, const void* data, std::shared_ptr<Owner> owner) {
    const std::vector<py::ssize_t> extents(shape.begin(), shape.end());
    const py::capsule base(new std::shared_ptr<Owner>(std::move(owner)),
                           [](void* held) { delete static_cast<std::shared_ptr<Owner>*>(held); });
    const bool is_empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
    py::array array =
        is_empty ? py::array(std::move(dtype), extents) : py::array(std::move(dtype), extents, data, base);
    py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return array;
}

// In the order of the header, in which a copy of the file is written.
py::dict views(const std::shared_ptr<const TensorFile>& file) {
    std::vector<const std::pair<const std::string, Tensor>*> ordered;
    for (const auto& entry : file->tensors()) ordered.push_back(&entry);
    std::sort(ordered.begin(), ordered.end(),
              [](const auto* a, const auto* b) { return a->second.place < b->second.place; });
    py::dict arrays;
    for (const auto* entry : ordered) {
        const auto& [name, tensor] = *entry;
        const auto key = py::reinterpret_steal<py::object>(
            PyUnicode_DecodeUTF8(name.data(), static_cast<py::ssize_t>(name.size()), "surrogatepass"));
        if (!key) throw py::error_already_set();
        arrays[key] = view(dtype_of(tensor.dtype), tensor.shape, tensor.data, file);
    }
    return arrays;
}

py::tuple open_bundle(const std::string& folder, bool verify, const std::string& mapping, int threads,
                      const py::object& open) {
    PythonFiles files(open);
    const FileAccess access = files.access(mapping, threads);
    const auto bundle =
        files.run("BundleError", [&] { return Bundle::open(folder, access, verify, Bundle::Keep::all); });
    py::dict parts;
    for (const auto& [part, file] : bundle->files()) parts[py::str(part)] = views(file);
    if (!bundle->files().contains("catalog")) {  // a compact bundle's, made at load
        const std::vector<std::int64_t> shape = {bundle->size(), bundle->manifest().settings.d};
        parts["weights"]["item_embedding"] = view(py::dtype("f4"), shape, bundle->embedding(), bundle);
        parts["catalog"] = py::dict(py::arg("catalog") = view(py::dtype("f4"), shape, bundle->rows(), bundle));
    }
    return py::make_tuple(py::bytes(bundle->manifest_text()), parts);
}

py::dict map_tensors(const std::string& path, const std::string& mapping, const py::object& open) {
    PythonFiles files(open);
    const FileAccess access = files.access(mapping, 1);
    return views(files.run("DataError", [&] {
        auto file = std::make_unique<OpenFile>(access, path);
        TensorFile::check_length(*file);
        return std::make_shared<const TensorFile>(FileBytes(access, std::move(file)));
    }));
}

// The bytes of a file, and the descriptor of its sealed copy; -1 without one.
py::tuple open_file(const std::string& path, const std::string& mapping, const py::object& open) {
    PythonFiles files(open);
    const FileAccess access = files.access(mapping, 1);
    const auto bytes = files.run("DataError", [&] { return std::make_shared<const FileBytes>(access, path); });
    const int descriptor = bytes->sealed() == nullptr ? -1 : bytes->sealed()->descriptor();
    const auto length = static_cast<std::int64_t>(bytes->size());
    return py::make_tuple(view(py::dtype("u1"), {length}, bytes->data(), bytes), descriptor);
}

}  // namespace

void bind_bundle(py::module_& module) {
    module.def("open_bundle", open_bundle, py::arg("folder"), py::arg("verify"), py::arg("mapping"), py::arg("threads"),
               py::arg("open"));
    module.def("map_tensors", map_tensors, py::arg("path"), py::arg("mapping"), py::arg("open"));
    module.def("open_file", open_file, py::arg("path"), py::arg("mapping"), py::arg("open"));
}

}  // namespace mtaw
