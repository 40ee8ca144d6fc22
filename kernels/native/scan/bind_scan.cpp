// Checks shapes and types, releases the GIL, calls the scanner.
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
#include "python_objects.hpp"
#include "scan/kernel.hpp"
#include "scan/read.hpp"
#include "scan/scanner.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

Isa isa_of(const std::optional<std::string>& name) { return name ? isa_named(name->c_str()) : active_isa(); }

// uint8[n_blocks, lines, 64] that starts on a cache line: numpy aligns to 16 bytes alone.
py::array_t<std::uint8_t> aligned_blocks(std::int64_t n_blocks, std::int64_t lines) {
    const py::array_t<std::uint8_t> memory(static_cast<py::ssize_t>((n_blocks * lines + 1) * kLineBytes));
    auto* data = const_cast<std::uint8_t*>(memory.data());
    data += (kLineBytes - static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(data) % kLineBytes)) % kLineBytes;
    const auto length = [](std::int64_t extent) { return static_cast<py::ssize_t>(extent); };
    return py::array_t<std::uint8_t>({length(n_blocks), length(lines), length(kLineBytes)}, data, memory);
}

const std::uint8_t* block_data(const py::array& blocks, const char* name, std::int64_t n_blocks, std::int64_t lines) {
    const std::uint8_t* data = checked_data<std::uint8_t>(blocks, 3, name, "uint8");
    if (blocks.shape(0) != n_blocks || blocks.shape(1) != lines || blocks.shape(2) != kLineBytes) {
        throw py::value_error(std::string(name) + " must be uint8[" + std::to_string(n_blocks) + ", " +
                              std::to_string(lines) + ", 64] for this catalog; quantize it again");
    }
    return data;
}

void check_dims(std::int64_t d) {
    if (d < 1 || d > kMaxScanDims) {
        throw py::value_error("the scanner takes vectors of 1 to " + std::to_string(kMaxScanDims) +
                              " dimensions, not " + std::to_string(d));
    }
}

py::tuple quantize(const py::array& catalog) {
    const float* rows = matrix<float>(catalog, "catalog", "float32");
    const std::int64_t n_items = catalog.shape(0), d = catalog.shape(1);
    check_dims(d);
    py::array_t<std::uint8_t> blocks = aligned_blocks(block_count(n_items), code_lines(d) + 1);
    std::uint8_t* data = blocks.mutable_data();
    ScanSummary summary;
    {
        const Unlocked unlocked;
        summary = quantize_catalog(rows, n_items, d, data);
    }
    return py::make_tuple(blocks, summary.exponent, summary.largest_norm, summary.largest_residual);
}

py::tuple nested_of(const py::array& catalog) {
    const float* rows = matrix<float>(catalog, "catalog", "float32");
    const std::int64_t n_items = catalog.shape(0), d = catalog.shape(1);
    check_dims(d);
    py::array_t<std::uint8_t> half_blocks = aligned_blocks(block_count(n_items), half_lines(d) + 1);
    py::array_t<std::uint8_t> low_blocks = aligned_blocks(block_count(n_items), half_lines(d) + 1);
    std::uint8_t *half_data = half_blocks.mutable_data(), *low_data = low_blocks.mutable_data();
    ScanSummary summary;
    {
        const Unlocked unlocked;
        summary = quantize_nested(rows, n_items, d, half_data, low_data);
    }
    return py::make_tuple(half_blocks, low_blocks, summary.exponent, summary.largest_norm, summary.largest_residual);
}

py::tuple nest(const py::array& blocks, std::int64_t d, double largest_residual) {
    check_dims(d);
    const std::int64_t n_blocks = blocks.ndim() == 3 ? blocks.shape(0) : 0;
    const std::uint8_t* data = block_data(blocks, "blocks", n_blocks, code_lines(d) + 1);
    py::array_t<std::uint8_t> half_blocks = aligned_blocks(n_blocks, half_lines(d) + 1);
    py::array_t<std::uint8_t> low_blocks = aligned_blocks(n_blocks, half_lines(d) + 1);
    std::uint8_t *half_data = half_blocks.mutable_data(), *low_data = low_blocks.mutable_data();
    ScanSummary summary{0, 0, largest_residual};
    {
        const Unlocked unlocked;
        nest_codes(data, n_blocks, d, half_data, low_data, &summary);
    }
    return py::make_tuple(half_blocks, low_blocks, summary.largest_residual);
}

