// The extension module: every kernel has a binding file of its own.
#include "bindings.hpp"

PYBIND11_MODULE(_native, module) {
    module.doc() = "Native kernels of mtaw_fast.";
    mtaw::bind_adam(module);
    mtaw::bind_bundle(module);
    mtaw::bind_co_clicked(module);
    mtaw::bind_encode(module);
    mtaw::bind_rank(module);
    mtaw::bind_ids(module);
    mtaw::bind_isa(module);
    mtaw::bind_keys(module);
    mtaw::bind_loss(module);
    mtaw::bind_memory_delta(module);
    mtaw::bind_memory_query(module);
    mtaw::bind_memory_tables(module);
    mtaw::bind_pack(module);
    mtaw::bind_records(module);
    mtaw::bind_rerank(module);
    mtaw::bind_rules(module);
    mtaw::bind_scan(module);
    mtaw::bind_trends(module);
}
