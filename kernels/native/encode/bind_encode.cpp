// Checks the arrays, keeps them alive, releases the GIL, calls the encoder.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "encode/encoder.hpp"
#include "encode/session.hpp"
#include "isa.hpp"
#include "python_objects.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

EncodeScratch& thread_scratch() {
    thread_local EncodeScratch scratch;
    return scratch;
}

// An encoder together with the arrays it reads on.
struct EncoderObject {
    py::object item_embedding, added_embedding;
    Encoder encoder;
};

// A session together with the encoder it belongs to.
struct SessionObject {
    explicit SessionObject(std::shared_ptr<const EncoderObject> encoder)
        : owner(std::move(encoder)), state(owner->encoder) {}

    std::shared_ptr<const EncoderObject> owner;
    SessionState state;
};

py::array array_of(const py::dict& weights, const char* name) {
    if (!weights.contains(name)) throw py::value_error(std::string("the encoder's weights lack '") + name + "'");
    const py::object found = weights[name];  // never one that is converted here: its data would be gone with it
    if (!py::isinstance<py::array>(found)) throw py::value_error(std::string(name) + " must be an array of numpy");
    return py::reinterpret_borrow<py::array>(found);
}

const float* matrix_of(const py::dict& weights, const char* name, std::int64_t rows, std::int64_t columns) {
    const py::array array = array_of(weights, name);
    const float* data = matrix<float>(array, name, "float32");
    if (array.shape(0) != rows || array.shape(1) != columns) {
        throw py::value_error(std::string(name) + " must be [" + std::to_string(rows) + ", " + std::to_string(columns) +
                              "], not [" + std::to_string(array.shape(0)) + ", " + std::to_string(array.shape(1)) +
                              "]");
    }
    return data;
}

const float* vector_of(const py::dict& weights, const char* name, std::int64_t size) {
    const py::array array = array_of(weights, name);
    const float* data = checked_data<float>(array, 1, name, "float32");
    if (array.shape(0) != size) {
        throw py::value_error(std::string(name) + " must be [" + std::to_string(size) + "], not [" +
                              std::to_string(array.shape(0)) + "]");
    }
    return data;
}

std::shared_ptr<EncoderObject> make_encoder(const py::dict& weights, std::int64_t max_len,
                                            const std::optional<std::string>& isa, double recent, double recent_decay) {
    const py::array items = array_of(weights, "item_embedding");
    const py::array positions = array_of(weights, "position_embedding");
    const float* item_data = matrix<float>(items, "item_embedding", "float32");
    matrix<float>(positions, "position_embedding", "float32");
    const std::int64_t d = items.shape(1);
    py::object added = py::none();
    if (weights.contains("added_embedding")) added = weights["added_embedding"];
    const std::int64_t n_added = added.is_none() ? 0 : array_of(weights, "added_embedding").shape(0);
    const EncoderWeights model{
        .n_items = items.shape(0),
        .d = d,
        .n_positions = positions.shape(0),
        .max_len = max_len,
        .item_embedding = item_data,
        .position_embedding = matrix_of(weights, "position_embedding", positions.shape(0), d),
        .itl_query_weight = matrix_of(weights, "itl_query_weight", d, d),
        .itl_query_bias = vector_of(weights, "itl_query_bias", d),
        .ffn_in_weight = matrix_of(weights, "ffn_in_weight", d, d),
        .ffn_in_bias = vector_of(weights, "ffn_in_bias", d),
        .ffn_out_weight = matrix_of(weights, "ffn_out_weight", d, d),
        .ffn_out_bias = vector_of(weights, "ffn_out_bias", d),
        .norm_weight = vector_of(weights, "norm_weight", d),
        .norm_bias = vector_of(weights, "norm_bias", d),
        .iel_query_weight = matrix_of(weights, "iel_query_weight", d, d),
        .iel_query_bias = vector_of(weights, "iel_query_bias", d),
        .n_added = n_added,
        .added_embedding = n_added == 0 ? nullptr : matrix_of(weights, "added_embedding", n_added, d),
        .recent = recent,
        .recent_decay = recent_decay,
    };
    return std::shared_ptr<EncoderObject>(
        new EncoderObject{items, added, Encoder(model, isa ? isa_named(isa->c_str()) : active_isa())});
}