py::array join(const py::array& half_blocks, const py::array& low_blocks, std::int64_t d) {
    check_dims(d);
    const std::int64_t n_blocks = half_blocks.ndim() == 3 ? half_blocks.shape(0) : 0;
    const std::uint8_t* half_data = block_data(half_blocks, "half_blocks", n_blocks, half_lines(d) + 1);
    const std::uint8_t* low_data = block_data(low_blocks, "low_blocks", n_blocks, half_lines(d) + 1);
    py::array_t<std::uint8_t> blocks = aligned_blocks(n_blocks, code_lines(d) + 1);
    std::uint8_t* data = blocks.mutable_data();
    {
        const Unlocked unlocked;
        scan_kernels(active_isa()).join(half_data, low_data, n_blocks, d, data);
    }
    return blocks;
}

py::tuple requantize(const py::array& catalog, const py::array& old_catalog, const py::array& old_blocks,
                     const ScanSummary& old_summary) {
    const float* rows = matrix<float>(catalog, "catalog", "float32");
    const float* old_rows = matrix<float>(old_catalog, "old_catalog", "float32");
    const std::int64_t n_items = catalog.shape(0), d = catalog.shape(1), n_old = old_catalog.shape(0);
    if (old_catalog.shape(1) != d) throw py::value_error("the two catalogs differ in dimensions");
    const QuantizedRows previous{
        old_rows, n_old, block_data(old_blocks, "old_blocks", block_count(n_old), code_lines(d) + 1), old_summary};
    py::array_t<std::uint8_t> blocks = aligned_blocks(block_count(n_items), code_lines(d) + 1);
    std::uint8_t* data = blocks.mutable_data();
    ScanSummary summary;
    {
        const Unlocked unlocked;
        summary = requantize_catalog(rows, n_items, d, previous, data);
    }
    return py::make_tuple(blocks, summary.exponent, summary.largest_norm, summary.largest_residual);
}

// Holds the arrays that the scanner reads.
class ScannerObject {
   public:
    ScannerObject(const py::array& catalog, const std::optional<py::array>& blocks,
                  const std::optional<py::array>& half_blocks, const std::optional<py::array>& low_blocks,
                  const ScanSummary& summary, const std::optional<std::string>& isa)
        : catalog_(catalog),
          blocks_(blocks),
          half_blocks_(half_blocks),
          low_blocks_(low_blocks),
          scanner_(view(summary), isa_of(isa)) {}

    const Scanner& scanner() const { return scanner_; }

    py::tuple search(const py::array& queries, std::int64_t k, double scale, const std::optional<py::array>& allowed,
                     const std::optional<py::array>& excluded, const std::optional<py::array>& offsets) const {
        const ScanCatalog& catalog = scanner_.catalog();
        ScanRequest request{matrix<float>(queries, "queries", "float32"), queries.shape(0), k, scale};
        if (queries.shape(1) != catalog.d) {
            throw py::value_error("queries have " + std::to_string(queries.shape(1)) + " dimensions, the catalog " +
                                  std::to_string(catalog.d));
        }
        if (k < 1) throw py::value_error("k must be at least 1, not " + std::to_string(k));
        if (allowed) {
            request.allowed = checked_data<std::uint8_t>(*allowed, 1, "allowed", "uint8");
            if (allowed->shape(0) != (catalog.n_items + 7) / 8) {
                throw py::value_error("allowed has " + std::to_string(allowed->shape(0)) + " bytes, a catalog of " +
                                      std::to_string(catalog.n_items) + " items takes " +
                                      std::to_string((catalog.n_items + 7) / 8));
            }
        }
        if (excluded.has_value() != offsets.has_value()) {
            throw py::value_error("excluded and excluded_offsets go together; pass both or none");
        }
        if (excluded) {
            request.excluded = checked_data<std::int32_t>(*excluded, 1, "excluded", "int32");
            request.excluded_offsets = checked_data<std::int64_t>(*offsets, 1, "excluded_offsets", "int64");
            check_lists(request, excluded->shape(0), offsets->shape(0));
        }
        py::array_t<std::int32_t> ids({request.n_queries, k});
        py::array_t<float> scores({request.n_queries, k});
        std::int32_t* id_data = ids.mutable_data();
        float* score_data = scores.mutable_data();
        {
            const Unlocked unlocked;
            thread_local ScanScratch scratch;
            scanner_.search(request, id_data, score_data, scratch);
        }
        return py::make_tuple(ids, scores);
    }

