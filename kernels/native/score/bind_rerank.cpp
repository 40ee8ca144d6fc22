// Checks shapes and types, releases the GIL, calls the kernel.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "bindings.hpp"
#include "buffers.hpp"
#include "score/rerank.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

py::tuple rerank(const py::array& queries, const py::array& catalog, const py::array& candidates, std::int64_t k,
                 double scale) {
    const float* query_data = matrix<float>(queries, "queries", "float32");
    const float* catalog_data = matrix<float>(catalog, "catalog", "float32");
    const std::int32_t* candidate_data = matrix<std::int32_t>(candidates, "candidates", "int32");
    if (queries.shape(1) != catalog.shape(1)) {
        throw py::value_error("queries have " + std::to_string(queries.shape(1)) + " dimensions, the catalog " +
                              std::to_string(catalog.shape(1)));
    }
    if (queries.shape(0) != candidates.shape(0)) {
        throw py::value_error("there are " + std::to_string(queries.shape(0)) + " queries but candidates for " +
                              std::to_string(candidates.shape(0)));
    }
    if (k < 1) throw py::value_error("k must be at least 1, not " + std::to_string(k));
    const RerankShape shape{queries.shape(0), catalog.shape(0), queries.shape(1), candidates.shape(1), k};
    py::array_t<std::int32_t> ids({shape.n_queries, k});
    py::array_t<float> scores({shape.n_queries, k});
    std::int32_t* id_data = ids.mutable_data();
    float* score_data = scores.mutable_data();
    {
        const Unlocked unlocked;
        rerank_topk(shape, query_data, catalog_data, candidate_data, scale, id_data, score_data);
    }
    return py::make_tuple(ids, scores);
}

}  // namespace

void bind_rerank(py::module_& module) {
    module.def("rerank_topk", &rerank, py::arg("queries"), py::arg("catalog"), py::arg("candidates"), py::arg("k"),
               py::arg("scale"), "Exact scores and order of candidates; see mtaw_fast.kernels.native.rerank_topk.");
}

}  // namespace mtaw
