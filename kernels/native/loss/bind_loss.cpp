// Checks shapes and types, releases the GIL, calls the kernel.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "bindings.hpp"
#include "buffers.hpp"
#include "isa.hpp"
#include "loss/aw_loss.hpp"
#include "loss/block.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

LossFormat format_named(const std::string& name) {
    if (name == "float32") return LossFormat::float32;
    if (name == "bfloat16") return LossFormat::bfloat16;
    throw py::value_error("compute must be 'float32' or 'bfloat16', not '" + name + "'");
}

Isa isa_or_active(const std::optional<std::string>& name) { return name ? isa_named(name->c_str()) : active_isa(); }

// The array's data to write to, after checks; null if there is no array.
float* out_data(const std::optional<py::array>& array, int rank, const char* name, std::int64_t rows, std::int64_t d) {
    if (!array) return nullptr;
    const float* data = checked_data<float>(*array, rank, name, "float32");
    if (!array->writeable()) throw py::value_error(std::string(name) + " must be writeable");
    if (array->shape(0) != rows || (rank == 2 && array->shape(1) != d)) {
        throw py::value_error(std::string(name) + " must have the shape of its input");
    }
    return const_cast<float*>(data);
}

void loss(const py::array& queries, const py::array& items, const py::array& targets, const py::array& row_weights,
          double scale, double gamma, const py::array& out_loss, const std::optional<py::array>& d_queries,
          const std::optional<py::array>& d_items, const std::string& compute, int threads,
          const std::optional<std::string>& isa, bool negatives, const std::optional<py::array>& item_weights) {
    LossArguments arguments{};
    arguments.queries = matrix<float>(queries, "queries", "float32");
    arguments.items = matrix<float>(items, "items", "float32");
    arguments.n_rows = queries.shape(0);
    arguments.n_items = items.shape(0);
    arguments.d = queries.shape(1);
    if (arguments.d != items.shape(1)) {
        throw py::value_error("queries have " + std::to_string(arguments.d) + " dimensions, the items " +
                              std::to_string(items.shape(1)));
    }
    if (arguments.d < 1) throw py::value_error("queries must have at least one dimension");
    arguments.targets = checked_data<std::int64_t>(targets, 1, "targets", "int64");
    arguments.row_weights = checked_data<float>(row_weights, 1, "row_weights", "float32");
    if (targets.shape(0) != arguments.n_rows || row_weights.shape(0) != arguments.n_rows) {
        throw py::value_error("there are " + std::to_string(arguments.n_rows) + " queries but " +
                              std::to_string(targets.shape(0)) + " targets and " +
                              std::to_string(row_weights.shape(0)) + " row_weights");
    }
    if (item_weights) {
        if (negatives) throw py::value_error("item_weights and negatives exclude each other");
        arguments.item_weights = checked_data<float>(*item_weights, 1, "item_weights", "float32");
        if (item_weights->shape(0) != arguments.n_items) {
            throw py::value_error("there are " + std::to_string(arguments.n_items) + " items but " +
                                  std::to_string(item_weights->shape(0)) + " item_weights");
        }
    }
    if (!(scale > 0.0 && scale <= 40.0)) throw py::value_error("scale must be in (0, 40]");
    if (!(gamma >= 0.0)) throw py::value_error("gamma must be at least 0");
    arguments.scale = scale;
    if (negatives && gamma > kMaxGamma) {
        throw py::value_error("gamma must be at most " + std::to_string(static_cast<int>(kMaxGamma)) +
                              " with negatives");
    }
    arguments.gamma = gamma;
    arguments.negatives = negatives;
    arguments.loss = out_data(out_loss, 1, "loss", arguments.n_rows, 0);
    arguments.d_queries = out_data(d_queries, 2, "d_queries", arguments.n_rows, arguments.d);
    arguments.d_items = out_data(d_items, 2, "d_items", arguments.n_items, arguments.d);
    const LossFormat format = format_named(compute);
    const Isa chosen = isa_or_active(isa);
    const Unlocked unlocked;
    aw_loss(arguments, format, chosen, threads);
}

// An uninitialized matrix in memory that the process keeps. Freeing one and getting the next, as each training step
// does for its gradient, needs no fresh pages.
py::array_t<float> kept_matrix(std::int64_t rows, std::int64_t d) {
    if (rows < 0 || d < 0) throw py::value_error("a matrix cannot have a negative number of rows or columns");
    auto block = std::make_unique<Block>(static_cast<std::size_t>(rows * d) * sizeof(float));
    auto* const data = reinterpret_cast<float*>(block->data());
    const py::capsule owner(block.get(), [](void* held) { delete static_cast<Block*>(held); });
    block.release();  // NOLINT: the capsule's now
    return py::array_t<float>({rows, d}, data, owner);
}

}  // namespace

void bind_loss(py::module_& module) {
    module.def("aw_loss", &loss, py::arg("queries"), py::arg("items"), py::arg("targets"), py::arg("row_weights"),
               py::arg("scale"), py::arg("gamma"), py::arg("loss"), py::arg("d_queries"), py::arg("d_items"),
               py::arg("compute"), py::arg("threads"), py::arg("isa") = py::none(), py::arg("negatives") = false,
               py::arg("item_weights") = py::none(),
               "The AW loss and its gradients; see mtaw_fast.kernels.native.loss.");
    module.def("kept_matrix", &kept_matrix, py::arg("rows"), py::arg("d"),
               "An uninitialized float32 matrix in memory that the process keeps for the next one.");
    module.def("release_kept_blocks", &release_kept_blocks,
               "Give the memory that the loss and kept_matrix keep for the next call back to the system.");
}

}  // namespace mtaw