   private:
    ScanCatalog view(const ScanSummary& summary) const {
        const float* rows = matrix<float>(catalog_, "catalog", "float32");
        const std::int64_t n_items = catalog_.shape(0), d = catalog_.shape(1), n_blocks = block_count(n_items);
        ScanCatalog catalog{rows, nullptr, n_items, d, summary};
        if (blocks_) {
            catalog.blocks = block_data(*blocks_, "blocks", n_blocks, code_lines(d) + 1);
        } else if (half_blocks_ && low_blocks_) {
            catalog.half_blocks = block_data(*half_blocks_, "half_blocks", n_blocks, half_lines(d) + 1);
            catalog.low_blocks = block_data(*low_blocks_, "low_blocks", n_blocks, half_lines(d) + 1);
        } else {
            throw py::value_error("a scanner takes blocks, or half_blocks and low_blocks");
        }
        return catalog;
    }

    static void check_lists(const ScanRequest& request, std::int64_t n_ids, std::int64_t n_offsets) {
        const std::int64_t* offsets = request.excluded_offsets;
        if (n_offsets != request.n_queries + 1 || offsets[0] != 0 || offsets[request.n_queries] != n_ids) {
            throw py::value_error("excluded_offsets must run from 0 to the number of excluded ids in " +
                                  std::to_string(request.n_queries + 1) + " steps");
        }
        for (std::int64_t b = 0; b < request.n_queries; ++b) {
            if (offsets[b + 1] < offsets[b] || offsets[b + 1] > n_ids) {
                throw py::value_error("excluded_offsets fall at query " + std::to_string(b));
            }
            for (std::int64_t i = offsets[b] + 1; i < offsets[b + 1]; ++i) {
                if (request.excluded[i] < request.excluded[i - 1]) {
                    throw py::value_error("the excluded ids of query " + std::to_string(b) + " do not ascend");
                }
            }
        }
    }

    py::array catalog_;
    std::optional<py::array> blocks_, half_blocks_, low_blocks_;
    Scanner scanner_;
};

std::uint64_t read_all(const py::array& array, const std::optional<std::string>& isa) {
    if ((array.flags() & py::array::c_style) == 0) throw py::value_error("the array must be C-contiguous");
    const auto* data = static_cast<const std::uint8_t*>(array.data());
    const Isa level = isa_of(isa);
    const Unlocked unlocked;
    return read_bytes(data, array.nbytes(), level);
}

}  // namespace

const Scanner& scanner_of(py::handle object) { return py::cast<const ScannerObject&>(object).scanner(); }

void bind_scan(py::module_& module) {
    module.def("scan_quantize", &quantize, py::arg("catalog"), "See mtaw_fast.kernels.native.scan.quantize.");
    module.def("scan_quantize_nested", &nested_of, py::arg("catalog"), "See mtaw_fast.kernels.native.scan.quantize.");
    module.def("scan_nest", &nest, py::arg("blocks"), py::arg("d"), py::arg("largest_residual"),
               "See mtaw_fast.kernels.native.scan.nested.");
    module.def("scan_join", &join, py::arg("half_blocks"), py::arg("low_blocks"), py::arg("d"),
               "See mtaw_fast.kernels.native.scan.whole.");
    module.def(
        "scan_requantize",
        [](const py::array& catalog, const py::array& old_catalog, const py::array& old_blocks, std::int64_t exponent,
           double largest_norm, double largest_residual) {
            return requantize(catalog, old_catalog, old_blocks, {exponent, largest_norm, largest_residual});
        },
        py::arg("catalog"), py::arg("old_catalog"), py::arg("old_blocks"), py::arg("exponent"), py::arg("largest_norm"),
        py::arg("largest_residual"), "See mtaw_fast.kernels.native.scan.requantize.");
    module.def("read_bytes", &read_all, py::arg("array"), py::arg("isa") = py::none(),
               "See mtaw_fast.kernels.native.scan.read_bytes.");
    py::class_<ScannerObject>(module, "Scanner", "See mtaw_fast.kernels.native.scan.Scanner.")
        .def(py::init([](const py::array& catalog, const std::optional<py::array>& blocks,
                         const std::optional<py::array>& half_blocks, const std::optional<py::array>& low_blocks,
                         std::int64_t exponent, double largest_norm, double largest_residual,
                         const std::optional<std::string>& isa) {
                 const ScanSummary summary{exponent, largest_norm, largest_residual};
                 return std::make_unique<ScannerObject>(catalog, blocks, half_blocks, low_blocks, summary, isa);
             }),
             py::arg("catalog"), py::arg("blocks"), py::arg("half_blocks"), py::arg("low_blocks"), py::arg("exponent"),
             py::arg("largest_norm"), py::arg("largest_residual"), py::arg("isa") = py::none())
        .def("search", &ScannerObject::search, py::arg("queries"), py::arg("k"), py::arg("scale"),
             py::arg("allowed") = py::none(), py::arg("excluded") = py::none(),
             py::arg("excluded_offsets") = py::none());
}

}  // namespace mtaw
