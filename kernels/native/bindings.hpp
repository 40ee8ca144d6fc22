// The Python faces of the native kernels, one function a kernel; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace mtaw {

void bind_adam(pybind11::module_& module);
void bind_bundle(pybind11::module_& module);
void bind_co_clicked(pybind11::module_& module);
void bind_encode(pybind11::module_& module);
void bind_rank(pybind11::module_& module);
void bind_ids(pybind11::module_& module);
void bind_isa(pybind11::module_& module);
void bind_keys(pybind11::module_& module);
void bind_loss(pybind11::module_& module);
void bind_memory_delta(pybind11::module_& module);
void bind_memory_query(pybind11::module_& module);
void bind_memory_tables(pybind11::module_& module);
void bind_pack(pybind11::module_& module);
void bind_records(pybind11::module_& module);
void bind_rerank(pybind11::module_& module);
void bind_rules(pybind11::module_& module);
void bind_scan(pybind11::module_& module);
void bind_trends(pybind11::module_& module);

}  // namespace mtaw
