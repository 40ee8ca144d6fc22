#include "bundle/tensors.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "bundle/failure.hpp"
#include "text/json.hpp"

namespace mtaw {
namespace {

constexpr std::uint64_t kMaxHeader = 1 << 20;
constexpr std::size_t kMaxAxes = 32;

struct DtypeName {
    const char* name;
    Dtype dtype;
    std::int64_t size;
};

constexpr DtypeName kDtypes[] = {{"F64", Dtype::f64, 8}, {"F32", Dtype::f32, 4}, {"F16", Dtype::f16, 2},
                                 {"I64", Dtype::i64, 8}, {"I32", Dtype::i32, 4}, {"I16", Dtype::i16, 2},
                                 {"I8", Dtype::i8, 1},   {"U64", Dtype::u64, 8}, {"U32", Dtype::u32, 4},
                                 {"U16", Dtype::u16, 2}, {"U8", Dtype::u8, 1},   {"BOOL", Dtype::boolean, 1}};

[[noreturn]] void broken(const std::string& path, const std::string& why) {
    throw bundle_error(path + " is not a whole safetensors file (" + why + "); restore it or make it again");
}

using Tensors = std::map<std::string, Tensor, std::less<>>;

// A size or an offset: a whole number that is not negative.
std::int64_t extent(const std::string& path, const Json& value) {
    const std::optional<std::int64_t> found = value.whole();
    if (!found || *found < 0) broken(path, "negative or fractional sizes");
    return *found;
}

// Where the data of a file begins: behind 8 bytes and a header of the length in them.
std::size_t header_length(const std::string& path, const std::uint8_t* begin, std::uint64_t size) {
    if (size < 8) broken(path, "shorter than its header");
    std::uint64_t length = 0;
    std::memcpy(&length, begin, 8);
    if (length > kMaxHeader || length > size - 8) broken(path, "its header extends past its end");
    return static_cast<std::size_t>(length);
}

Tensors tensors_of(const std::string& path, std::string_view text, std::int64_t n_bytes) {
    Json header;
    try {
        header = Json::parse(text);
    } catch (const std::invalid_argument& error) {
        broken(path, error.what());
    }
    if (!header.is(Json::Kind::object)) broken(path, "its header is not an object");
    Tensors tensors;
    std::int64_t last = 0;
    for (const auto& [name, entry] : header.members()) {
        if (name == "__metadata__") continue;
        const Json *const dtype = entry.find("dtype"), *const shape = entry.find("shape"),
                          *const offsets = entry.find("data_offsets");
        if (dtype == nullptr || shape == nullptr || offsets == nullptr || !shape->is(Json::Kind::list) ||
            !offsets->is(Json::Kind::list) || offsets->list().size() != 2) {
            broken(path, "a tensor without type, shape or offsets");
        }
        const auto* const type = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeName& known) {
            return dtype->is(Json::Kind::text) && dtype->text() == known.name;
        });
        if (type == std::end(kDtypes)) broken(path, "a tensor of an unknown type");
        if (shape->list().size() > kMaxAxes) broken(path, "a tensor with too many axes");
        Tensor tensor{type->dtype, {}, 0, tensors.size(), nullptr};
        std::int64_t expected = type->size;
        bool is_empty = false;
        for (const Json& element : shape->list()) {
            tensor.shape.push_back(extent(path, element));
            is_empty |= tensor.shape.back() == 0;
            // The other extents of an empty one, too: numpy multiplies them.
            if (__builtin_mul_overflow(expected, std::max<std::int64_t>(tensor.shape.back(), 1), &expected))
                broken(path, "a tensor extends past the end of the file");
        }
        if (is_empty) expected = 0;
        tensor.begin = extent(path, offsets->list()[0]);
        const std::int64_t end = extent(path, offsets->list()[1]);
        if (end > n_bytes || tensor.begin > end || end - tensor.begin != expected)
            broken(path, "a tensor extends past the end of the file");
        last = std::max(last, end);
        tensors.insert_or_assign(name, std::move(tensor));
    }
    if (last != n_bytes)
        broken(path, with_commas(static_cast<std::uint64_t>(n_bytes - last)) + " bytes more than its header describes");
    return tensors;
}