// The same encoder with M other items behind the bundle's: float32[M, d].
std::shared_ptr<EncoderObject> extended(const EncoderObject& self, const py::array& added) {
    const float* data = matrix<float>(added, "added", "float32");
    if (added.shape(1) != self.encoder.d()) {
        throw py::value_error("added must be [.., " + std::to_string(self.encoder.d()) + "], not [" +
                              std::to_string(added.shape(0)) + ", " + std::to_string(added.shape(1)) + "]");
    }
    return std::shared_ptr<EncoderObject>(
        new EncoderObject{self.item_embedding, added, self.encoder.with_added(data, added.shape(0))});
}

py::array_t<float> encode(const EncoderObject& self, const py::array& items, const py::array& offsets) {
    const std::int32_t* clicks = checked_data<std::int32_t>(items, 1, "items", "int32");
    const std::int64_t* bounds = checked_data<std::int64_t>(offsets, 1, "offsets", "int64");
    const std::int64_t n_sessions = offsets.shape(0) - 1, d = self.encoder.d();
    if (n_sessions < 0 || bounds[0] != 0 || bounds[n_sessions] != items.shape(0)) {
        throw py::value_error("offsets must run from 0 to " + std::to_string(items.shape(0)) + ", the number of items");
    }
    py::array_t<float> vectors({n_sessions, d});
    float* out = vectors.mutable_data();
    {
        const Unlocked unlocked;
        for (std::int64_t b = 0; b < n_sessions; ++b) {
            if (bounds[b + 1] < bounds[b] || bounds[b + 1] > bounds[n_sessions]) {
                throw py::value_error("offsets must not decrease, as they do after session " + std::to_string(b));
            }
            self.encoder.encode(clicks + bounds[b], bounds[b + 1] - bounds[b], out + b * d, thread_scratch());
        }
    }
    return vectors;
}

py::array_t<float> append(SessionObject& self, const py::array& items) {
    const std::int32_t* clicks = checked_data<std::int32_t>(items, 1, "items", "int32");
    py::array_t<float> query(self.owner->encoder.d());
    float* out = query.mutable_data();
    {
        const Unlocked unlocked;
        self.state.append(clicks, items.shape(0), out, thread_scratch());
    }
    return query;
}

py::array_t<float> append_one(SessionObject& self, std::int32_t item) {
    py::array_t<float> query(self.owner->encoder.d());
    float* out = query.mutable_data();
    {
        const Unlocked unlocked;
        self.state.append(&item, 1, out, thread_scratch());
    }
    return query;
}

py::array_t<float> query(SessionObject& self) {
    py::array_t<float> vector(self.owner->encoder.d());
    float* out = vector.mutable_data();
    {
        const Unlocked unlocked;
        self.state.query(out, thread_scratch());
    }
    return vector;
}

py::array_t<std::int32_t> clicks(const SessionObject& self) {
    const std::vector<std::int32_t> window = self.state.clicks();
    return py::array_t<std::int32_t>(static_cast<py::ssize_t>(window.size()), window.data());
}

}  // namespace

const Encoder& encoder_of(py::handle object) { return py::cast<const EncoderObject&>(object).encoder; }

SessionState& session_state_of(py::handle object) { return py::cast<SessionObject&>(object).state; }

void bind_encode(py::module_& module) {
    py::class_<SessionObject>(module, "SessionState", "See mtaw_fast.kernels.native.encoder.SessionState.")
        .def("append", &append, py::arg("items"))
        .def("append_one", &append_one, py::arg("item"))
        .def("query", &query)
        .def_property_readonly("clicks", &clicks)
        .def_property_readonly("n_bytes", [](const SessionObject& self) { return self.state.n_bytes(); });
    py::class_<EncoderObject, std::shared_ptr<EncoderObject>>(module, "Encoder",
                                                              "See mtaw_fast.kernels.native.encoder.")
        .def(py::init(&make_encoder), py::arg("weights"), py::arg("max_len"), py::arg("isa") = py::none(),
             py::arg("recent") = 0.0, py::arg("recent_decay") = 0.0)
        .def("encode", &encode, py::arg("items"), py::arg("offsets"))
        .def("extended", &extended, py::arg("added"))
        .def("session",
             [](const std::shared_ptr<EncoderObject>& self) { return std::make_unique<SessionObject>(self); });
}

}  // namespace mtaw