std::int64_t item_size(Dtype dtype) {
    return std::find_if(std::begin(kDtypes), std::end(kDtypes),
                        [&](const DtypeName& entry) { return entry.dtype == dtype; })
        ->size;
}

// As float32[60, 12]; any extent is "n".
template <typename Shape>
std::string form_of(Dtype dtype, const Shape& shape) {
    constexpr const char* kNames[] = {"float64", "float32", "float16", "int64",  "int32", "int16",
                                      "int8",    "uint64",  "uint32",  "uint16", "uint8", "bool"};
    std::string extents;
    for (const std::int64_t extent : shape)
        extents += (extents.empty() ? "" : ", ") + (extent == kAny ? "n" : std::to_string(extent));
    return kNames[static_cast<int>(dtype)] + ("[" + extents + "]");
}

}  // namespace

std::int64_t Tensor::size() const {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    return count;
}

TensorFile::TensorFile(FileBytes bytes) : bytes_(std::move(bytes)) {
    const std::string& path = bytes_.path();
    const std::string_view all = bytes_.view();
    const std::size_t length = header_length(path, bytes_.data(), all.size());
    tensors_ = tensors_of(path, all.substr(8, length), static_cast<std::int64_t>(all.size() - 8 - length));
    for (auto& [name, tensor] : tensors_) {
        tensor.data = bytes_.data() + 8 + length + tensor.begin;
        // An empty one may be anywhere: nothing of it is read.
        if (tensor.size() > 0 &&
            reinterpret_cast<std::uintptr_t>(tensor.data) % static_cast<std::uintptr_t>(item_size(tensor.dtype)) != 0) {
            broken(path, "a tensor does not begin at a multiple of its item size");
        }
    }
}

void TensorFile::check_length(const OpenFile& file) {
    std::uint8_t begin[8] = {};
    if (file.size() >= 8) file.read(0, begin, 8);
    std::string text(header_length(file.path(), begin, file.size()), '\0');
    file.read(8, text.data(), text.size());
    tensors_of(file.path(), text, static_cast<std::int64_t>(file.size() - 8 - text.size()));
}

void TensorFile::check_names(const std::vector<std::string_view>& names,
                             const std::vector<std::string_view>& optional) const {
    const auto is_in = [](const std::vector<std::string_view>& list, std::string_view name) {
        return std::find(list.begin(), list.end(), name) != list.end();
    };
    bool extended = false;
    for (const auto& [name, tensor] : tensors_) {
        extended |= is_in(optional, name);
        if (!is_in(names, name) && !is_in(optional, name))
            throw bundle_error(bytes_.path() + ": " + shown(name) + " is not an array of this file" + kRetrain);
    }
    for (const auto* const list : {&names, &optional}) {
        for (const std::string_view name : *list) {
            if ((list == &names || extended) && !has(name))
                throw bundle_error(bytes_.path() + ": the array " + shown(name) + " is missing" + kRetrain);
        }
    }
}

std::int64_t TensorFile::length(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end() || found->second.shape.empty()) {
        throw bundle_error(bytes_.path() + ": the array " + shown(name) + " is missing" + kRetrain);
    }
    return found->second.shape.front();
}

std::string_view TensorFile::text(std::string_view name) const {
    const auto* const begin = get<std::uint8_t>(name, {kAny});
    return {reinterpret_cast<const char*>(begin), static_cast<std::size_t>(length(name))};
}

const Tensor& TensorFile::checked(std::string_view name, Dtype dtype, std::initializer_list<std::int64_t> shape) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end())
        throw bundle_error(bytes_.path() + ": the array " + shown(name) + " is missing" + kRetrain);
    const Tensor& tensor = found->second;
    const bool fits = tensor.dtype == dtype && tensor.shape.size() == shape.size() &&
                      std::equal(shape.begin(), shape.end(), tensor.shape.begin(),
                                 [](std::int64_t wanted, std::int64_t has) { return wanted == kAny || wanted == has; });
    if (!fits) {
        throw bundle_error(bytes_.path() + ": the array " + shown(name) + " must be " + form_of(dtype, shape) +
                           ", not " + form_of(tensor.dtype, tensor.shape) + kRetrain);
    }
    return tensor;
}

}  // namespace mtaw
